"""The one place that opens DuckDB: UTC, a memory limit, a private spill directory, stopped by a cancel."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable

    from osiris_core.step_context import StepContext

MIN_MEMORY_BYTES = 64 << 20
INTERRUPT_INTERVAL_S = 0.05
INTERRUPT_FOR_S = 60.0


def open_duckdb(
    ctx: StepContext, *, threads: int | None = None, locked: bool = True, errors_as_json: bool = False
) -> duckdb.DuckDBPyConnection:
    """
    A new in-memory database for one step.

    `locked`: SQL can reach nothing outside (no files but the step's own empty spill directory, no ATTACH to others,
    no extensions, no settings, no Python variables). Otherwise files may be read and written, settings changed.
    `errors_as_json`: errors carry what `read_fault` can tell in full (the position, the candidates).

    The connection lives as long as somebody holds it. A cancel of the step interrupts whatever it runs, and whatever
    it still starts, until it is closed.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": f"{max(ctx.memory_budget_bytes, MIN_MEMORY_BYTES)}B",
            # A directory of its own even within the step: SQL may write in it, and two connections must not meet.
            "temp_directory": tempfile.mkdtemp(prefix="duckdb-", dir=ctx.work_dir),
            "threads": threads or ctx.threads,
            "errors_as_json": errors_as_json,
            # Secrets stored in the home directory of whoever runs this are not the step's.
            "allow_persistent_secrets": False,
        }
    )
    connection.execute("SET TimeZone='UTC'")
    connection.execute("SET python_enable_replacements=false")
    if locked:
        # The order is DuckDB's: each of these closes the door that the one before still needed.
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
    ctx.on_cancel(_interrupter(connection))
    return connection


def _interrupter(connection: duckdb.DuckDBPyConnection) -> Callable[[], None]:
    """
    A cancel hook that interrupts `connection` until it is closed.

    Once is not enough: an interrupt between two statements is forgotten when the next one starts.
    """
    held = weakref.ref(connection)

    def interrupt_until_closed() -> None:
        give_up_s = time.monotonic() + INTERRUPT_FOR_S
        while time.monotonic() < give_up_s:
            target = held()
            if target is None:
                return
            try:
                target.interrupt()
            except duckdb.Error:
                return  # closed
            del target
            time.sleep(INTERRUPT_INTERVAL_S)

    def hook() -> None:
        # The hook of a step that is cancelled already runs in the step's own thread, which it must not hold up.
        threading.Thread(target=interrupt_until_closed, name="osiris-interrupt", daemon=True).start()

    return hook


@dataclass(frozen=True, slots=True)
class Fault:
    """
    What DuckDB says about an error.

    Attributes:
        kind: The error's family in DuckDB's words: `Binder`, `Catalog`, `Out of Memory`.
        message: What it says, without its family and without a drawn position.
        position: Where in the statement, in bytes of UTF-8; None when DuckDB does not say.
        length: How much of the statement it is about, in bytes.
        missing_table: The name of the table that does not exist, when that is the error.
        candidates: The names that DuckDB finds near.
    """

    kind: str
    message: str
    position: int | None = None
    length: int = 1
    missing_table: str | None = None
    candidates: tuple[str, ...] = ()


def read_fault(error: BaseException) -> Fault:
    """What an error of DuckDB says, be it raised by a statement or, as `OSError`, in the middle of an Arrow stream."""
    text = str(error)
    start = text.find("{")
    try:
        facts: Any = json.loads(text[start:]) if start >= 0 else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or "exception_message" not in facts:
        kind, separator, message = text.partition(" Error: ")
        return Fault(kind, message) if separator else Fault(type(error).__name__, text)
    position = facts.get("position")
    _, _, length = str(facts.get("location", "")).strip("[]").partition(",")
    return Fault(
        kind=str(facts.get("exception_type", "")),
        message=str(facts["exception_message"]),
        position=int(position) if position is not None else None,
        length=int(length) if length.isdigit() else 1,
        missing_table=facts.get("name") if facts.get("type") == "Table" else None,
        candidates=tuple(name.strip() for name in str(facts.get("candidates", "")).split(",") if name.strip()),
    )
