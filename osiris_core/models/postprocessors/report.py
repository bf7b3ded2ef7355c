"""The postprocessor that lists what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.models.postprocessors.files import workspace_files
from osiris_core.models.result import ModelArtifact
from osiris_core.models.subject import check_subject, default_workspace
from osiris_core.sealing import sha256_of
from osiris_core.session import write_json

if TYPE_CHECKING:
    import os


class ReportPostprocessor:
    """Lists every file of the workspace with size, time and sha256."""

    def process(
        self,
        model_run: Any,
        report: str | os.PathLike[str] | None = None,
        checksums: bool = True,
        workspace: str | os.PathLike[str] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """`files` (`path`, `size_bytes`, `modified_at`, `type`, `sha256`), `file_count`, `total_bytes`, `report`."""
        check_subject(model_run)
        folder = Path(workspace or default_workspace(model_run))
        if not folder.is_dir():
            message = f"Output directory not found: {folder}"
            return {"success": False, "message": message, "error": message, "run_id": model_run.run_id}
        files = [_described(folder, name, checksums) for name in workspace_files(folder)]
        total_bytes = sum(item["size_bytes"] for item in files)
        found = {
            "success": True,
            "message": f"{len(files)} files, {total_bytes} bytes",
            "run_id": model_run.run_id,
            "output_dir": str(folder),
            "file_count": len(files),
            "total_bytes": total_bytes,
            "files": files,
            "report": None if report is None else str(Path(report).absolute()),
        }
        if report is not None:
            Path(report).parent.mkdir(parents=True, exist_ok=True)
            write_json(Path(report), found)
        return found


def _described(folder: Path, name: str, checksums: bool) -> dict[str, Any]:
    path = folder / name
    status = path.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sha256 = sha256_of(path) if checksums else ""
    kind = ModelArtifact(name, status.st_size, sha256).type
    found = {"path": name, "size_bytes": status.st_size, "modified_at": modified, "type": kind}
    return {**found, "sha256": sha256} if checksums else found
