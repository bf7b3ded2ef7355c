"""The postprocessor that packs a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.archive import MANIFEST_NAME, pack_hashed
from osiris_core.models.postprocessors.files import workspace_files
from osiris_core.models.subject import check_subject, default_workspace
from osiris_core.sealing import sha256_of

if TYPE_CHECKING:
    import os


EVERYTHING = ("**/*",)


class ArchivePostprocessor:
    """Packs the workspace into one file, with the sha256 of everything in it."""

    def process(
        self,
        model_run: Any,
        format: str = "tar.gz",  # noqa: A002 - the configuration's own name
        archive: str | os.PathLike[str] | None = None,
        patterns: tuple[str, ...] = EVERYTHING,
        workspace: str | os.PathLike[str] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """`archive`, its `size_bytes` and `sha256`, and `files` with `path`, `size_bytes`, `sha256`."""
        check_subject(model_run)
        folder = Path(workspace or default_workspace(model_run))
        if not folder.is_dir():
            message = f"Output directory not found: {folder}"
            return {"success": False, "message": message, "error": message, "run_id": model_run.run_id}
        target = Path(archive) if archive is not None else folder.with_name(f"{folder.name}.{format}")
        own = target.resolve()
        names = [name for name in workspace_files(folder, patterns) if (folder / name).resolve() != own]
        if not names and tuple(patterns) != EVERYTHING:
            message = f"nothing in {folder} matches {', '.join(patterns)}; nothing was packed"
            return {"success": False, "message": message, "error": message, "run_id": model_run.run_id}
        target.parent.mkdir(parents=True, exist_ok=True)
        packed = pack_hashed(folder, names, target, format)
        files = [{"path": name, "size_bytes": size, "sha256": sha256} for name, size, sha256 in packed]
        return {
            "success": True,
            "message": f"{len(files)} files packed into {target}",
            "run_id": model_run.run_id,
            "output_dir": str(folder),
            "archive": str(target.absolute()),
            "format": format,
            "size_bytes": target.stat().st_size,
            "sha256": sha256_of(target),
            "manifest": MANIFEST_NAME,
            "files": files,
        }
