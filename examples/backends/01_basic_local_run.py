"""
The simplest model run: a command on this machine, then a look at what it left.

    python 01_basic_local_run.py
"""

from osiris_core.backends import LocalConfig
from osiris_core.models.model_run import ModelRun


def main() -> int:
    model = ModelRun(run_id="basic-local", output_dir="./output")
    config = LocalConfig(timeout=60, command="echo 'Running the model' && date > outputs/finished.txt")

    if not model.run(backend=config):
        print(f"The model failed: {model.last_result.error}")
        return 1
    print(f"The model ran in {model.last_result.timings['wall_ms']:.0f} ms")

    # The same, by name: model.run(backend="local", command="...", timeout=60)
    results = model.postprocess(processor="noop")
    print(f"Postprocessing: {results['message']}")
    return 0 if results["success"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
