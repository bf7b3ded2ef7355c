"""Users' own modules: made importable here, and found again to be sent with a run."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.driver import BUILTIN, DriverRegistry
from osiris_core.errors import PreparationError, Problem

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
            file = getattr(import_module(".".join(names[:depth])), "__file__", None)
            if file is None:  # a namespace package
                continue
            folder = Path(file).parent
            if Path(file).name == "__init__.py":
                yield from _files_below(folder, folder.parents[depth - 1])
            elif depth == 1:
                yield f"{module_name}.py", Path(file)
            else:
                modules = sorted(folder.glob("*.py"))
                yield from (("/".join([*names[: depth - 1], path.name]), path) for path in modules)
            break


def _files_below(path: Path, root: Path) -> Iterator[tuple[str, Path]]:
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        parts = file.relative_to(root).parts
        if file.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            yield "/".join(parts), file
