"""The driver `filesystem.csv_extractor`: its checks, and the errors that people see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.drivers.csv_blocks import BrokenRecord
from osiris_core.drivers.csv_encoding import UnreadableText, find_bad_utf8
from osiris_core.drivers.csv_extractor_config import CsvExtractorConfig
from osiris_core.drivers.csv_passes import BadBlock, BadValue, CsvPasses
from osiris_core.errors import StepError
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.step_context import StepContext
    from osiris_core.tables import Table


class CsvExtractor:
    """
    Reads a CSV file into the table `df`.

    Types are int64, float64, bool, else text; dates only in `parse_dates`. They hold for the whole file: a column
    whose last row does not fit becomes wider (int to float to text), no digit is lost. Numbers written as 007 or
    +420 stay text, and so do integers beyond 64 bits. NA, null and the other tokens of pandas are nulls in columns
    of numbers and bools and stay as they are in text. An empty field is null, a quoted empty one is an empty text.
    """

    Config = CsvExtractorConfig
    version = "1"
    deterministic = True
    repeatable = True
    needs_network = False
    takes_inputs = "none"
    example = """\
- id: extract-orders
  driver: filesystem.csv_extractor
  config:
    path: data/orders.csv
    parse_dates: [ordered_at]
"""

    @classmethod
    def output_names(cls, config: Any) -> frozenset[str]:  # noqa: ARG003 - the contract's
        return frozenset({"df"})

    def run(
        self,
        step_id: str,
        config: CsvExtractorConfig,
        inputs: Mapping[str, Any],  # noqa: ARG002 - the contract's
        ctx: StepContext,
    ) -> dict[str, Any]:
        table = read_csv(step_id, config, ctx)
        ctx.metric("rows_read", table.num_rows)
        return {"df": table}


def read_csv(step_id: str, config: CsvExtractorConfig, ctx: StepContext) -> Table:
    """
    The table in a CSV file, in memory or spilled to the step's work directory.

    Raises:
        StepError: It cannot be read as such, with the line where that shows.
    """
    name = Path(config.path).name

    def fail(message: str, **details: Any) -> StepError:
        return StepError(f"{name}: {message}", step_id=step_id, details={"file": name, **details})

    if not Path(config.path).is_file():
        raise fail("is a directory" if Path(config.path).exists() else "no such file")
    passes = CsvPasses(config, ctx)
    try:
        with passes:
            _check_names(config, passes.names, fail)
            table = passes.read()
            passes.report()
    except BadValue as exc:
        raise fail(str(exc), column=exc.column, row=exc.row) from exc
    except BrokenRecord as exc:
        raise fail(f"line {passes.line_of(exc)}: {exc}") from exc
    except UnreadableText as exc:
        raise fail(str(exc)) from exc
    except BadBlock as exc:
        raise fail(_explain(config, passes, exc)) from exc
    return table


def _explain(config: CsvExtractorConfig, passes: CsvPasses, error: BadBlock) -> str:
    if "UTF8" in str(error) and (where := find_bad_utf8(config.path, config.compression or "none")):
        return where
    ragged = next(passes.ragged(error.block, 1), None)
    if ragged is None:
        return str(error)
    line, count = ragged
    return (
        f"line {line}: {count} fields, the header has {len(passes.names)}; "
        f"repair the line, check `delimiter` and `quote`, or set on_bad_lines: warn"
    )


def _check_names(config: CsvExtractorConfig, names: list[str], fail: Any) -> None:
    by_column = list(config.na_values) if isinstance(config.na_values, Mapping) else []
    dates = config.parse_dates if isinstance(config.parse_dates, list) else []
    for key, wanted in (
        ("columns", config.columns or []),
        ("parse_dates", dates),
        ("dtype", list(config.dtype or {})),
        ("na_values", by_column),
    ):
        for column in wanted:
            if column not in names:
                hint = did_you_mean(column, names) or f"the file has: {', '.join(names[:20])}"
                raise fail(f"{key}: no column {column!r}; {hint}", column=column)
