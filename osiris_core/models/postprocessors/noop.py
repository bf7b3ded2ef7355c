"""The postprocessor that only looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from osiris_core.drivers.command_changes import OURS
from osiris_core.models.subject import check_subject, default_workspace


class NoopPostprocessor:
    """Looks whether there are outputs, and changes nothing."""

    only_looks: ClassVar[bool] = True
    """It starts nothing and changes nothing: it may do so in the caller's process."""

    def process(
        self,
        model_run: Any,
        validate_outputs: bool = True,
        output_dir: str | os.PathLike[str] | None = None,
        workspace: str | os.PathLike[str] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """
        `success`, `message`, `run_id`, `output_dir`, `validated`, and `file_count` where it looked.

        Raises:
            ValueError: `model_run` is None or has no `run_id`.
        """
        check_subject(model_run)
        facts: dict[str, Any] = {"run_id": model_run.run_id}
        try:
            folder = Path(output_dir or workspace or default_workspace(model_run))
            facts["output_dir"] = str(folder)
            if validate_outputs and not folder.is_dir():
                message = f"Output directory not found: {folder}"
                return {"success": False, "message": message, "error": message, "validated": False, **facts}
            if validate_outputs:
                facts["file_count"] = _count(folder)
        except Exception as exc:  # noqa: BLE001 - a result says it
            message = f"Error in postprocessor: {exc}"
            return {"success": False, "message": message, "error": str(exc), "validated": False, **facts}
        message = "No postprocessing requested - validation only"
        return {"success": True, "message": message, "validated": bool(validate_outputs), **facts}


def _count(folder: Path) -> int:
    count = 0
    for _, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if name != OURS]
        count += len(files)
    return count


def _fail(error: OSError) -> None:
    raise error
