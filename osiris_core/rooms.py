"""
Loads modules of our two rooms, `adapters` and `remote`, and makes sure that they are ours.

Both are namespace packages (PEP 420): another distribution or the user's own folder may own a package of either
name, anywhere on `sys.path`. Then our folder is added to its path; where even a module's name is taken, ours
is imported apart, and theirs is put back as it was.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOMS = ("adapters", "remote")
_ROOT = Path(__file__).resolve().parent.parent
_lock = threading.RLock()
_apart: dict[str, ModuleType] = {}


def load(name: str) -> ModuleType:
    """
    The module `adapters.x` or `remote.x` of this distribution.

    What is in `sys.modules` under a foreign package's names is the same before and after.

    Raises:
        ModuleNotFoundError: We have no such module, or it needs a package that is not installed.
    """
    room = name.partition(".")[0]
    assert room in ROOMS, name
    with _lock:
        if name in _apart:
            return _apart[name]
        _open_room(room)
        try:
            module = import_module(name)
        except Exception:
            if _is_ours(sys.modules.get(name)):
                raise
            module = None  # a foreign module of that name that does not even load
        if module is not None and _is_ours(module):
            return module
        return _load_apart(name)


def _is_ours(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(_ROOT)


def _open_room(room: str) -> None:
    """See that the package named like the room also looks into our folder."""
    try:
        package = import_module(room)
    except Exception:  # noqa: BLE001 - a foreign package that does not load is its owner's affair
        package = None
    path = getattr(package, "__path__", None)
    folder = str(_ROOT / room)
    if path is not None and folder not in path:
        try:
            path.append(folder)
        except AttributeError:
            return


def _load_apart(name: str) -> ModuleType:
    """Import ours with every foreign module of the rooms' names set aside, then put those back."""
    aside = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] in ROOMS}
    try:
        sys.modules.update(_apart)
        for room in ROOMS:
            package = ModuleType(room)
            package.__path__ = [str(_ROOT / room)]
            sys.modules[room] = package
        module = import_module(name)
        _apart.update({key: found for key, found in sys.modules.items() if key.startswith(("adapters.", "remote."))})
        return module
    finally:
        for key in [key for key in sys.modules if key.partition(".")[0] in ROOMS]:
            del sys.modules[key]
        sys.modules.update(aside)
