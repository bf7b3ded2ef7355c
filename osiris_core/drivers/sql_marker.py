"""
The row by which a later try knows that an append was committed.

It is written first, in the transaction of the rows: a second writer of the same step waits there until the first one's
transaction is over, at the server, whoever started it and whether or not that one still lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from osiris_core.drivers.sql_digest import content_digest
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.errors import FailureClass

if TYPE_CHECKING:
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table

MARKER_TABLE = "osiris_writes"


@dataclass(frozen=True)
class Marker:
    """What a committed write left: where, how many rows the server counted, and the digest of what was written."""

    target: str
    rows: int
    content: str


class MarkerStore(Protocol):
    """The marker table of one server, in the transaction that is open."""

    def claim(self, run_key: str, step_id: str, target: str) -> Marker | None:
        """Leave the row, or return the one that is there. Waits for a transaction that has it and is not over."""
        ...

    def complete(self, run_key: str, step_id: str, rows: int, content: str) -> None:
        """Say in the row what was written."""
        ...


def already_written(marker: Marker, target: str, table: Table, ctx: StepContext) -> int:
    """
    How many rows an earlier try of this step wrote: they are the same as those of `table`.

    Raises:
        DatabaseFailed: It wrote others. Adding these would be neither once nor what was asked for.
    """
    if marker.target == target and marker.content == content_digest(table):
        message = "an earlier try of this step wrote these rows already; they are not written again"
        ctx.log(message, rows=marker.rows, table=target)
        return marker.rows
    raise DatabaseFailed(
        f"an earlier try of this step in this run wrote {marker.rows} other rows to {marker.target}",
        remedy="they are there still, and these are not written beside them: look at the table and remove what is not "
        "to stay; a run in a new session then adds its rows to what is there",
        details={"rows": marker.rows},
    )


def lost_commit(error: DatabaseFailed, *, repeatable: bool) -> DatabaseFailed:
    """
    The failure when the answer to a commit did not come: whether rows were written is not known here.

    Tried again only where a second try finds out, or does no harm.
    """
    if repeatable or not error.is_lost:
        return error
    return DatabaseFailed(
        f"the answer to the commit was lost, so whether the rows are written is not known: {error.args[0]}",
        FailureClass.PROTOCOL,
        code=error.code,
        remedy="look into the table before you run this again; with exactly_once: true a retry finds out by itself",
    )
