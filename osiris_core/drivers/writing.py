"""What every driver that writes one table to one file has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.errors import StepError
from osiris_core.tables import Table, is_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def only_table(inputs: Mapping[str, Any], step_id: str) -> Table:
    """
    The one table among the inputs, whatever it is called.

    Raises:
        StepError: There is none or more than one, with their names.
    """
    tables = {name: value for name, value in inputs.items() if is_table(value)}
    if len(tables) == 1:
        found: Table = next(iter(tables.values()))
        return found
    if tables:
        raise StepError(f"writes one table, the step has {len(tables)}: {', '.join(sorted(tables))}", step_id=step_id)
    named = f"; its inputs are: {', '.join(sorted(inputs))}" if inputs else "; name one under `inputs`"
    raise StepError(f"needs one input table and has none{named}", step_id=step_id)


def make_folder_of(path: Path, step_id: str, *, create_dirs: bool) -> None:
    """
    See that the folder of `path` is there.

    Raises:
        StepError: It is not, and `create_dirs` says not to make it.
    """
    if create_dirs:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.parent.is_dir():
        message = f"{path.name}: the folder {path.parent.name!r} does not exist; set create_dirs: true"
        raise StepError(message, step_id=step_id)
