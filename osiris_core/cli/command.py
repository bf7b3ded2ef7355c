"""The commands' base classes: a group that loads nothing to show its help, a command that never shows our traceback."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, stdout

if TYPE_CHECKING:
    from collections.abc import Mapping


class Command(click.Command):
    """
    A command whose errors on purpose are messages with exit code 2.

    Standard output is for its results alone from here on: help was printed before, if it was asked for.
    """

    def invoke(self, ctx: click.Context) -> Any:
        from osiris_core.errors import OsirisError
        from osiris_core.working_directory import working_directory

        stdout.protect()
        try:
            try:
                return super().invoke(ctx)
            except FileNotFoundError:
                working_directory()  # whatever asked for it: that it is gone is the better word for it
                raise
        except OsirisError as exc:
            return exits.report_invalid(exc, as_json=bool(ctx.params.get("as_json")))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class LazyGroup(click.Group):
    """
    A group whose commands are imported when they are called.

    Args:
        places: Command name to (`module:attribute`, the line of help that is shown for it, whether it is hidden).
    """

    def __init__(self, *args: Any, places: Mapping[str, tuple[str, str, bool]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = dict(places)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.places and not args[0].startswith("-"):
            from osiris_core.suggestion import did_you_mean

            hint = did_you_mean(args[0], self.places) or f"known: {', '.join(self.places)}"
            ctx.fail(f"no command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line, hidden) in self.places.items() if not hidden])
