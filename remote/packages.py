"""Whether a worker has what it needs: its Python and its packages, as it said in `hello`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from osiris_core import __version__
from osiris_core.errors import ExecutionError, FailureClass
from remote.protocol import MIN_PYTHON, WORKER_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_hello(hello: Mapping[str, Any]) -> None:
    """
    Refuse a worker that cannot run what it is sent.

    Raises:
        ExecutionError: Its Python is too old, a package is missing or of another version than we work with, or it does
            not run the code that travelled with the run. Each with what to do.
    """
    wrong = []
    if _numbers(str(hello.get("python", "0"))) < MIN_PYTHON:
        wrong.append(f"its Python is {hello.get('python')}, {'.'.join(map(str, MIN_PYTHON))} or later is needed")
    if hello.get("version") != __version__:
        wrong.append(f"it runs Osiris core {hello.get('version')}, this is {__version__}")
    packages = hello.get("packages") or {}
    for name, limits in WORKER_PACKAGES.items():
        if name not in packages:
            wrong.append(f"{name}{limits} is not installed there")
        elif not satisfies(str(packages[name]), limits):
            wrong.append(f"{name} {packages[name]} is installed there, {limits} is needed")
    if wrong:
        message = f"the worker cannot run this: {'; '.join(wrong)} (install them where the worker runs)"
        raise ExecutionError(message, failure_class=FailureClass.USER_ERROR)


def satisfies(version: str, limits: str) -> bool:
    """Whether a version is within limits such as `>=1.4,<3`; what follows the numbers of a version is not looked at."""
    for limit in limits.split(","):
        operator, bound = limit[: 2 if limit[1] == "=" else 1], limit.lstrip("<>=")
        ours, theirs = _numbers(version), _numbers(bound)
        ours, theirs = ours[: len(theirs)] if operator == "<" else ours, theirs
        if (operator == ">=" and ours < theirs) or (operator == "<" and ours >= theirs):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else (0,)
