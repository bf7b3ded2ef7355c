"""Which of the things that share a name is meant: `local` is an adapter and a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from osiris_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.cli.catalogue import Entry, Kind

KINDS = ("adapter", "backend", "postprocessor", "pipeline")


def complete_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from osiris_core.cli.catalogue import places

    names = {name for kind in places() for name in kind.names()}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


kind_option = click.option("--kind", type=click.Choice(KINDS), help="Which is meant, where several have the name.")


def name_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """NAME and --kind; the name may also be given as --backend-type or --processor-type."""
    for option in (
        click.argument("name", required=False, shell_complete=complete_names),
        kind_option,
        click.option("--backend-type", metavar="NAME", help="NAME, an adapter or run backend."),
        click.option("--processor-type", metavar="NAME", help="NAME, a postprocessor."),
    )[::-1]:
        function = option(function)
    return function


def chosen(name: str | None, kind: str | None, backend_type: str | None, processor_type: str | None) -> Entry:
    """
    The one that the options of `name_options` name, loaded.

    Raises:
        UsageError: They name none, or several.
        ConfigError: Nothing has that name.
    """
    given = [(name, kind), (backend_type, kind or "backend"), (processor_type, kind or "postprocessor")]
    named = [(found, wanted) for found, wanted in given if found is not None]
    if len(named) != 1:
        raise click.UsageError("give one NAME (osiris backends list shows them)")
    found, wanted = named[0]
    assert found is not None
    return kind_of(found, wanted).entry(found)


def kind_of(name: str, wanted: str | None = None) -> Kind:
    """The kind that has that name; of several the first of `KINDS`, unless one is wanted. Raises ConfigError."""
    from osiris_core.cli.catalogue import places
    from osiris_core.suggestion import did_you_mean

    kinds = [kind for kind in places() if wanted in (None, kind.name)]
    fitting = [kind for kind in kinds if name in kind.names()]
    if wanted == "backend" and not fitting:  # an adapter runs models too
        fitting = [kind for kind in places() if kind.name == "adapter" and name in kind.names()]
    if fitting:
        return fitting[0]
    known = sorted({other for kind in kinds for other in kind.names()})
    hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
    raise ConfigError(
        [Problem(f"there is no {wanted or 'adapter, backend, postprocessor or pipeline'} '{name}'", hint=hint)]
    )


def others_of(name: str, kind: str) -> list[str]:
    """The other kinds in which the name means something of its own."""
    from osiris_core.cli.catalogue import places

    same = {"adapter", "backend"}
    found = [other.name for other in places() if other.name != kind and name in other.names()]
    return [other for other in found if not {other, kind} <= same]
