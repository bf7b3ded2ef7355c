"""Users' own modules: made importable here, and found again to be sent with a run."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.driver import BUILTIN, DriverRegistry
from osiris_core.errors import DriverNotInstalled, PreparationError, Problem, StepError, UnknownDriver
from osiris_core.session import SessionLayout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def make_importable(code: Iterable[str]) -> None:
    """
    Put modules, packages and folders of modules on the path of imports, behind what is there.

    Raises:
        PreparationError: One is missing, or is no Python.
    """
    problems = []
    for name in code:
        path = Path(name).expanduser().resolve()
        if not path.exists():
            problems.append(Problem("there is no such file or folder", key="code", file=str(path)))
        elif path.is_file() and path.suffix != ".py":
            problems.append(
                Problem("code is a module (.py), a package or a folder of modules", None, "code", str(path))
            )
        elif (folder := str(_import_root(path))) not in sys.path:
            sys.path.append(folder)
    if problems:
        raise PreparationError(problems)


def _import_root(path: Path) -> Path:
    return path.parent if path.is_file() or (path / "__init__.py").exists() else path


def code_files(code: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Every file of the `code` paths, each with its place below a folder that is put on the path of imports."""
    for name in code:
        path = Path(name).expanduser().resolve()
        yield from _files_below(path, _import_root(path))


def driver_places(driver_names: Iterable[str]) -> dict[str, str]:
    """
    `module:Class` of every driver that is not built in, by its name.

    Raises:
        PreparationError: One cannot be found again in another process: it was made inside a function or in the script
            that runs.
    """
    problems, found = [], {}
    for name in dict.fromkeys(driver_names):
        if name in BUILTIN:
            continue
        driver: type[Any] = DriverRegistry.get(name)
        if driver.__module__ == "__main__" or "<locals>" in driver.__qualname__:
            where = "the script that runs" if driver.__module__ == "__main__" else "a function"
            message = f"driver '{name}' is made in {where}, and cannot be found in another process"
            problems.append(Problem(message, hint="put it at the top of a module of its own, and name that in `code`"))
        found[name] = f"{driver.__module__}:{driver.__qualname__}"
    if problems:
        raise PreparationError(problems)
    return found


def driver_files(places: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """
    The files of the modules that drivers come from: a module alone, or the whole of the package that it is in.

    Of a namespace package, which others may have a part in, only the package below it travels, or the modules beside
    the driver's own.
    """
    for module_name in dict.fromkeys(place.partition(":")[0] for place in places):
        names = module_name.split(".")
        for depth in range(1, len(names) + 1):
            file = _file_of(".".join(names[:depth]))
            if file is None:  # a namespace package
                continue
            if file.name == "__init__.py":
                yield from _files_below(file.parent, file.parents[depth])
            elif depth == 1:
                yield f"{module_name}.py", file
            else:
                modules = sorted(file.parent.glob("*.py"))
                yield from (("/".join([*names[: depth - 1], path.name]), path) for path in modules)
            break


def _file_of(module_name: str) -> Path | None:
    """Where a module is; also of one that cannot be imported here."""
    try:
        file = getattr(import_module(module_name), "__file__", None)
    except ModuleNotFoundError:
        spec = find_spec(module_name)
        file = spec.origin if spec is not None and spec.has_location else None
    return Path(file) if file is not None else None


def stand_in_for_unseen(driver_names: Iterable[str]) -> None:
    """
    Let drivers be named that need a package which only the place of the run has; they are looked at there.

    Their configuration is checked there too, and files that they read are not found here.
    """
    for name in dict.fromkeys(driver_names):
        try:
            DriverRegistry.get(name)
        except DriverNotInstalled as exc:
            DriverRegistry.register(name, _stand_in(name, str(exc)))
        except UnknownDriver:
            continue  # reported with its place in the manifest


def _stand_in(name: str, reason: str) -> type[Any]:
    module, _, attribute = name.partition(":")

    def run(self: Any, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:  # noqa: ARG001 - a driver's
        raise StepError(f"it cannot run here: {reason}", step_id=step_id)

    return type(attribute, (), {"run": run, "__module__": module, "__qualname__": attribute})


def _files_below(path: Path, root: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.relative_to(root).as_posix(), path
        return
    for folder, names, files in os.walk(path):
        # A session beside the code is no code; and what is written into it meanwhile would go into itself.
        names[:] = sorted(
            name
            for name in names
            if name != "__pycache__"
            and not name.startswith(".")
            and not SessionLayout(Path(folder, name)).lock_file.exists()
        )
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix(), Path(folder, name)
