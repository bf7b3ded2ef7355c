"""
A model in a container: an image, a folder of data mounted read-only, variables, limits that are enforced.

    python 02_docker_run.py [IMAGE]        an image with /bin/sh; python:3.12-slim without it
"""

import sys
import tempfile
from pathlib import Path

from osiris_core.backends import DockerConfig
from osiris_core.models.model_run import ModelRun


def main() -> int:
    image = sys.argv[1] if len(sys.argv) > 1 else "python:3.12-slim"
    with tempfile.TemporaryDirectory() as data:
        Path(data, "grid.txt").write_text("a grid\n")
        config = DockerConfig(
            image=image,
            executable="sh -c 'echo $MODEL_CONFIG && cp /data/grid.txt outputs/grid-used.txt'",
            cpu=1,
            memory="256m",
            timeout=300,
            volumes=[f"{data}:/data:ro"],
            env_vars={"MODEL_CONFIG": "production"},
        )
        model = ModelRun(run_id="docker", output_dir="./output", expected_outputs=["outputs/grid-used.txt"])
        if not model.run(backend=config):
            # What is missing is said: Docker Engine, the image, more memory, ...
            print(f"The model failed ({model.last_result.failure_class}): {model.last_result.error}")
            return 1
    for artifact in model.last_result.artifacts:
        print(f"{artifact.path}  {artifact.size_bytes} bytes  {artifact.sha256[:12]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
