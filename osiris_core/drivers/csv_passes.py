"""
Reads a CSV in as many passes as its types need: one when the first block told the truth, else one or two more.

Blocks are parsed side by side and put back in order. What fits is held in memory, the rest is spilled while it is being
read, so that types are settled before anybody sees a row.
"""

from __future__ import annotations

import io
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import pyarrow as pa
import pyarrow.csv as pc

from osiris_core.drivers.csv_blocks import BLOCK_BYTES, BlockCutter, BrokenRecord, drop_comments_and_mark_blanks
from osiris_core.drivers.csv_encoding import open_utf8
from osiris_core.drivers.csv_header import python_reader, read_header
from osiris_core.drivers.csv_types import ColumnTyper, FixedTyper, Kind, join, named_type
from osiris_core.tables import Table, write_ipc

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from osiris_core.drivers.csv_extractor_config import CsvExtractorConfig
    from osiris_core.step_context import StepContext

SAMPLE_BYTES = 256 << 10
SHOWN_BAD_LINES = 20
_WHOLE_BLOCK = (1 << 31) - 1


class BadBlock(ValueError):
    """Arrow cannot parse the block of that number."""

    def __init__(self, message: str, block: int) -> None:
        super().__init__(message)
        self.block = block


class BadValue(ValueError):
    """A value does not fit the type that the user asked for."""

    def __init__(self, message: str, column: str, row: int) -> None:
        super().__init__(message)
        self.column, self.row = column, row


class _Widened(Exception):
    def __init__(self, kinds: dict[str, Kind]) -> None:
        self.kinds = kinds


@dataclass(frozen=True)
class _Parsed:
    arrays: list[Any]
    kinds: dict[str, Kind]
    skipped: int
    bad: tuple[str, int, str] | None
    """A column, the row in this block, and the text that does not fit its fixed type."""


class CsvPasses:
    """One file being read. `names` are all its columns."""

    def __init__(self, config: CsvExtractorConfig, ctx: StepContext) -> None:
        self._config, self._ctx = config, ctx
        self._pool = ThreadPoolExecutor(ctx.threads, "csv")
        self.names: list[str] = []
        self._line = 1
        self._rows = self._skipped = 0
        self._bad_blocks: list[int] = []
        self._kinds: dict[str, Kind] = {}

    def __enter__(self) -> Self:
        for _ in self._blocks():
            break
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self) -> Table:
        """The whole table, in memory if it is small, else spilled."""
        self._typers = self._make_typers()
        self._selected = self._config.columns or self.names
        kinds = dict.fromkeys(self._selected, Kind.EMPTY)
        for number, data in enumerate(islice(self._blocks(SAMPLE_BYTES), 1)):
            kinds = self._parse(number, data, kinds).kinds
        while True:
            try:
                return self._keep(kinds)
            except _Widened as widened:
                kinds = widened.kinds

    def report(self) -> None:
        """Tell the rows that were skipped, and the dates that are none."""
        if self._skipped:
            self._ctx.metric("rows_skipped", self._skipped)
        if self._skipped and self._config.on_bad_lines == "warn":
            shown = islice((item for block in self._bad_blocks for item in self.ragged(block)), SHOWN_BAD_LINES)
            for line, count in shown:
                self._ctx.log(f"line {line} skipped: {count} fields instead of {len(self.names)}", level="warning")
            self._ctx.log(f"{self._skipped} rows skipped", level="warning", rows_skipped=self._skipped)
        dates = self._config.parse_dates
        for name in dates if isinstance(dates, list) else ():
            if self._kinds.get(name) is Kind.TEXT:
                self._ctx.log(f"column {name!r} holds more than ISO 8601 dates and stays text", level="warning")

    def ragged(self, block: int, at_most: int = SHOWN_BAD_LINES) -> Iterator[tuple[int, int]]:
        """Line number and count of fields of the bad rows in one block; reads the file again up to it."""
        line = self._line
        for number, data in enumerate(self._blocks()):
            if number == block:
                yield from islice(self._ragged_in(data, line), at_most)
                return
            line += _lines(data)

    def line_of(self, error: BrokenRecord) -> int:
        """The line in the file at which `error` starts; reads the file again."""
        line = self._line
        try:
            for data in self._blocks():
                line += _lines(data)
        except BrokenRecord:
            pass
        return line + _lines(error.data[: error.offset_bytes])

    def _ragged_in(self, data: bytes, line: int) -> Iterator[tuple[int, int]]:
        dialect = self._config.dialect
        data = drop_comments_and_mark_blanks(data, dialect, len(self.names))
        reader, before = python_reader(io.StringIO(data.decode("utf-8", "replace"), newline=""), dialect), 0
        for fields in reader:
            if fields and len(fields) != len(self.names) and not (len(fields) == 1 and fields[0] in ("", "\r")):
                yield line + before, len(fields)
            before = reader.line_num

    def _blocks(self, block_bytes: int = BLOCK_BYTES) -> Generator[bytes, None, None]:
        config = self._config
        with closing(open_utf8(config.path, config.encoding, config.compression or "none")) as stream:
            header = read_header(stream, config.dialect, config.header, config.skip_rows or 0)
            self.names, self._line = header.names, header.line
            yield from BlockCutter(stream, config.dialect, header.rest, block_bytes)

    def _make_typers(self) -> dict[str, ColumnTyper | FixedTyper]:
        config = self._config
        na = config.na_values
        dates = config.parse_dates
        typers: dict[str, ColumnTyper | FixedTyper] = {}
        for name in config.columns or self.names:
            extra = na.get(name, []) if isinstance(na, Mapping) else [na] if isinstance(na, str) else na or []
            listed = isinstance(dates, list) and name in dates
            if config.dtype and name in config.dtype:
                typers[name] = FixedTyper(named_type(config.dtype[name]), extra)
            else:
                typers[name] = ColumnTyper(numbers=not listed, dates=listed or dates is True, extra_na=extra)
        return typers

    def _schema(self, kinds: dict[str, Kind]) -> pa.Schema:
        fields = []
        for name, typer in self._typers.items():
            fields.append(pa.field(name, typer.wanted if isinstance(typer, FixedTyper) else kinds[name].arrow))
        return pa.schema(fields)

    def _keep(self, kinds: dict[str, Kind]) -> Table:
        schema = self._schema(kinds)
        held: list[pa.RecordBatch] = []
        size_bytes = 0
        hold_bytes = self._ctx.memory_budget_bytes // 2
        with closing(self._batches(kinds, schema)) as batches:
            for batch in batches:
                held.append(batch)
                size_bytes += batch.nbytes
                if size_bytes > hold_bytes:
                    first = (held.pop(0) for _ in range(len(held)))
                    return write_ipc(self._ctx.work_dir / "csv.arrow", schema, chain(first, batches))
        return pa.Table.from_batches(held, schema)

    def _batches(self, kinds: dict[str, Kind], schema: pa.Schema) -> Generator[pa.RecordBatch, None, None]:
        """Batches of one pass. Once a type does not fit, the pass goes on only to learn what the next one needs."""
        self._rows = self._skipped = 0
        self._bad_blocks = []
        found, fits = dict(kinds), True
        size = self._config.chunk_size
        with closing(self._results(kinds)) as results:
            for number, parsed in enumerate(results):
                self._ctx.raise_if_cancelled()
                found = {name: join((kind, parsed.kinds[name])) for name, kind in found.items()}
                fits = fits and self._schema(found).equals(schema)
                batch_rows = len(parsed.arrays[0])
                room = batch_rows if self._config.limit is None else self._config.limit - self._rows
                self._check_values(parsed, room)
                self._rows += min(batch_rows, room)
                self._skipped += parsed.skipped
                if parsed.skipped:
                    self._bad_blocks.append(number)
                self._ctx.progress(self._rows)
                if fits:
                    batch = pa.RecordBatch.from_arrays(parsed.arrays, schema=schema)
                    for start in range(0, min(batch_rows, room), size):
                        yield batch.slice(start, min(size, room - start))
                if room <= batch_rows and self._config.limit is not None:
                    break
        if not fits:
            raise _Widened(found)
        self._kinds = found

    def _check_values(self, parsed: _Parsed, room: int) -> None:
        if parsed.bad and parsed.bad[1] < room:
            column, index, text = parsed.bad
            row = self._rows + index + 1
            wanted = (self._config.dtype or {})[column]
            raise BadValue(f"row {row}, column {column!r}: {text[:80]!r} is not {wanted}; check dtype", column, row)

    def _results(self, kinds: dict[str, Kind]) -> Generator[_Parsed, None, None]:
        waiting: deque[Future[_Parsed]] = deque()
        try:
            with closing(self._blocks()) as blocks:
                for number, data in enumerate(blocks):
                    waiting.append(self._pool.submit(self._parse, number, data, kinds))
                    if len(waiting) > self._ctx.threads + 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _parse(self, number: int, data: bytes, kinds: dict[str, Kind]) -> _Parsed:
        config, skipped = self._config, 0

        def skip(_: object) -> Literal["skip"]:
            nonlocal skipped
            skipped += 1
            return "skip"

        if config.comment or not config.skip_blank_lines:
            data = drop_comments_and_mark_blanks(data, config.dialect, len(self.names))
        if data.startswith(BOM_UTF8):
            data = BOM_UTF8 + data  # Arrow takes one away from whatever it reads; this one is text.
        try:
            table = pc.read_csv(
                cast("Any", pa.BufferReader(data)),
                read_options=pc.ReadOptions(use_threads=False, block_size=_WHOLE_BLOCK, column_names=self.names),
                parse_options=pc.ParseOptions(
                    delimiter=config.delimiter,
                    quote_char=config.quote or False,
                    escape_char=config.escape if config.escape and config.escape != config.quote else False,
                    newlines_in_values=True,
                    ignore_empty_lines=config.skip_blank_lines,
                    invalid_row_handler=None if config.on_bad_lines == "error" else skip,
                ),
                convert_options=pc.ConvertOptions(
                    include_columns=self._selected,
                    column_types=dict.fromkeys(self._selected, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as exc:
            raise BadBlock(str(exc), number) from exc
        # Rows behind the limit must not decide types.
        return self._typed(table if config.limit is None else table.slice(0, config.limit), kinds, skipped)

    def _typed(self, table: pa.Table, kinds: dict[str, Kind], skipped: int) -> _Parsed:
        arrays, found, bad = [], dict(kinds), None
        for name, typer in self._typers.items():
            column = table.column(name)
            texts: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            if isinstance(typer, ColumnTyper):
                found[name], array = typer.convert(texts, kinds[name])
                arrays.append(array)
                continue
            try:
                arrays.append(typer.convert(texts))
            except pa.ArrowInvalid:
                index = typer.first_bad(texts)
                bad = min(filter(None, (bad, (name, index, texts[index].as_py()))), key=lambda item: item[1])
                arrays.append(pa.nulls(len(texts), typer.wanted))
        return _Parsed(arrays, found, skipped, bad)


def _lines(data: bytes) -> int:
    return data.count(b"\n") or data.count(b"\r")
