"""`osiris run --model-run`: a model instead of a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import exits, formatting, stdout
from osiris_core.cli.model_request import Requested, backend_of, model_tree, pipeline_of, workspace_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from osiris_core.cli.options import RunOptions

_UNUSED = (
    *("param", "connections", "base_dir", "session_dir", "out", "resume"),
    *("max_parallel", "memory_budget", "keep_going", "checkpoint", "trace_rpc", "debug_step"),
)
"""Options of a manifest; a model run has its own ways for what they do, or none."""


def refuse_manifest_options(ctx: click.Context) -> None:
    """Raises UsageError if one is given that a model run would ignore."""
    given = [name for name in _UNUSED if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{names}: for manifests only, not with --model-run")


def run_model(
    options: RunOptions,
    file: str | None,
    *,
    from_env: bool,
    dry_run: bool,
    skip_generate: bool,
    logged: bool,
    as_json: bool,
) -> int:
    """Run the model of a file and say what came of it; the exit code."""
    if dry_run and skip_generate:
        raise click.UsageError("--dry-run and --skip-generate exclude each other: one only generates, one does not")
    tree = model_tree(file, from_env=from_env)
    asked = Requested()
    described = asked.get(lambda: pipeline_of(tree))
    model_run: Any = described.model_run if described is not None else None
    backend = asked.get(lambda: backend_of(options.adapter, options.config, options.env, described)) or "local"
    workspace = asked.get(lambda: workspace_of(model_run)) if skip_generate and model_run is not None else None
    asked.check()
    if dry_run:
        return _generate(model_run, as_json=as_json)

    def work() -> Any:
        return model_run.execute(backend, workspace, timeout_s=options.timeout)

    result = while_watched(model_run, work, watched=not logged, as_json=as_json, logged=logged)
    if as_json:
        stdout.write_json(result.to_json())
    else:
        stdout.write_result("\n".join(result_lines(result)))
    if result.phase in ("generate", "prepare") and result.failure_class == "user_error":
        return exits.BAD_INPUT  # nothing was started
    return left(exits.EXIT_CODES[result.status])


def while_watched(
    model_run: Any, work: Callable[[], Any], *, watched: bool, as_json: bool, logged: bool = False
) -> Any:
    """What `work` returns; shown or logged while it lasts, and stopped by the signals that stop a run."""
    import logging

    from osiris_core.cli.signals import StopSignals, leave_at_once
    from osiris_core.cli.supervision import watching
    from osiris_core.context import ExecutionContext
    from osiris_core.journal import JOURNAL_NAME
    from osiris_core.logs import follow_verbosely
    from osiris_core.models.one_step import cancel_at_work
    from osiris_core.models.subject import session_dir

    # What it says to the caller's own logging is in the result, which is printed.
    logging.getLogger("osiris").addHandler(logging.NullHandler())
    place = str(session_dir(model_run))
    context = ExecutionContext(session_dir=place, verbose=logged)
    with (
        watching(place, watched=watched),
        follow_verbosely(session_dir(model_run) / JOURNAL_NAME, context),
        StopSignals(cancel_at_work, lambda: leave_at_once(place, as_json=as_json)),
    ):
        return work()


def left(code: int) -> int:
    """
    `code`; after a run that was stopped, leaves with it now, and with nothing that was started still alive.

    A run backend of somebody else's is called in a thread, which nobody can end.
    """
    if code in (exits.TIMEOUT, exits.CANCELLED):
        from osiris_core.cli.signals import kill_descendants

        kill_descendants()
        stdout.leave(code)
    return code


def result_lines(result: Any, limit: int | None = 20) -> list[str]:
    """What came of a model run, for people."""
    from osiris_core.models.log import tail_of

    seconds = formatting.duration(result.timings.get("wall_ms", 0.0) / 1000)
    lines = [f"{result.status}  {result.run_id}  on {result.backend}  {seconds}"]
    if not result.success:
        reason = f"{result.failure_class}: " if result.failure_class else ""
        lines += ["", f"{reason}{result.error}"]
        if tail := tail_of(result.stderr_log):
            lines += [f"  {line}" for line in tail.splitlines()[-12:]]
    lines += [f"warning: {warning}" for warning in result.warnings]
    if result.artifacts:
        total = formatting.size(sum(item.size_bytes for item in result.artifacts))
        lines += ["", f"{formatting.count(len(result.artifacts), 'files')} made or changed, {total}"]
        lines += [f"  {item.path}  {formatting.size(item.size_bytes)}" for item in result.artifacts[:limit]]
        if limit is not None and len(result.artifacts) > limit:
            lines.append(f"  … and {len(result.artifacts) - limit} more")
    lines += ["", f"workspace  {result.workspace}"]
    return [*lines, f"session    {result.session_dir}"] if result.session_dir else lines


def _generate(model_run: Any, *, as_json: bool) -> int:
    from pathlib import Path

    from osiris_core.errors import PreparationError, Problem
    from osiris_core.models.exclusion import alone_in_workspace

    try:
        with alone_in_workspace(model_run):
            workspace = Path(model_run.generate())
    except OSError as exc:
        message = f"the workspace cannot be written: {exc.strerror or exc}"
        raise PreparationError([Problem(message, key="output_dir", file=str(model_run.staging_dir))]) from exc
    files = list(_files(workspace))
    if as_json:
        found = [{"path": str(path.relative_to(workspace)), "size_bytes": path.stat().st_size} for path in files]
        stdout.write_json(
            {"status": "generated", "run_id": model_run.run_id, "workspace": str(workspace), "files": found}
        )
        return exits.COMPLETED
    lines = [f"generated  {model_run.run_id}  {formatting.count(len(files), 'files')}; nothing was run", ""]
    lines += [f"  {path.relative_to(workspace)}  {formatting.size(path.stat().st_size)}" for path in files[:20]]
    lines += [f"  … and {len(files) - 20} more"] if len(files) > 20 else []
    stdout.write_result("\n".join([*lines, "", f"workspace  {workspace}"]))
    return exits.COMPLETED


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
