"""One write into a table, from the look at the table to the commit: the same for every family of databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

import pyarrow as pa

from osiris_core.drivers.sql_content import plain_batches, plain_type
from osiris_core.drivers.sql_digest import content_digest
from osiris_core.drivers.sql_errors import DatabaseFailed
from osiris_core.drivers.sql_marker import already_written, lost_commit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.sql_marker import MarkerStore
    from osiris_core.drivers.sql_writer_config import SqlWriterConfig
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table

TargetT = TypeVar("TargetT")
ColumnT = TypeVar("ColumnT")


class TableLoad(ABC, Generic[TargetT, ColumnT]):
    """`run` once, in a session whose transaction has done nothing yet; it is committed on return."""

    def __init__(self, config: SqlWriterConfig, table: Table, ctx: StepContext) -> None:
        self.config = config
        self.table = table
        self.ctx = ctx
        self.schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in table.schema])

    def run(self) -> int:
        """
        Write all rows, or find that an earlier try of this step did; the number that the server counted.

        Raises:
            DatabaseFailed: Nothing was written; or (`PROTOCOL`) whether it was is not known.
        """
        self._check_names()
        target, place = self.find_target()
        columns = self.match(target)
        marks = self.config.write_mode == "append" and self.config.exactly_once
        if marks:
            markers = self.markers(target)
            marker = markers.claim(self.ctx.run_key, self.ctx.step_id, place)
            if marker is not None:
                return already_written(marker, place, self.table, self.ctx)
        rows = self.write(target, columns)
        if marks:
            markers.complete(self.ctx.run_key, self.ctx.step_id, rows, content_digest(self.table))
        self.ctx.raise_if_cancelled()
        try:
            self.commit()
        except DatabaseFailed as exc:
            raise lost_commit(exc, repeatable=marks or self.config.write_mode != "append") from None
        return rows

    def _check_names(self) -> None:
        names = self.schema.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DatabaseFailed(f"the input has more than one column {twice[0]!r}", details={"column": twice[0]})
        if not names:
            raise DatabaseFailed("the input has no columns")
        if self.config.write_mode == "upsert" or self.config.create_if_missing:
            for name in self.config.primary_key or ():
                if name not in names:
                    message = f"primary_key: the input has no column {name!r}; it has: {', '.join(names[:30])}"
                    raise DatabaseFailed(message, details={"column": name})

    def batches(self) -> Iterator[pa.RecordBatch]:
        """
        The rows in plain types, as they are sent.

        Raises:
            DatabaseFailed: A row of an upsert has no key. No key is equal to it: each try would add that row once more.
        """
        keys = self.config.primary_key or () if self.config.write_mode == "upsert" else ()
        rows = 0
        for batch in plain_batches(self.table, self.config.batch_size):
            self.ctx.raise_if_cancelled()
            for name in keys:
                if batch.column(name).null_count:
                    raise DatabaseFailed(
                        f"primary_key: column {name!r} is null in a row, which is then no row that an upsert can find",
                        remedy="leave such rows out, or append them",
                        details={"column": name},
                    )
            yield batch
            rows += batch.num_rows
            self.ctx.progress(rows, self.table.num_rows)

    @abstractmethod
    def find_target(self) -> tuple[TargetT, str]:
        """The table, made where that was asked for, and its name with its schema."""

    @abstractmethod
    def match(self, target: TargetT) -> list[ColumnT]:
        """How each column of the input is written."""

    @abstractmethod
    def markers(self, target: TargetT) -> MarkerStore:
        """The marker table beside the target; it is there on return."""

    @abstractmethod
    def write(self, target: TargetT, columns: list[ColumnT]) -> int:
        """Write the rows as the mode says; the number that the server counted."""

    @abstractmethod
    def commit(self) -> None: ...


def not_there(error: DatabaseFailed) -> DatabaseFailed:
    """The error for a table that is missing, with the way to make it."""
    return error.with_remedy(f"{error.remedy}; or set create_if_missing: true")


def administrators_remedy(statement: str) -> str:
    return f"let an administrator make it: {' '.join(statement.split())}; or set exactly_once: false"
