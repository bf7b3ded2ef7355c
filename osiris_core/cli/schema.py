"""`osiris schema`: JSON Schemas, for editors and for whoever writes manifests by program."""

from __future__ import annotations

import copy
from typing import Any

import click

from osiris_core.cli import stdout
from osiris_core.cli.command import Group
from osiris_core.cli.drivers import complete_drivers
from osiris_core.cli.options import complete_adapters, json_option

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONNECTIONS = {
    "title": "osiris_connections.yaml",
    "description": "Named connections: a manifest says `@family.alias` and holds no credentials.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "version": {"type": ["integer", "string"]},
        "connections": {
            "description": "By family (`mysql`), then by alias (`billing`).",
            "type": ["object", "null"],
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {
                    "description": "Values as the drivers of the family want them; `${VAR}` for what is secret.",
                    "type": "object",
                    "properties": {
                        "default": {"type": "boolean", "description": "Whether `@family` alone means this one."}
                    },
                },
            },
        },
    },
}


@click.group(cls=Group)
def schema() -> None:
    """Print a JSON Schema: `manifest`, `connections`, `model-run`, `pipeline`, `driver NAME` or `adapter NAME`."""


@schema.command("manifest")
@json_option
def manifest_schema(as_json: bool) -> None:  # noqa: ARG001 - the result is JSON in any case
    """The schema of a native manifest."""
    from osiris_core.manifest import Manifest

    _write(Manifest.model_json_schema())


@schema.command("connections")
@json_option
def connections_schema(as_json: bool) -> None:  # noqa: ARG001
    """The schema of osiris_connections.yaml.

    With the keys of every family whose drivers are installed.
    """
    document = copy.deepcopy(CONNECTIONS)
    families: Any = document["properties"]["connections"]  # type: ignore[index]
    alias = families["additionalProperties"]["additionalProperties"]
    families["properties"] = {
        family: {"type": "object", "additionalProperties": _connection_schema(models, alias)}
        for family, models in sorted(_families().items())
    }
    _write(document)


def _families() -> dict[str, list[Any]]:
    """The models of the connections of each family."""
    from osiris_core.cli.catalogue import drivers
    from osiris_core.lifting import connection_models

    found: dict[str, list[Any]] = {}
    for entry in drivers().entries():
        family = getattr(entry.cls, "connection_family", None)
        if entry.cls is not None and family is not None and (models := connection_models(entry.cls)):
            found.setdefault(family, models)
    return found


def _connection_schema(models: list[Any], alias: dict[str, Any]) -> dict[str, Any]:
    """One connection of a family. Any value may also be, or hold, a reference."""
    reference = {"type": "string", "pattern": r"\$\{"}
    properties = dict(alias["properties"])
    required: set[str] = set()
    for model in models:
        schema = model.model_json_schema()
        required |= set(schema.get("required", ()))
        for name, value in schema["properties"].items():
            described = {key: value[key] for key in ("description", "default") if key in value}
            properties[name] = {**described, "anyOf": [value, reference]}
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


@schema.command("model-run")
@json_option
def model_run_schema(as_json: bool) -> None:  # noqa: ARG001
    """The schema of a model run's file."""
    from osiris_core.models.model_run import ModelRun

    _write(ModelRun.model_json_schema())


@schema.command("pipeline", short_help="The schema of a pipeline's file.")
@json_option
def pipeline_schema(as_json: bool) -> None:  # noqa: ARG001
    """The schema of a pipeline's file, with every configuration that is installed."""
    from osiris_core.models.pipeline_file import pipeline_schema as schema_of_file

    _write(schema_of_file())


@schema.command("driver")
@click.argument("name", shell_complete=complete_drivers)
@json_option
def driver_schema(name: str, as_json: bool) -> None:  # noqa: ARG001
    """The schema of the configuration of driver NAME."""
    from osiris_core.cli.catalogue import config_schema, drivers

    _write(config_schema(drivers().entry(name)))


@schema.command("adapter")
@click.argument("name", shell_complete=complete_adapters)
@json_option
def adapter_schema(name: str, as_json: bool) -> None:  # noqa: ARG001
    """The schema of the configuration of adapter NAME."""
    from osiris_core.cli.catalogue import adapters, config_schema

    _write(config_schema(adapters().entry(name)))


def _write(document: dict[str, Any]) -> None:
    stdout.write_json({"$schema": DIALECT, **document})
