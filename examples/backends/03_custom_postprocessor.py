"""
A postprocessor of your own: any class with `process(model_run, **kwargs)` that returns a dictionary.

    python 03_custom_postprocessor.py
"""

import zipfile
from pathlib import Path

from osiris_core.backends import LocalConfig
from osiris_core.models.model_run import ModelRun


class ZipOutputs:
    """Packs a model's folder into a zip file beside it."""

    def process(self, model_run, **kwargs):
        folder = Path(model_run.output_dir) / model_run.run_id
        if not folder.is_dir():
            return {"success": False, "message": f"Output directory not found: {folder}"}
        target = folder.with_suffix(".zip")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with zipfile.ZipFile(target, "w", compression=zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, path.relative_to(folder))
        return {"success": True, "message": f"Zipped {len(files)} files", "zip_file": str(target)}


def main() -> int:
    model = ModelRun(run_id="custom-postprocessor", output_dir="./output")
    if not model.run(backend=LocalConfig(command="echo 'model output' > outputs/result.txt", timeout=60)):
        print(f"The model failed: {model.last_result.error}")
        return 1
    results = model.postprocess(processor=ZipOutputs)
    print(results["message"])
    print(results["zip_file"])
    return 0 if results["success"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
