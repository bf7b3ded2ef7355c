"""What a model run is brought home by when its controller is dead: it has written down where that is."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.command_workspace import KEPT_FOLDER
from osiris_core.errors import SessionBusy
from osiris_core.models.exclusion import alone_in
from osiris_core.models.result import ModelArtifact
from osiris_core.models.subject import lock_file_of
from osiris_core.models.verdict import Verdict, keep_verdict, look_for_outputs
from osiris_core.models.workspace import bring_into_workspace
from osiris_core.session import SessionLayout, read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from osiris_core.report import RunReport

_KEPT = f"run/{KEPT_FOLDER}/"


def artifacts_of(report: RunReport) -> tuple[ModelArtifact, ...]:
    """What the run made or changed in its workspace."""
    return tuple(
        ModelArtifact(item["path"][len(_KEPT) :], item["size_bytes"], item["sha256"])
        for item in report.artifacts
        if item["path"].startswith(_KEPT)
    )


@contextmanager
def under_way(fd: int, workspace: Path, expected: Iterable[str], *, in_place: bool) -> Iterator[None]:
    """
    While the block runs, the locked file says what the run was asked for, and whether it runs in its workspace.

    It still does when this process dies in the block, and only then.
    """
    asked = {"workspace": str(workspace), "expected_outputs": list(expected), "in_place": in_place}
    forget(fd)
    os.pwrite(fd, json.dumps(asked).encode(), 0)
    try:
        yield
    finally:
        forget(fd)


def forget(fd: int) -> None:
    """Nobody is to bring home what an earlier run left elsewhere: another one begins, or is over."""
    os.ftruncate(fd, 0)


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
            with alone_in(asked["workspace"]):
                _bring_home(SessionLayout(folder), report, asked)
            forget(fd)
    except (BlockingIOError, SessionBusy):
        return
    finally:
        os.close(fd)


def _bring_home(layout: SessionLayout, report: RunReport, asked: dict[str, Any]) -> None:
    workspace = Path(asked["workspace"])
    artifacts = artifacts_of(report)
    if not asked["in_place"]:
        bring_into_workspace(report, workspace, artifacts)
    made = {workspace / artifact.path for artifact in artifacts}
    _, error = look_for_outputs(workspace, asked["expected_outputs"], made)
    if error is not None and report.status == "completed":
        keep_verdict(layout, Verdict(False, error))
