"""
Loads modules of our two rooms, `adapters` and `remote`, and makes sure that they are ours.

Both are namespace packages (PEP 420): another distribution or the user's own folder may own a package of either
name, anywhere on `sys.path`. Where the plain import would find ours, that is what happens. Where it would find
theirs, ours is imported apart: theirs is neither run nor changed, and `sys.modules` is then as it was.

Modules of the rooms import each other at their top, never inside a function: later the names may stand for others.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ROOMS = ("adapters", "remote")
_ROOT = Path(__file__).resolve().parent.parent
_lock = threading.RLock()
_apart: dict[str, ModuleType] = {}
_plain: dict[str, ModuleType] = {}


def load(name: str) -> ModuleType:
    """
    The module `adapters.x` or `remote.x` of this distribution; the same object each time.

    A foreign package of a room's name is not imported by this, and what is in `sys.modules` under its
    names is the same before and after.

    Raises:
        ModuleNotFoundError: We have no such module, or it needs a package that is not installed.
    """
    room = name.partition(".")[0]
    assert room in ROOMS, name
    with _lock:
        if name in _apart:
            return _apart[name]
        if not _apart and (known := _plain.get(name)) is not None and sys.modules.get(name) is known:
            return known  # whatever the names of the rooms stand for by now: this module is ours
        # Once one module is apart, so are all of ours: a second copy of a class would be another class.
        if not _apart and all(_finds_ours(other, name) for other in ROOMS):
            _plain[name] = import_module(name)
            return _plain[name]
        return _load_apart(name)


def load_apart(name: str) -> ModuleType:
    """Like `load`, but never under the plain names: they stay free for the packages of users who come later."""
    with _lock:
        return _apart.get(name) or _load_apart(name)


def _finds_ours(room: str, name: str) -> bool:
    """Whether the plain import of `name`, and of anything in `room`, would give ours."""
    if not _has_modules(room):
        return True
    loaded = sys.modules.get(room)
    if loaded is None:
        path = _search_path(room)
    elif getattr(loaded, "__file__", None) is None:
        path = list(getattr(loaded, "__path__", []))
    else:
        path = []  # a regular package is nobody's but its owner's, even where it shares a folder with ours
    # The first place must be ours: what is in a later one may be hidden, module by module, by those before it.
    if not path or Path(path[0]).resolve() != _ROOT / room:
        return False
    return name not in sys.modules or _is_ours(sys.modules[name])


def _has_modules(room: str) -> bool:
    """Whether this distribution has such a room at all (also when it is inside a zip)."""
    return PathFinder.find_spec(room, [str(_ROOT)]) is not None


def _search_path(room: str) -> list[str]:
    """Where submodules of `room` would be looked for; nowhere when a regular package or nothing is there."""
    try:
        spec: ModuleSpec | None = find_spec(room)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is not None:
        return []
    return list(spec.submodule_search_locations or [])


def _is_ours(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    # The room's own folder, not just below our root: an environment may lie below it, with packages of others.
    return file is not None and any(Path(file).resolve().is_relative_to(_ROOT / room) for room in ROOMS)


def _load_apart(name: str) -> ModuleType:
    """Import ours with every foreign module of the rooms' names set aside, then put those back."""
    aside = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] in ROOMS}
    try:
        for room in ROOMS:
            package = ModuleType(room)
            package.__path__ = [str(_ROOT / room)]
            sys.modules[room] = package
        sys.modules.update({key: found for key, found in aside.items() if _is_ours(found)})
        sys.modules.update(_apart)
        module = import_module(name)
        _apart.update({key: found for key, found in sys.modules.items() if key.startswith(("adapters.", "remote."))})
        return module
    finally:
        for key in [key for key in sys.modules if key.partition(".")[0] in ROOMS]:
            del sys.modules[key]
        sys.modules.update(aside)
