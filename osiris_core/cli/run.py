"""`osiris run`."""

from __future__ import annotations

import sys
from typing import Any

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, json_option, run_options

_REPEATED = ("adapter", "config", "param", "env", "connections", "base_dir", "out")
"""Options without which a resumed run would be another one."""


@click.command(cls=Command)
@click.argument("manifest")
@run_options
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Log every event on standard error instead.")
@click.option("--trace-rpc", metavar="FILE", help="Append every message to and from the worker to FILE, masked.")
@click.option("--debug-step", metavar="ID", help="Stop in a debugger when this step starts; needs a terminal.")
@click.option("-v", "--verbose", is_flag=True, help="Log every phase, step and transfer.")
@json_option
def run(
    manifest: str,
    log_format: Any,
    trace_rpc: str | None,
    debug_step: str | None,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """
    Run MANIFEST and print what came of it.

    Everything of the run is kept in its session directory: the report, the events and the artifacts.

    \b
      osiris run manifest.yaml
      osiris run manifest.yaml --param day=2026-11-20 --env API_TOKEN --out results
      osiris run manifest.yaml --resume --timeout 2h
    """
    from osiris_core.cli.request import make_request
    from osiris_core.cli.supervision import conclude, supervise

    logs = verbose or log_format is not None
    if logs:
        from osiris_core.cli.log_output import configure_logs

        configure_logs(log_format or "text", debug=verbose)
    if debug_step is not None and not sys.stdin.isatty():
        raise click.UsageError("--debug-step needs a terminal: the debugger reads what you type")
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
    return conclude(report, manifest, as_json=as_json, optioned=any(options[name] for name in _REPEATED))
