"""`osiris adapters`, also called `backends`: where a run can happen."""

from __future__ import annotations

import click

from osiris_core.cli import stdout
from osiris_core.cli.command import Group
from osiris_core.cli.options import complete_adapters, json_option


@click.group(cls=Group)
def adapters() -> None:
    """Look at adapters: where a run can happen, and their settings; set one up."""


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


@adapters.command("setup")
@click.argument("name", shell_complete=complete_adapters)
@click.option("--config", metavar="FILE", help="The adapter's configuration, YAML or JSON.")
@json_option
def set_up_adapter(name: str, config: str | None, as_json: bool) -> int:
    """
    Make what the runs of adapter NAME need, such as an image, so that none of them waits for it.

    What is there already is left alone: this may be called any number of times.
    """
    from osiris_core.cli import exits
    from osiris_core.cli.options import RunOptions
    from osiris_core.cli.request import configured_adapter
    from osiris_core.errors import ExecutionError

    adapter = configured_adapter(RunOptions(manifest="", adapter=name, config=config))
    try:
        # An adapter of somebody else's need not know this hook.
        made = adapter.setup(adapter.config, stdout.say) if hasattr(adapter, "setup") else None
    except ExecutionError as exc:
        stdout.say(f"osiris: {exc}")
        if as_json:
            error = {"type": type(exc).__name__, "message": str(exc), "failure_class": exc.failure_class}
            stdout.write_json({"adapter": name, "status": "failed", "error": error})
        return exits.FAILED
    if as_json:
        stdout.write_json({"adapter": name, "status": "completed", "made": made})
    else:
        stdout.write_result(f"{name}: {made or 'everything is there already; nothing had to be made'}")
    return exits.COMPLETED
