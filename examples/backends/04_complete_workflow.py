"""
A whole workflow: inputs from templates, a run, an analysis of what it left, with logging and errors.

    python 04_complete_workflow.py
"""

import logging
import tempfile
from pathlib import Path

from osiris_core.backends import LocalConfig
from osiris_core.models.model_run import ModelRun

log = logging.getLogger("workflow")

TEMPLATE = """\
hours = {{ hours }}
grid = {{ grid }}
"""
MODEL = """\
while read -r name _ value; do [ "$name" = hours ] && hours=$value; done < INPUT
hour=0
while [ "$hour" -lt "$hours" ]; do echo "$hour,$((hour * hour % 7))"; hour=$((hour + 1)); done > outputs/levels.csv
"""


class FileInventory:
    """Says what a model run left: every file with its size, and how many there are of each kind."""

    def process(self, model_run, **kwargs):
        folder = Path(model_run.output_dir) / model_run.run_id
        files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        kinds: dict[str, int] = {}
        for name in files:
            kinds[Path(name).suffix or "none"] = kinds.get(Path(name).suffix or "none", 0) + 1
        return {"success": bool(files), "message": f"{len(files)} files", "files": files, "kinds": kinds}


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with tempfile.TemporaryDirectory() as templates:
        Path(templates, "INPUT").write_text(TEMPLATE)
        model = ModelRun(
            run_id="workflow",
            output_dir="./output",
            template=templates,
            parameters={"hours": 24, "grid": "coarse"},
            delete_existing=True,
            expected_outputs=["outputs/levels.csv"],
        )
        config = LocalConfig(command=MODEL, timeout=120, env_vars={"OMP_NUM_THREADS": "4"})
        try:
            success = model.run(backend=config)
        except TimeoutError as exc:
            log.error("the model took too long: %s", exc)
            return 1
    if not success:
        result = model.last_result
        log.error("phase %s, exit code %s: %s", result.phase, result.return_code, result.error)
        return 1

    results = model.postprocess(processor=FileInventory)
    if not results["success"]:
        log.error("postprocessing failed: %s", results.get("error"))
        return 1
    for name, size_bytes in sorted(results["files"].items()):
        print(f"{name}  {size_bytes} bytes")
    print(f"by kind: {results['kinds']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
