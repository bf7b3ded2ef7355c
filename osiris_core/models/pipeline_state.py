"""Which stages of a pipeline succeeded before and still hold, told by what they were asked and what they left."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from osiris_core.models.description import NotDescribable, described, digest_of
from osiris_core.models.subject import session_dir
from osiris_core.session import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATE_NAME = "stages.json"


def asked_for(*things: Any) -> Any:
    """What a stage is asked for, as far as it can be told exactly; None: the stage is done again each time."""
    try:
        return described(*things)
    except NotDescribable:
        return None


class PipelineState:
    """
    The stages of one model run that succeeded, kept beside its sessions.

    A stage holds when it and all before it are asked for as they were, and the files that it left are there in their
    sizes; inputs also untouched since the run, which may change them. `force` lets nothing hold.
    """

    def __init__(self, model_run: Any, *, force: bool) -> None:
        self._path = session_dir(model_run, "pipeline") / STATE_NAME
        self._before: dict[str, Any] = {} if force else (read_json(self._path) or {})
        self._salt = str(self._before.get("salt") or token_hex(16))
        self._now: dict[str, Any] = {"salt": self._salt}
        self._key: str | None = ""

    def enter(self, stage: str, asked: Any, *, holds: bool = True) -> Mapping[str, Any] | None:
        """What `stage` gave when it was asked the same before, if that still holds; None: it is to be done."""
        known = self._key is not None and asked is not None
        self._key = digest_of([self._key, stage, asked], self._salt) if known else None
        found = self._before.get(stage)
        if (
            not holds
            or self._key is None
            or not isinstance(found, dict)
            or found.get("key") != self._key
            or not _are_there(found.get("files", []))
        ):
            self._before = {}  # what comes after it does not hold either
            return None
        self._now[stage] = found
        facts: Mapping[str, Any] = found["facts"]
        return facts

    def said_of(self, stage: str) -> Mapping[str, Any]:
        """What a stage gave before, whether that holds or not."""
        found = self._before.get(stage)
        return found.get("facts") or {} if isinstance(found, dict) else {}

    def succeeded(
        self, stage: str, facts: Mapping[str, Any], files: Iterable[Path] = (), inputs: Iterable[Path] = ()
    ) -> None:
        """Keep what the stage that was entered last gave. What JSON cannot hold is not kept, and done again."""
        left = [[str(path), *_state_of(path)[:1]] for path in files]
        left += [[str(path), *_state_of(path)] for path in inputs]
        self._now[stage] = {"key": self._key, "facts": dict(facts), "files": left}
        self._write()

    def has_run(self) -> None:
        """Inputs are from now on as the run has left them; those that it took away are not missed later."""
        files = self._now["generate"]["files"]
        files[:] = [
            [place, *(_state_of(Path(place)) if known else [size])]
            for place, size, *known in files
            if not known or Path(place).exists()
        ]

    def failed(self) -> None:
        """Nothing from the stage that was entered last on holds any more."""
        self._write()

    def _write(self) -> None:
        with suppress(OSError, TypeError, ValueError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(self._path, self._now)


def folder_digest(folder: Path) -> list[list[Any]]:
    """The files of a template by name, size and time."""
    return [
        [path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (status := path.stat())
    ]


def change_times(folder: Path) -> dict[Path, int]:
    """When each file in a folder was last made or changed."""
    return {path: path.stat().st_ctime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def named_files(result: Any) -> list[Path]:
    """Files and folders that a result names by an absolute path: an archive, a report."""
    if isinstance(result, str):
        found = Path(result) if result.startswith("/") and "\0" not in result else None
        return [found] if found is not None and os.path.exists(found) else []  # noqa: PTH110 - False for odd names
    items = result.values() if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else ()
    return [path for item in items for path in named_files(item)]


def _state_of(path: Path) -> list[int | None]:
    """Size and time of a file; -1 for a folder, None for what is not there."""
    try:
        status = path.stat()
    except OSError:
        return [None, None]
    return [-1, None] if stat.S_ISDIR(status.st_mode) else [status.st_size, status.st_mtime_ns]


def _are_there(files: Iterable[Sequence[Any]]) -> bool:
    return all(_state_of(Path(place))[: len(state)] == state and state[0] is not None for place, *state in files)
