"""Many runs at a time: all prepared before any is started, each with a session and a report of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, PreparationError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.context import ExecutionContext
    from osiris_core.prepared import PreparedRun
    from osiris_core.report import RunReport


def prepare_all(
    adapter: ExecutionAdapter, manifests: Sequence[Any], contexts: Sequence[ExecutionContext]
) -> list[PreparedRun]:
    """
    Every run, sealed.

    Raises:
        PreparationError: With the problems of all that cannot start, each with the number of its manifest.
    """
    prepared: list[PreparedRun] = []
    problems: list[Problem] = []
    for number, (manifest, context) in enumerate(zip(manifests, contexts, strict=True), start=1):
        try:
            prepared.append(adapter.prepare(manifest, context))
        except PreparationError as exc:
            problems += [_numbered(problem, number) for problem in exc.problems]
    if problems:
        raise PreparationError(problems)
    return prepared


def _numbered(problem: Problem, number: int) -> Problem:
    message = f"manifest {number}: {problem.message}"
    return Problem(message, problem.step_id, problem.key, problem.file, problem.line, problem.hint)


def run_all(
    adapter: ExecutionAdapter,
    runs: Sequence[tuple[PreparedRun, ExecutionContext]],
    at_a_time: int,
    cancel: Callable[[str], None],
    drop: Callable[[str], None],
) -> list[RunReport]:
    """
    The reports, in the order of the runs. Ctrl-C cancels all of them; their reports are written first.

    `drop` is told the session directory of a run that could not even begin.
    """
    with ThreadPoolExecutor(max_workers=min(at_a_time, len(runs)), thread_name_prefix="osiris-run") as pool:
        futures = [pool.submit(_run, adapter, prepared, context, drop) for prepared, context in runs]
        try:
            wait(futures)
        except BaseException:
            cancel("interrupted")
            raise
    return [future.result() for future in futures]


def _run(
    adapter: ExecutionAdapter, prepared: PreparedRun, context: ExecutionContext, drop: Callable[[str], None]
) -> RunReport:
    try:
        with suppress(ExecutionError):  # it is in the report
            adapter.execute(prepared, context)
    except BaseException:
        drop(context.session_dir)
        raise
    return adapter.collect(prepared, context)


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
