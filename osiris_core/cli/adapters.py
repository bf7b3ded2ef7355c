"""`osiris adapters`, also called `backends`: where a run can happen."""

from __future__ import annotations

import click

from osiris_core.cli import stdout
from osiris_core.cli.command import Group
from osiris_core.cli.options import complete_adapters, json_option


@click.group(cls=Group)
def adapters() -> None:
    """Look at adapters: where a run can happen, and their settings."""


@adapters.command("list")
@json_option
def list_adapters(as_json: bool) -> None:
    """List every adapter of this installation. A broken plugin is reported and hurts nobody."""
    from osiris_core.cli.catalogue import adapter_entries
    from osiris_core.cli.keys import write_list
    from osiris_core.factory import AdapterFactory

    write_list(adapter_entries(), AdapterFactory.problems(), as_json=as_json)


@adapters.command("show")
@click.argument("name", shell_complete=complete_adapters)
@json_option
def show_adapter(name: str, as_json: bool) -> None:
    """Show what adapter NAME does and the keys of its configuration file (`osiris run --config`)."""
    from osiris_core.cli.catalogue import adapter_entry, config_schema
    from osiris_core.cli.keys import described, key_rows

    entry = adapter_entry(name)
    schema, example = config_schema(entry), str(getattr(entry.cls, "example", "") or "")
    if as_json:
        texts = {"description": entry.description, "keys": key_rows(schema), "example": example}
        stdout.write_json({"name": name, "source": entry.source, **texts})
    else:
        stdout.write_result(described(f"{name}  {entry.source}", entry.description, schema, example))


@adapters.command("schema")
@click.argument("name", shell_complete=complete_adapters)
@json_option
def adapter_schema(name: str, as_json: bool) -> None:  # noqa: ARG001 - the result is JSON in any case
    """Print the JSON Schema of adapter NAME's configuration."""
    from osiris_core.cli.catalogue import adapter_entry, config_schema

    stdout.write_json(config_schema(adapter_entry(name)))
