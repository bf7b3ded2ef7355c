"""What a dead controller's run still has elsewhere: reached through the adapter that it was run by, and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.collection import Run
from osiris_core.context import ExecutionContext
from osiris_core.earlier_run import EarlierRun
from osiris_core.errors import ConfigError, OsirisError
from osiris_core.factory import AdapterFactory
from osiris_core.session import made_elsewhere

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.session import Session


def adapter_of(earlier: EarlierRun) -> ExecutionAdapter:
    """
    An adapter as the run had it, with the settings that were written down.

    Raises:
        UnknownAdapter: It is not registered here, or AdapterNotInstalled: an extra is missing.
        ConfigError: The settings do not fit any more.
    """
    return AdapterFactory.create(earlier.adapter, **earlier.recorded.get("config", {}))


def end_place(session: Session, recorded: dict[str, Any]) -> None:
    """
    Of the run that is `recorded`, nothing is alive elsewhere on return, and its place is gone.

    Raises:
        OsirisError: That cannot be had now; `osiris runs gc` may find it later.
    """
    if not made_elsewhere(recorded):
        return
    earlier = EarlierRun(session.layout, recorded)
    try:
        adapter = adapter_of(earlier)
    except (
        ConfigError
    ):  # what was left out because it is secret, or an older version's: the place is found all the same
        adapter = AdapterFactory.create(earlier.adapter)
    run = Run(earlier.prepared, session, attached=True, extra=dict(recorded.get("facts", {})))
    context = ExecutionContext(session_id=session.session_id, session_dir=str(session.layout.root))
    adapter.abandon(run, context, recorded)


def end_earlier_attempt(session: Session) -> str | None:
    """
    End what an earlier attempt in a session still has elsewhere; what to say when that cannot be done.

    Also of an attempt that has a report: its controller may have given up a place that it could not reach. What that
    does from then on reaches nobody: its events and results are fetched by nobody any more.
    """
    recorded = session.earlier
    try:
        end_place(session, recorded)
    except OsirisError as exc:
        place = f"attempt {recorded.get('attempt')} on {recorded.get('adapter')}"
        return f"{place} may still be running: {exc} (osiris runs gc ends it; nothing of it is taken over)"
    return None
