"""The options that say what to run and how; `run`, `plan` and `explain` have them in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Callable

    FloatType = click.ParamType[float]
    IntType = click.ParamType[int]
    PairType = click.ParamType[tuple[str, str]]
else:
    FloatType = IntType = PairType = click.ParamType  # generic for type checkers only before click 8.4

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(FloatType):
    """Seconds, or a number with `s`, `m` or `h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a duration; write 90, 90s, 5m or 2h", param, ctx)
        return float(match[1]) * _UNITS_S[match[2]]


class Size(IntType):
    """Bytes, or a number with a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from osiris_core.resources import parse_size

        try:
            return parse_size(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Assignment(PairType):
    """`NAME=VALUE`."""

    name = "assignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, given = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{name!r} has no value; write NAME=VALUE", param, ctx)
        return name, given


def complete_adapters(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from osiris_core.factory import AdapterFactory

    return [CompletionItem(name) for name in AdapterFactory.available() if name.startswith(incomplete)]


def complete_sessions(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from osiris_core.cli.sessions import list_sessions, sessions_root

    names = ["latest", *(session.layout.root.name for session in list_sessions(sessions_root()))]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@dataclass(frozen=True)
class RunOptions:
    """What these options came to, unchecked but for their form. Times are seconds, sizes bytes."""

    manifest: str
    adapter: str | None = None
    config: str | None = None
    param: tuple[tuple[str, str], ...] = ()
    env: tuple[str, ...] = ()
    connections: str | None = None
    base_dir: str | None = None
    session_dir: str | None = None
    out: str | None = None
    timeout: float | None = None
    resume: bool = False
    max_parallel: int | None = None
    memory_budget: int | None = None
    keep_going: bool = False
    checkpoint: Any = "auto"


_INPUT_OPTIONS = [
    click.option("--adapter", metavar="NAME", shell_complete=complete_adapters, help="Where to run. [default: local]"),
    click.option(
        "--config",
        "--backend-config",
        metavar="FILE",
        help="The adapter's configuration, YAML or JSON; its `type` names it.",
    ),
    click.option("--param", type=Assignment(), metavar="K=V", multiple=True, help="A value for a parameter."),
    click.option(
        "--env",
        metavar="NAME[=V]",
        multiple=True,
        help="Give the steps a variable. Without a value it is taken from the environment, and secret.",
    ),
    click.option("--connections", metavar="FILE", help="The connections file. [default: osiris_connections.yaml]"),
    click.option("--base-dir", metavar="D", help="Where relative input paths start. [default: the manifest's folder]"),
    click.option("--session-dir", metavar="D", help="Where everything of the run is written."),
]

_RUN_OPTIONS = [
    click.option("--out", metavar="D", help="Copy the declared outputs here when the run completed."),
    click.option("--timeout", type=Duration(), metavar="S", help="The longest the run may take: 90, 90s, 5m, 2h."),
    click.option("--resume", is_flag=True, help="Take over what an earlier run of this manifest finished."),
    click.option("--max-parallel", type=click.IntRange(min=1), metavar="N", help="Steps at a time. [default: CPUs]"),
    click.option(
        "--memory-budget",
        type=Size(),
        metavar="B",
        help="Memory for tables and steps: 512MB, 2GiB. [default: a quarter]",
    ),
    click.option("--keep-going", is_flag=True, help="After a failure go on with what does not depend on it."),
    click.option(
        "--checkpoint",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Which outputs to keep for --resume: those that are cheap to keep, all, or none.",
    ),
]


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say what is run: `RunOptions(manifest, **them)` takes their values."""
    return _add(_INPUT_OPTIONS, function)


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds all of them, in the order of the lists above."""
    return input_options(_add(_RUN_OPTIONS, function))


def _add(options: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")

root_option = click.option(
    "--root", metavar="D", help="The folder of the sessions. [default: $OSIRIS_HOME/sessions, .osiris/sessions]"
)
