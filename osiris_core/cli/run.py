"""`osiris run`."""

from __future__ import annotations

import sys
from typing import Any

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, json_option, run_options

_NOT_WRITTEN_DOWN = ("param", "connections", "base_dir")
"""Options without which a resumed run would be another one, and that its session does not have."""


@click.command(cls=Command)
@click.argument("manifest", required=False)
@click.option("--model-run", metavar="FILE", help="Run a model instead of a manifest.")
@click.option("--config-from-env", is_flag=True, help="Read the model run from $OSIRIS_CONFIG.")
@click.option("--dry-run", is_flag=True, help="With --model-run: generate the inputs and run nothing.")
@click.option("--skip-generate", is_flag=True, help="With --model-run: run in the workspace that is there.")
@run_options
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Log every event on standard error instead.")
@click.option("--trace-rpc", metavar="FILE", help="Append every message to and from the worker to FILE, masked.")
@click.option("--debug-step", metavar="ID", help="Stop in a debugger when this step starts; needs a terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Log every phase, step and transfer.")
@json_option
def run(
    manifest: str | None,
    model_run: str | None,
    config_from_env: bool,
    dry_run: bool,
    skip_generate: bool,
    log_format: Any,
    trace_rpc: str | None,
    debug_step: str | None,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """
    Run MANIFEST, or a model, and print what came of it.

    Everything of the run is kept in its session directory: the report, the events and the artifacts.

    \b
      osiris run manifest.yaml
      osiris run manifest.yaml --param day=2026-11-20 --env API_TOKEN --out results
      osiris run manifest.yaml --resume --timeout 2h
      osiris run --model-run model.yaml --config docker.yaml
    """
    logs = verbose or log_format is not None
    if logs:
        from osiris_core.cli.log_output import configure_logs

        configure_logs(log_format or "text", debug=verbose)
    if model_run is not None or config_from_env:
        from osiris_core.cli.model_run import refuse_manifest_options, run_model

        if manifest is not None:
            raise click.UsageError("give a MANIFEST or a model run, not both")
        refuse_manifest_options(click.get_current_context())
        asked = RunOptions("", **options)
        how = {"from_env": config_from_env, "dry_run": dry_run, "skip_generate": skip_generate}
        return run_model(asked, model_run, **how, logged=logs, as_json=as_json)
    if manifest is None:
        raise click.UsageError("give a MANIFEST, or a model by --model-run FILE")
    if dry_run or skip_generate:
        raise click.UsageError("--dry-run and --skip-generate are for models (--model-run); see osiris plan")
    if debug_step is not None and not sys.stdin.isatty():
        raise click.UsageError("--debug-step needs a terminal: the debugger reads what you type")
    from osiris_core.cli.request import make_request
    from osiris_core.cli.supervision import conclude, supervise

    request = make_request(RunOptions(manifest, **options), verbose=logs, trace_rpc=trace_rpc, debug_step=debug_step)
    if request.notice:
        stdout.say(f"osiris: {request.notice}")
    try:
        report = supervise(
            request.adapter,
            request.context.session_dir,
            lambda: request.adapter.run(request.manifest, request.context),
            watched=not logs and debug_step is None,
            as_json=as_json,
        )
    except OSError as exc:
        return exits.report_lost(exc, as_json=as_json)
    return conclude(report, as_json=as_json, optioned=any(options[name] for name in _NOT_WRITTEN_DOWN))
