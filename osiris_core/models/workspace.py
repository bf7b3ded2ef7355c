"""A model's workspace as what travels with a run, and what comes back into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cloning import clone_or_link
from osiris_core.drivers.command_changes import OURS
from osiris_core.drivers.command_workspace import CHANGES_EVENT, KEPT_FOLDER
from osiris_core.errors import CollectError, PreparationError, Problem
from osiris_core.journal import read_events
from osiris_core.paths import stays_inside
from osiris_core.secrets import escape
from osiris_core.session import SessionLayout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from osiris_core.models.result import ModelArtifact
    from osiris_core.report import RunReport


def tree_of(workspace: Path) -> dict[str, Any]:
    """
    The `files`, `folders` and `links` of a `command` step that starts with a copy of `workspace`.

    A link that stays inside travels as a link, as it comes home; one that leads out to a file, as that file.

    Raises:
        PreparationError: It holds what cannot travel: links to folders elsewhere, pipes, sockets, devices.
    """
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    problems: list[Problem] = []
    for entry, name in _entries(workspace):
        if entry.is_dir(follow_symlinks=False):
            folders.append(escape(name))
        elif entry.is_symlink() and _stays_inside(workspace, name, target := os.readlink(entry.path)):  # noqa: PTH115
            links[name] = escape(target)
        elif entry.is_file():
            files[name] = escape(entry.path)
        elif entry.is_symlink():
            hint = "copy what it leads to, or mount it"
            message = f"{name} is a link that leads out of the workspace, and not to a file"
            problems.append(Problem(message, key="workspace", hint=hint))
        else:
            problems.append(Problem(f"{name} is no file or folder, and cannot travel", key="workspace"))
    if problems:
        raise PreparationError(problems)
    return {"files": files, "folders": folders, "links": links}


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[os.DirEntry[str], str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            if name == OURS:
                continue
            yield entry, name
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path), f"{name}/")


def bring_into_workspace(report: RunReport, workspace: Path, artifacts: Iterable[ModelArtifact]) -> None:
    """
    The workspace is as the command left its copy: files that it made or changed are there, what it removed is not.

    Each file is moved in as a whole. Raises CollectError when one cannot be.
    """
    kept = Path(report.session_dir) / "artifacts" / "run" / KEPT_FOLDER
    links: dict[str, str] = {}
    try:
        for event in read_events(SessionLayout(Path(report.session_dir)).events_file):
            if (
                event["event"] == "step.event"
                and event["name"] == CHANGES_EVENT
                and event["attempt"] == report["attempt"]
            ):
                _take_away(workspace, event["data"]["removed"])
                for name in event["data"]["folders"]:
                    _inside(workspace, name).mkdir(parents=True, exist_ok=True)
                links = event["data"]["links"]
        for artifact in artifacts:
            if artifact.path not in links:
                _move_in(kept / artifact.path, _inside(workspace, artifact.path))
        for name, target in links.items():
            _link(_inside(workspace, name), target, workspace)
    except OSError as exc:
        raise CollectError(f"what the run left cannot be put into {workspace}: {exc}") from exc


def _link(link: Path, target: str, workspace: Path) -> None:
    """A link that stays inside is made again; where another leads is nothing that came home."""
    if not _stays_inside(workspace, link.relative_to(workspace).as_posix(), target):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _stays_inside(workspace: Path, name: str, target: str) -> bool:
    """Whether a link of this name leads to something in the workspace, by what it says and where it ends."""
    if not stays_inside(name, target):
        return False
    return (workspace / name).parent.joinpath(target).resolve().is_relative_to(workspace.resolve())


def _move_in(source: Path, target: Path) -> None:
    beside = target.with_name(f".osiris-{os.getpid()}")  # a name may be as long as a name can be
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_symlink():
            beside.symlink_to(os.readlink(source))  # noqa: PTH115 - as it is, never resolved
        else:
            clone_or_link(source, beside)  # what is at work in the workspace is not to change the artifact
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _take_away(workspace: Path, names: Iterable[str]) -> None:
    for name in sorted(names, reverse=True):  # what is in a folder before the folder
        path = _inside(workspace, name)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):  # somebody else may have put something there meanwhile
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _inside(workspace: Path, name: str) -> Path:
    path = workspace / name
    if ".." in Path(name).parts or not path.parent.resolve().is_relative_to(workspace.resolve()):
        raise CollectError(f"{name!r} leads out of the workspace")
    return path
