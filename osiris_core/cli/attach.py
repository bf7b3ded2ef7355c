"""`osiris runs attach`: go on with a run whose controller is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import complete_sessions, json_option, root_option

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.earlier_run import EarlierRun


@click.command("attach", cls=Command)
@click.argument("name", metavar="[ID]", default="latest", shell_complete=complete_sessions)
@root_option
@click.option("--config", metavar="FILE", help="The adapter's configuration, instead of what was written down.")
@click.option("--env", metavar="NAME[=V]", multiple=True, help="A declared variable's value, to mask it here too.")
@click.option("--connections", metavar="FILE", help="The connections file, for the values in it.")
@click.option("-v", "--verbose", is_flag=True, help="Log every phase, step and transfer.")
@json_option
def attach(
    name: str,
    root: str | None,
    config: str | None,
    env: tuple[str, ...],
    connections: str | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """
    Go on with a run whose controller is dead: follow it to its end, fetch its results, print its report.

    A run that is over: its report again. Where the steps ran in the dead process itself (adapter local), a new attempt
    takes over what they finished. ID is a session id, the beginning of one, a session directory, or `latest`.
    """
    from osiris_core.cli.request import environment_of
    from osiris_core.cli.sessions import find_session, sessions_root
    from osiris_core.cli.supervision import conclude, supervise
    from osiris_core.context import ExecutionContext
    from osiris_core.earlier_run import EarlierRun
    from osiris_core.errors import NotAttached, PreparationError, Problem
    from osiris_core.journal import read_events

    if verbose:
        from osiris_core.cli.log_output import configure_logs

        configure_logs("text", debug=True)
    problems: list[Problem] = []
    values, public = environment_of(env, problems)
    if problems:
        raise PreparationError(problems)
    session = find_session(sessions_root(root), name)
    earlier = EarlierRun.read(session.layout.root)
    adapter = adapter_for(earlier, config)
    session_dir = str(earlier.layout.root)
    context = ExecutionContext(
        session_dir=session_dir,
        verbose=verbose,
        environment=values,
        public_environment=public,
        connections=connections,
    )
    attempt = earlier.recorded["attempt"]
    told: list[dict[str, Any]] = []
    if earlier.report is None:
        told = [event for event in read_events(earlier.layout.events_file) if event["attempt"] == attempt]
    try:
        report = supervise(
            adapter,
            session_dir,
            lambda: adapter.attach(session_dir, context),
            watched=not verbose and earlier.report is None,
            as_json=as_json,
            before=told,
        )
    except NotAttached as exc:
        return not_attached(exc, as_json=as_json)
    except OSError as exc:
        return exits.report_lost(exc, as_json=as_json)
    return conclude(report, as_json=as_json, optioned=connections is not None)


def adapter_for(earlier: EarlierRun, config: str | None = None) -> ExecutionAdapter:
    """The adapter that a run was asked of, with the settings in the file `config` or those that it had."""
    from osiris_core.errors import ConfigError, Problem
    from osiris_core.orphans import adapter_of

    if config is not None:
        from osiris_core.cli.options import RunOptions
        from osiris_core.cli.request import configured_adapter

        return configured_adapter(RunOptions("", adapter=earlier.adapter, config=config))
    try:
        return adapter_of(earlier)
    except ConfigError as exc:
        hint = "what is secret was not written down; give the configuration with --config"
        message = "the settings that the run had cannot be used"
        raise ConfigError([*exc.problems, Problem(message, file=str(earlier.layout.run_file), hint=hint)]) from None


def not_attached(error: Exception, *, as_json: bool) -> int:
    """Say that a run's place could not be asked, and that nothing was changed; return the exit code."""
    stdout.say(f"osiris: {error}")
    if as_json:
        described = {"type": type(error).__name__, "message": str(error), "failure_class": "infra_lost"}
        stdout.write_json({"status": "orphaned", "error": described})
    return exits.FAILED
