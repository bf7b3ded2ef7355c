"""`osiris drivers`: what steps can be made of."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from osiris_core.cli import stdout
from osiris_core.cli.command import Group
from osiris_core.cli.options import json_option


def complete_drivers(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from osiris_core.driver import DriverRegistry

    return [CompletionItem(name) for name in DriverRegistry.names() if name.startswith(incomplete)]


@click.group(cls=Group)
def drivers() -> None:
    """Look at drivers: what each does, its keys, an example."""


@drivers.command("list")
@json_option
def list_drivers(as_json: bool) -> None:
    """List every driver of this installation. A broken plugin is reported and hurts nobody."""
    from osiris_core.cli.catalogue import drivers as kind
    from osiris_core.cli.keys import write_list

    write_list(kind().entries(), kind().problems(), as_json=as_json)


@drivers.command("show", short_help="Show what NAME does, and its keys.")
@click.argument("name", shell_complete=complete_drivers)
@json_option
def show_driver(name: str, as_json: bool) -> None:
    """Show what driver NAME does, the keys of its configuration with types and defaults, and an example."""
    from osiris_core.cli.catalogue import config_schema
    from osiris_core.cli.catalogue import drivers as kind
    from osiris_core.cli.keys import described, key_rows

    entry = kind().entry(name)
    schema, example = config_schema(entry), str(getattr(entry.cls, "example", "") or "")
    version = str(getattr(entry.cls, "version", "1"))
    if as_json:
        facts = {
            "version": version,
            "deterministic": bool(getattr(entry.cls, "deterministic", False)),
            "needs_network": bool(getattr(entry.cls, "needs_network", False)),
        }
        texts = {"description": entry.description, "keys": key_rows(schema), "example": example}
        stdout.write_json({"name": name, "source": entry.source, **facts, **texts})
    else:
        stdout.write_result(described(f"{name}  version {version}, {entry.source}", entry.description, schema, example))
