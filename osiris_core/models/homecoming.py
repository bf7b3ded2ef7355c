"""What a model run is brought home by when its controller is dead: it has written down where that is."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.command_workspace import KEPT_FOLDER
from osiris_core.models.result import ModelArtifact
from osiris_core.models.subject import lock_file_of
from osiris_core.models.verdict import Verdict, keep_verdict
from osiris_core.models.workspace import bring_into_workspace, missing_outputs
from osiris_core.session import SessionLayout, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from osiris_core.report import RunReport

_KEPT = f"run/{KEPT_FOLDER}/"


def artifacts_of(report: RunReport) -> tuple[ModelArtifact, ...]:
    """What the run made or changed in its workspace."""
    return tuple(
        ModelArtifact(item["path"][len(_KEPT) :], item["size_bytes"], item["sha256"])
        for item in report.artifacts
        if item["path"].startswith(_KEPT)
    )


def write_under_way(fd: int, workspace: Path, expected: Iterable[str], *, in_place: bool) -> None:
    """Say in the locked file what a run that begins now will be asked for, and whether it runs in its workspace."""
    asked = {"workspace": str(workspace), "expected_outputs": list(expected), "in_place": in_place}
    os.write(fd, json.dumps(asked).encode())


def bring_home(session_dir: str | Path, report: RunReport) -> None:
    """
    Do for a run that somebody attached to what its controller would have done: its files come into its workspace, and
    it has failed without those that were expected.

    Does nothing for what is no model run, or was brought home before, or while another run has the workspace.

    Raises:
        CollectError: They cannot be put there.
    """
    folder = Path(session_dir).absolute()
    path = lock_file_of(folder)
    if not path.exists():
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (asked := read_json(path)) is not None:
            _bring_home(SessionLayout(folder), report, asked)
            os.truncate(fd, 0)
    except BlockingIOError:
        return
    finally:
        os.close(fd)


def _bring_home(layout: SessionLayout, report: RunReport, asked: dict[str, Any]) -> None:
    workspace = Path(asked["workspace"])
    artifacts = artifacts_of(report)
    if not asked["in_place"]:
        bring_into_workspace(report, workspace, artifacts)
    made = {workspace / artifact.path for artifact in artifacts}
    missing = missing_outputs(workspace, asked["expected_outputs"], made.__contains__)
    if missing and report.status == "completed":
        keep_verdict(layout, Verdict(False, f"the run succeeded but did not leave {', '.join(missing)}"))
