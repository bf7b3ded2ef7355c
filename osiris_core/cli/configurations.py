"""`osiris backends create` and `validate`: configurations, of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.choice import chosen, name_options
from osiris_core.cli.command import Command
from osiris_core.cli.options import json_option
from osiris_core.errors import ConfigError, PreparationError, Problem

if TYPE_CHECKING:
    from osiris_core.cli.checked import Checked


@click.command("create", cls=Command, short_help="Write a configuration to begin with.")
@name_options
@click.option("--output", "-o", metavar="FILE", help="Write it there; nothing that exists is overwritten.")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="[default: yaml]")
@click.option("--with-examples", is_flag=True, help="With the values of an example, not only what must be given.")
@json_option
def create(output: str | None, form: str, with_examples: bool, as_json: bool, **names: Any) -> None:
    """Write a configuration of NAME to begin with: every key with what it does, and valid as it stands."""
    import json

    from osiris_core.cli.template import as_document, pipeline_template, template

    entry = chosen(**names)
    if entry.kind == "pipeline":
        from osiris_core.models.pipeline_file import pipeline_example

        in_json = json.dumps(pipeline_example(entry.name), indent=2) + "\n"
        text = in_json if form == "json" else pipeline_template(entry.name)
    elif entry.config is None:
        message = f"{entry.kind} '{entry.name}' has no configuration of its own"
        raise ConfigError([Problem(message, hint=f"osiris backends show {entry.name} --kind {entry.kind}")])
    elif form == "json":
        text = json.dumps(as_document(entry.config, with_examples=with_examples), indent=2) + "\n"
    else:
        text = template(entry.config, with_examples=with_examples)
    if output is not None:
        _write(Path(output), text)
    if as_json:
        stdout.write_json({"name": entry.name, "kind": entry.kind, "file": output, "text": text})
    else:
        stdout.write_result(text if output is None else f"{output}: a configuration of {entry.kind} '{entry.name}'")


@click.command("validate", cls=Command, short_help="Check every configuration in a file.")
@click.argument("file")
@click.option("--backend-type", metavar="NAME", help="What it is for, where it does not say so itself.")
@click.option("--processor-type", metavar="NAME", help="The same, a postprocessor.")
@json_option
def validate(file: str, backend_type: str | None, processor_type: str | None, as_json: bool) -> int:
    """
    Check every configuration in FILE: of adapters, run backends, postprocessors, model runs and pipelines.

    All problems are listed, each with its file and line. Nothing is started.
    """
    from osiris_core.cli.checked import checked_file

    if backend_type is not None and processor_type is not None:
        raise click.UsageError("--backend-type and --processor-type exclude each other")
    wanted = (
        ("backend", backend_type) if backend_type else ("postprocessor", processor_type) if processor_type else None
    )
    found = checked_file(file, wanted)
    problems = [problem for item in found for problem in item.problems]
    if as_json:
        listed = [item.to_json() for item in found]
        told = {"problems": [problem.to_json() for problem in problems]} if problems else {}
        stdout.write_json({"status": "invalid" if problems else "valid", "documents": listed, **told})
    else:
        _say(found, problems)
    return exits.BAD_INPUT if problems else exits.COMPLETED


def _say(found: list[Checked], problems: list[Problem]) -> None:
    for problem in problems:
        stdout.say(str(problem))
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        stdout.say(f"osiris: {count} in {sum(bool(item.problems) for item in found)} of {len(found)} configurations")
    stdout.write_result("\n".join(item.line for item in found))


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise PreparationError([Problem("there is such a file already", key="--output", file=str(path))]) from None
    except OSError as exc:
        raise PreparationError([Problem(f"cannot be written: {exc.strerror}", key="--output", file=str(path))]) from exc
