"""`osiris postprocess`: look at, pack or process what a model run left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("postprocess", cls=Command)
@click.argument("file", required=False)
@click.option("--config-from-env", is_flag=True, help="Read $OSIRIS_CONFIG instead of FILE.")
@click.option("--processor", metavar="NAME", help="The postprocessor. [default: the file's, or noop]")
@click.option("--processor-config", metavar="FILE", help="The postprocessor's configuration.")
@click.option("--output-dir", metavar="D", help="Where the outputs are. [default: the model's folder]")
@click.option(
    "--validate-outputs/--no-validate", default=None, help="Whether outputs must be there. [default: as configured]"
)
@click.option("--force", is_flag=True, help="Process the outputs of a run that failed too; it still is no success.")
@json_option
def postprocess(
    file: str | None,
    config_from_env: bool,
    processor: str | None,
    processor_config: str | None,
    output_dir: str | None,
    validate_outputs: bool | None,
    force: bool,
    as_json: bool,
) -> int:
    """
    Postprocess the outputs of the model of FILE, a model run or a pipeline's file.

    The exit code is the outcome: 1 also where the model's own run had failed.
    """
    from osiris_core.cli.model_request import Requested, model_tree, pipeline_of, processor_of
    from osiris_core.cli.model_run import left, while_watched
    from osiris_core.cli.pipeline import exit_code, plain

    tree = model_tree(file, from_env=config_from_env)
    asked = Requested()
    described = asked.get(lambda: pipeline_of(tree))
    chosen = asked.get(lambda: processor_of(processor, processor_config))
    asked.check()
    # What is not given does not go before what the configuration says.
    given = {"output_dir": output_dir, "validate_outputs": validate_outputs, "force": force or None}
    settings = {name: value for name, value in given.items() if value is not None}
    model_run, what = described.model_run, chosen or described.postprocessor or "noop"
    _refuse_unknown(what, set(settings) - {"force"})
    result = while_watched(model_run, lambda: model_run.postprocess(what, **settings), watched=False, as_json=as_json)
    if as_json:
        stdout.write_json(plain(result))
    else:
        stdout.write_result("\n".join(_lines(result)))
    return left(exit_code(result))


def _refuse_unknown(processor: Any, settings: set[str]) -> None:
    """Raises UsageError for options that a configured postprocessor has no key for, and would not look at."""
    if not isinstance(processor, str) and (unknown := settings - set(type(processor).model_fields)):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(unknown))
        raise click.UsageError(f"{names}: postprocessor '{getattr(processor, 'type', processor)}' has no such setting")


def _lines(result: Mapping[str, Any]) -> list[str]:
    verdict = "completed" if result.get("success") else "failed"
    lines = [f"{verdict}  {result.get('run_id', '')}  {result.get('message', '')}".rstrip()]
    error = result.get("error")
    if error and str(error) not in lines[0]:
        lines.append(f"  {error}")
    shown = {"success", "run_id", "message", "error"}
    facts = [(name, value) for name, value in plain_items(result) if name not in shown]
    return [*lines, *([""] if facts else []), *(f"{name}: {value}" for name, value in facts)]


def plain_items(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What else a postprocessor says, where it fits on a line."""
    return [(name, value) for name, value in result.items() if isinstance(value, (str, int, float, bool))]
