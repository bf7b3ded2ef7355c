"""What is wrong with data is said in the same words, with the same place and hint, wherever a model is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from osiris_core import DriverRegistry, ExecutionContext, LocalAdapter, PreparationError
from osiris_core.models.settings import configured
from osiris_core.pydantic_words import Finding, findings
from osiris_core.testing import run_driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 1
    name: str

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int) -> int:
        if size < 0:
            raise ValueError("must not be negative")
        return size


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = ""
    inner: Inner | str | None = None
    several: dict[str, Inner | int] = {}
    rows: list[Inner] = []


DATA: dict[str, Any] = {
    "titel": "x",
    "title": 5,
    "inner": {"size": -1, "nmae": "x"},
    "several": {"a": {"name": 1}, "b": 2},
    "rows": [{"name": "x"}, {"name": "y", "size": "many"}],
}
FOUND = {
    "titel": ("there is no such key", "did you mean 'title'?"),
    "title": ("must be a text", None),
    "inner.name": ("is missing", None),
    "inner.size": ("must not be negative", None),
    "inner.nmae": ("there is no such key", "did you mean 'name'?"),
    "several.a.name": ("must be a text", None),
    "rows.1.size": ("Input should be a valid integer, unable to parse string as an integer", None),
}


class Takes:
    Config: ClassVar[type[BaseModel]] = Outer

    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None: ...


def by_findings(folder: Path) -> dict[str, tuple[str, str | None]]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(DATA)
    return {found.key: (found.message, found.hint) for found in findings(caught.value, DATA, Outer)}


def by_prepare(folder: Path) -> dict[str, tuple[str, str | None]]:
    DriverRegistry.register("w.takes", Takes)
    context = ExecutionContext(session_dir=str(folder / "session"))
    try:
        with pytest.raises(PreparationError) as caught:
            LocalAdapter().prepare({"steps": [{"id": "a", "driver": "w.takes", "config": DATA}]}, context)
    finally:
        DriverRegistry.unregister("w.takes")
    return _of(caught.value, "config.")


def by_settings(folder: Path) -> dict[str, tuple[str, str | None]]:
    with pytest.raises(PreparationError) as caught:
        configured(Outer, "outer", DATA)
    return _of(caught.value, "outer.")


def by_attempt(folder: Path) -> dict[str, tuple[str, str | None]]:
    with pytest.raises(PreparationError) as caught:
        run_driver(Takes, DATA, folder)
    return _of(caught.value, "config.")


def _of(error: PreparationError, prefix: str) -> dict[str, tuple[str, str | None]]:
    return {str(problem.key).removeprefix(prefix): (problem.message, problem.hint) for problem in error.problems}


@pytest.mark.parametrize("told", [by_findings, by_prepare, by_settings, by_attempt])
def test_the_same_words(tmp_path: Path, told: Callable[[Path], dict[str, tuple[str, str | None]]]) -> None:
    """By whoever asks: each place once, without the members of unions that pydantic tried."""
    assert told(tmp_path) == FOUND


def test_what_is_wrong_with_the_whole() -> None:
    """It has no place, and is said beside what has one."""

    class Whole(BaseModel):
        a: int

    with pytest.raises(ValidationError) as caught:
        Whole.model_validate("x")
    assert findings(caught.value, "x", Whole) == [Finding((), "must be a mapping")]
