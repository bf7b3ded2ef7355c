"""
`osiris adapters`, also called `backends`: where a run can happen, what can be done around it, and the configurations
of all that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import stdout
from osiris_core.cli.choice import KINDS, chosen, name_options, others_of
from osiris_core.cli.command import Group
from osiris_core.cli.configurations import create, validate
from osiris_core.cli.options import complete_adapters, json_option

if TYPE_CHECKING:
    from osiris_core.cli.catalogue import Entry


@click.group(cls=Group)
def adapters() -> None:
    """Look at adapters, run backends, postprocessors and pipelines; make and check their configurations; set one up."""


adapters.add_command(create)
adapters.add_command(validate)


@adapters.command("list", short_help="List what is installed, of every kind.")
@click.option("--kind", type=click.Choice(KINDS), help="Only those.")
@json_option
def list_adapters(kind: str | None, as_json: bool) -> None:
    """
    List every adapter, run backend, postprocessor and pipeline of this installation.

    An adapter runs manifests, and models too where there is a run backend of its name. A broken plugin is reported and
    hurts nobody.
    """
    from osiris_core.cli.catalogue import places
    from osiris_core.cli.keys import write_list

    wanted = [found for found in places() if kind in (None, found.name)]
    entries = [entry for found in wanted for entry in found.listed()]
    if kind is None:  # an adapter's run backend is no other place
        adapters = {entry.name for entry in entries if entry.kind == "adapter"}
        entries = [entry for entry in entries if entry.kind != "backend" or entry.name not in adapters]
    write_list(entries, [problem for found in wanted for problem in found.problems()], as_json=as_json)


@adapters.command("show", short_help="Show what NAME does, and its keys.")
@name_options
@json_option
def show_adapter(as_json: bool, **names: Any) -> None:
    """Show what NAME does, and the keys of its configuration file."""
    from osiris_core.cli.catalogue import shown_schema
    from osiris_core.cli.keys import described, key_rows

    entry = chosen(**names)
    schema = shown_schema(entry)
    example = str(getattr(entry.cls, "example", "") or "") or _example(entry)
    if as_json:
        texts = {"description": entry.description, "keys": key_rows(schema), "example": example}
        stdout.write_json({"name": entry.name, "kind": entry.kind, "source": entry.source, **texts})
        return
    text = described(f"{entry.name}  {entry.kind}, {entry.source}", entry.description, schema, example)
    for other in others_of(entry.name, entry.kind):
        text += f"\n\nit is another thing as well: --kind {other}"
    stdout.write_result(text)


@adapters.command("schema")
@name_options
@click.option("--format", "form", type=click.Choice(["json", "yaml"]), default="json", help="[default: json]")
@click.option("--examples", is_flag=True, help="Print the examples of the schema instead, each of which is valid.")
@json_option
def adapter_schema(form: str, examples: bool, as_json: bool, **names: Any) -> None:  # noqa: ARG001 - it is JSON anyhow
    """Print the JSON Schema of NAME's configuration."""
    from osiris_core.cli.catalogue import config_schema
    from osiris_core.cli.template import examples_of

    entry = chosen(**names)
    document: Any = examples_of(entry.config) if examples and entry.config else config_schema(entry)
    if form == "yaml":
        import yaml

        stdout.write_result(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    else:
        stdout.write_json(document)


@adapters.command("setup", short_help="Make what runs of an adapter need, such as an image.")
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


def _example(entry: Entry) -> str:
    from osiris_core.cli.template import template

    if entry.kind == "pipeline":
        import yaml

        from osiris_core.models.pipeline_file import pipeline_example

        return str(yaml.safe_dump(pipeline_example(entry.name), sort_keys=False))
    return template(entry.config, commented=False) if entry.config is not None else ""
