"""`osiris run`."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, json_option, run_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.cli.progress import View
    from osiris_core.cli.request import Request
    from osiris_core.report import RunReport

_REPEATED = ("adapter", "config", "param", "env", "connections", "base_dir", "out")
"""Options without which a resumed run would be another one."""


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

    request = make_request(RunOptions(manifest, **options), verbose=logs, trace_rpc=trace_rpc, debug_step=debug_step)
    if request.notice:
        stdout.say(f"osiris: {request.notice}")
    try:
        report = _run(request, watched=not logs and debug_step is None, as_json=as_json)
    except OSError as exc:
        return exits.report_lost(exc, as_json=as_json)
    if as_json:
        stdout.write_json(report.to_json())
    else:
        from osiris_core.cli.summary import run_summary

        stdout.write_result(run_summary(report, manifest, optioned=any(options[name] for name in _REPEATED)))
    code = exits.EXIT_CODES[report.status]
    if report.status in ("cancelled", "timeout") or any(step["abandoned"] for step in report.steps):
        # A thread that a step left inside a library would abort the process while Python shuts down.
        stdout.leave(code)
    return code


def _run(request: Request, *, watched: bool, as_json: bool) -> RunReport:
    from osiris_core.cli.signals import StopSignals, kill_descendants, leave_at_once
    from osiris_core.errors import OsirisError, PreparationError, Problem

    session_dir = request.context.session_dir
    with (
        watching(session_dir, watched=watched),
        StopSignals(request.adapter.cancel, lambda: leave_at_once(session_dir, as_json=as_json)),
    ):
        try:
            return request.adapter.run(request.manifest, request.context)
        except OsirisError:
            raise
        except BaseException as exc:
            kill_descendants()  # nobody is left who would stop what the steps started
            if not isinstance(exc, OSError) or _is_ours(session_dir):
                raise
            message = f"the session directory cannot be used: {exc.strerror or exc}"
            raise PreparationError([Problem(message, key="--session-dir", file=session_dir)]) from exc


def _is_ours(session_dir: str) -> bool:
    """Whether a run of this process got as far as writing down what it is about to do."""
    from osiris_core.session import SessionLayout, read_json

    return (read_json(SessionLayout(Path(session_dir)).run_file) or {}).get("pid") == os.getpid()


@contextmanager
def watching(session_dir: str, *, watched: bool) -> Iterator[None]:
    """While the block runs, show the run on standard error: live on a terminal, as plain lines elsewhere."""
    if not watched:
        yield
        return
    from osiris_core.logs import JournalFollower
    from osiris_core.session import SessionLayout

    view = _view(session_dir)

    def sink(event: dict[str, Any]) -> None:
        # Nothing that goes wrong with a picture of the run may hurt the run, or leave a traceback.
        try:
            view.event(event)
        except Exception as exc:  # noqa: BLE001
            stdout.say(f"osiris: cannot show {event.get('event')}: {exc!r}")

    follower = JournalFollower(SessionLayout(Path(session_dir)).events_file, sink).start()
    try:
        yield
    finally:
        follower.stop()
        view.close()


def _view(session_dir: str) -> View:
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from osiris_core.cli.live_view import LiveView

        return LiveView(session_dir, transient=stdout.result_is_terminal())
    from osiris_core.cli.progress import PlainLines

    return PlainLines(session_dir)
