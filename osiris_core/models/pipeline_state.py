"""Which stages of a pipeline succeeded before and still hold, told by what they were asked and what they left."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from osiris_core.models.subject import session_dir
from osiris_core.redaction import is_secret_field
from osiris_core.session import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STATE_NAME = "stages.json"


class PipelineState:
    """
    The stages of one model run that succeeded, kept beside its sessions.

    A stage holds when it and all before it are asked for as they were, and the files that it left are there in their
    sizes; inputs in any size, since a run may change them. `force` lets nothing hold.
    """

    def __init__(self, model_run: Any, *, force: bool) -> None:
        self._path = session_dir(model_run, "pipeline") / STATE_NAME
        self._before: dict[str, Any] = {} if force else (read_json(self._path) or {})
        self._now: dict[str, Any] = {}
        self._key = ""

    def enter(self, stage: str, asked: Any, *, holds: bool = True) -> Mapping[str, Any] | None:
        """What `stage` gave when it was asked the same before, if that still holds; None: it is to be done."""
        self._key = _digest([self._key, stage, asked])
        found = self._before.get(stage)
        if (
            not holds
            or not isinstance(found, dict)
            or found.get("key") != self._key
            or not _are_there(found.get("files", []))
        ):
            self._before = {}  # what comes after it does not hold either
            return None
        self._now[stage] = found
        facts: Mapping[str, Any] = found["facts"]
        return facts

    def succeeded(
        self, stage: str, facts: Mapping[str, Any], files: Iterable[Path] = (), inputs: Iterable[Path] = ()
    ) -> None:
        """Keep what the stage that was entered last gave. What JSON cannot hold is not kept, and done again."""
        sizes = [[str(path), path.stat().st_size if path.is_file() else -1] for path in files]
        sizes += [[str(path), None] for path in inputs]
        self._now[stage] = {"key": self._key, "facts": dict(facts), "files": sizes}
        self._write()

    def has_run(self) -> None:
        """Inputs that the run itself took away are not missed later."""
        files = self._now["generate"]["files"]
        files[:] = [[place, size] for place, size in files if size is not None or Path(place).exists()]

    def failed(self) -> None:
        """Nothing from the stage that was entered last on holds any more."""
        self._write()

    def _write(self) -> None:
        with suppress(OSError, TypeError, ValueError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(self._path, self._now)


def described(thing: Any) -> Any:
    """What of an object decides what is done with it, as JSON; secret values are left out."""
    if isinstance(thing, BaseModel):
        written = {key: getattr(thing, key) for key in sorted(thing.model_fields_set)}
        return [_name(type(thing)), described({key: value for key, value in written.items() if key != "config"})]
    if isinstance(thing, dict):
        return {
            str(key): "***" if is_secret_field(str(key)) else described(value) for key, value in sorted(thing.items())
        }
    if isinstance(thing, (list, tuple)):
        return [described(item) for item in thing]
    if isinstance(thing, (str, int, float, bool)) or thing is None:
        return thing
    if isinstance(thing, Path):
        return str(thing)
    return _code_of(thing)


def _code_of(thing: Any) -> Any:
    """A class, function or object by its name and the code of its methods."""
    owner = thing if isinstance(thing, type) or hasattr(thing, "__code__") else type(thing)
    functions = [owner] if hasattr(owner, "__code__") else [vars(owner)[name] for name in sorted(vars(owner))]
    codes = [(found.__name__, _bytecode(found.__code__)) for found in functions if hasattr(found, "__code__")]
    state = None if owner is thing else described(dict(getattr(thing, "__dict__", {})))
    return [_name(owner), codes, state]


def _bytecode(code: Any) -> str:
    constants = [_bytecode(item) if hasattr(item, "co_code") else repr(item) for item in code.co_consts]
    return hashlib.sha256(code.co_code + repr((constants, code.co_names)).encode()).hexdigest()


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


def _name(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', kind)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _are_there(files: Iterable[Iterable[Any]]) -> bool:
    for place, size_bytes in files:
        path = Path(place)
        if size_bytes is None:
            if not path.exists():
                return False
        elif (path.stat().st_size if path.is_file() else -1 if path.is_dir() else None) != size_bytes:
            return False
    return True
