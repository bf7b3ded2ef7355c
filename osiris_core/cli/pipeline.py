"""`osiris pipeline`: generate, run and postprocess a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import Duration, complete_adapters, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.models.pipeline_file import PipelineFile


_SETTINGS = {
    "cleanup_on_failure": "cleanup_on_failure",
    "postprocess_failure": "postprocess_failure",
    "timeout": "timeout_s",
}
"""What the options are to a pipeline backend."""


@click.command("pipeline", cls=Command)
@click.argument("file", required=False)
@click.option("--config-from-env", is_flag=True, help="Read $OSIRIS_CONFIG instead of FILE.")
@click.option("--pipeline-backend", metavar="NAME", help="What goes through the stages. [default: local]")
@click.option("--run-backend", metavar="NAME", shell_complete=complete_adapters, help="Where the model runs.")
@click.option("--config", "--backend-config", metavar="FILE", help="The run backend's configuration.")
@click.option("--processor", metavar="NAME", help="The postprocessor.")
@click.option("--processor-config", metavar="FILE", help="The postprocessor's configuration.")
@click.option("--env", metavar="NAME[=V]", multiple=True, help="Give the model's command a variable.")
@click.option("--timeout", type=Duration(), metavar="S", help="The longest the run may take: 90, 90s, 5m, 2h.")
@click.option("--cleanup-on-failure", is_flag=True, default=None, help="Remove the model's folder if the run fails.")
@click.option("--no-validate", is_flag=True, help="Do not check what a stage left before the next one begins.")
@click.option(
    "--postprocess-failure",
    type=click.Choice(["fail", "warn"]),
    help="What a failed postprocessor makes of the pipeline. [default: fail]",
)
@click.option("--force", is_flag=True, help="Go through every stage again, also what succeeded before.")
@json_option
def pipeline(file: str | None, config_from_env: bool, as_json: bool, **given: Any) -> int:
    """
    Generate, run and postprocess the model of FILE: a model run, or `config`, `backend` and `postprocessor` in one.

    What is given here goes before what the file says.

    \b
      osiris pipeline pipeline.yaml
      osiris pipeline model.yaml --run-backend local --processor-config archive.yaml
    """
    from osiris_core.cli.model_request import Requested, backend_of, model_tree, pipeline_of, processor_of
    from osiris_core.cli.model_run import left, while_watched

    tree = model_tree(file, from_env=config_from_env)
    asked = Requested()
    described: PipelineFile | None = asked.get(lambda: pipeline_of(tree))
    backend = asked.get(lambda: backend_of(given["run_backend"], given["config"], given["env"], described))
    processor = asked.get(lambda: processor_of(given["processor"], given["processor_config"]))
    asked.check()
    assert described is not None
    name, settings = _settings(described, backend, processor, given)
    _refuse_unknown(name, settings, set(described.options.settings), file)
    model_run = described.model_run
    result = while_watched(model_run, lambda: model_run.pipeline(name, **settings), watched=True, as_json=as_json)
    if as_json:
        stdout.write_json(plain(result))
    else:
        stdout.write_result("\n".join(pipeline_lines(result)))
    return left(exit_code(result, model_run))


def _settings(
    described: PipelineFile, backend: Any, processor: Any, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The pipeline backend, and what it is told: only what somebody said, so that its own defaults hold."""
    options = described.options
    written = {key: getattr(options, key) for key in options.model_fields_set - {"pipeline_backend", "settings"}}
    settings = {**written, **options.settings}
    chosen = {"run_backend": backend, "processor": processor or described.postprocessor}
    settings |= {key: found for key, found in chosen.items() if found is not None}
    for option, key in _SETTINGS.items():
        if given[option] is not None:
            settings[key] = given[option]
    if given["no_validate"]:
        settings["validate_stages"] = False
    if given["force"]:
        settings["force"] = True
    return given["pipeline_backend"] or options.pipeline_backend, settings


def _refuse_unknown(name: str, settings: Mapping[str, Any], written: set[str], file: str | None) -> None:
    """
    Raises ConfigError for settings that the pipeline backend has no parameter for; `written` are those of the file.

    Asking it here is asking before anything is done: a call would fail, or swallow them.
    """
    from osiris_core.errors import ConfigError, Problem
    from osiris_core.models.pipeline_file import settings_of, takes_any_setting
    from osiris_core.suggestion import did_you_mean

    if takes_any_setting(name):
        return
    known = settings_of(name)
    found = [
        Problem(
            f"pipeline backend '{name}' has no such setting",
            key=f"settings.{key}" if key in written else key,
            file=file if key in written else None,
            hint=did_you_mean(key, known),
        )
        for key in settings
        if key not in known
    ]
    if found:
        raise ConfigError(found)


def pipeline_lines(result: Mapping[str, Any]) -> list[str]:
    """What came of a pipeline, for people."""
    done = list(result.get("stages_completed") or [])
    timings = dict(result.get("timings") or {})
    verdict = "completed" if result.get("success") else "failed"
    lines = [f"{verdict}  {result.get('run_id')}  {', '.join(done) or 'no stage'} done", ""]
    rows = [(stage, "done", _took(timings, stage)) for stage in done]
    if result.get("stage"):
        rows = [row for row in rows if row[0] != result["stage"]]
        rows.append((str(result["stage"]), "failed", _took(timings, str(result["stage"]))))
    skipped = list(result.get("skipped") or [])
    rows = [(name, "done before" if name in skipped else state, took) for name, state, took in rows]
    lines += formatting.table(("stage", "", "time"), rows)
    if not result.get("success"):
        message, error = str(result.get("message") or ""), str(result.get("error") or "")
        said = [part for part in (message, error if error not in message else "") if part]
        lines += ["", ": ".join(said) or "it says no more"]
    after = result.get("postprocess_results")
    if isinstance(after, dict) and after.get("message"):
        lines += ["", f"postprocess  {after['message']}"]
    if result.get("staging_dir"):
        lines += ["", f"workspace    {result['staging_dir']}"]
    return lines


def _took(timings: Mapping[str, Any], stage: str) -> str:
    taken_ms = timings.get(f"{stage}_ms", timings.get(stage))
    return formatting.duration(taken_ms / 1000) if isinstance(taken_ms, (int, float)) else ""


def exit_code(result: Mapping[str, Any], model_run: Any = None) -> int:
    """The exit code of a pipeline or a postprocessor by what it says; by the model's run where that decided it."""
    if result.get("success"):
        return exits.COMPLETED
    last = model_run.last_result if model_run is not None and result.get("stage") == "run" else None
    after = result.get("postprocess_results") if result.get("stage") == "postprocess" else None
    decides = after if isinstance(after, dict) else result
    why = last.status if last is not None else decides.get("failure_class") or decides.get("status")
    return {"timeout": exits.TIMEOUT, "cancelled": exits.CANCELLED}.get(str(why), exits.FAILED)


def plain(result: Any) -> Any:
    """The same as JSON can hold: what is no JSON as its text."""
    import json

    return json.loads(json.dumps(result.to_json() if hasattr(result, "to_json") else dict(result), default=str))
