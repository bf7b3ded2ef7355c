"""What a pipeline does not repeat: only what is asked for exactly as before, and has left what is still there."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import OrderedDict
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, SecretStr

from osiris_core import ModelRun, run_pipeline
from osiris_core.backends import ArchivePostprocessorConfig, BasePostprocessorConfig
from osiris_core.models.description import NotDescribable, described, digest_of

ALL = ["generate", "run", "postprocess"]


class Grid(Enum):
    COARSE = 1
    FINE = 2


class Writes:
    """A model in Python that writes down the value it was made with."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def run(self, _: Any) -> bool:
        Path("outputs/o").write_text(repr(self.value))
        return True


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


PAIRS = [
    (datetime(2020, 1, 1), datetime(2024, 1, 1)),
    (Decimal(1), Decimal(2)),
    (1, True),
    (1, 1.0),
    (b"a", b"b"),
    ({1, 2}, {1, 3}),
    ([1], (1,)),
    (Grid.COARSE, Grid.FINE),
    (OrderedDict(a=1), OrderedDict(a=2)),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (functools.partial(int, base=2), functools.partial(int, base=8)),
    (Slots(1), Slots(2)),
    (pa.array([1, 2]), pa.array([1, 3])),
    (Path("a"), Path("b")),
    (float("nan"), float("inf")),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda value: repr(value)[:30])
def test_another_value_is_another_wish(tmp_path: Path, one: Any, other: Any) -> None:
    """Whatever it is: in a model's parameters, in an object that runs it, and in one that processes its outputs."""
    seen = []
    for value in (one, other, other):
        run = ModelRun(run_id="m", output_dir=tmp_path, parameters={"v": value}, config=Writes(value))
        found = run.pipeline()
        assert found.success, found.error
        seen.append((found["skipped"], (tmp_path / "m/INPUT").read_text(), (tmp_path / "m/outputs/o").read_text()))
    assert [skipped for skipped, _, _ in seen] == [[], [], ALL]
    assert repr(other) == seen[1][2]


def test_it_is_told_alike_everywhere() -> None:
    """Two equal things that were made apart are one wish; so is a circle, and what is only a name for the same."""

    def made() -> list[Any]:
        ring = Writes({"a": {"x", "y", "z"}})
        ring.value["self"] = ring
        return [*(one for one, _ in PAIRS), ring, logging.getLogger("x")]

    assert digest_of(described(made()), "") == digest_of(described(made()), "")


def test_code_counts_with_all_it_refers_to() -> None:
    """A closure, a default, a module's value, a class attribute, a base class, a function that is called."""

    def closure(number: int) -> Any:
        return lambda: number

    def default(number: int) -> Any:
        def run(n: int = number) -> int:
            return n

        return run

    def in_module(number: int) -> Any:
        space: dict[str, Any] = {"N": number, "__name__": "nowhere"}
        exec("def helper(): return N\ndef run(): return helper()", space)
        return space["run"]

    def attribute(number: int) -> Any:
        return type("C", (), {"n": number, "run": lambda self: self.n})()

    def base(number: int) -> Any:
        return type("D", (type("C", (), {"n": number}),), {})()

    def cached(number: int) -> Any:
        return functools.lru_cache(lambda: number)

    for make in (closure, default, in_module, attribute, base, cached):
        assert described(make(1)) == described(make(1)), make
        assert described(make(1)) != described(make(2)), make


def test_what_cannot_be_told_is_done_again(tmp_path: Path) -> None:
    """A lock, a generator: nobody knows what state they are in. A logger is nothing but its name."""
    held = {"lock": threading.Lock(), "generator": (n for n in range(2))}
    for name, thing in held.items():
        for _ in range(2):
            found = ModelRun(run_id=name, output_dir=tmp_path, config=Writes(thing)).pipeline()
            assert found.success, found.error
            assert found["skipped"] == []

    class Logs(Writes):
        def __init__(self) -> None:
            super().__init__(1)
            self.logger, self.itself = logging.getLogger("model"), self

    found = [ModelRun(run_id="l", output_dir=tmp_path, config=Logs()).pipeline(processor="noop") for _ in range(2)]
    assert [one["skipped"] for one in found] == [[], ALL]
    processor = Logs()
    processor.process = lambda model_run, **_: {"success": True}  # type: ignore[attr-defined]
    assert ModelRun(run_id="l", output_dir=tmp_path, config=Logs()).pipeline(processor=processor).success
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotDescribable, match="too deep"):
        described(deep)


def test_a_variable_counts_by_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${GRID:-c}` is what GRID says now; and a number under a name that only sounds secret is a number."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command='echo "$IN" > outputs/o')
    seen = []
    for grid in (None, "one", "two", "two"):
        if grid:
            monkeypatch.setenv("GRID", grid)
        found = run.pipeline(run_kwargs={"env_vars": {"IN": "${GRID:-c}"}})
        seen.append(((tmp_path / "m/outputs/o").read_text(), found["skipped"]))
    assert seen == [("c\n", []), ("one\n", ["generate"]), ("two\n", ["generate"]), ("two\n", ALL)]
    for number in (1, 2):
        found = ModelRun(run_id="p", output_dir=tmp_path, parameters={"band_pass": number, "pass": number}).pipeline(
            run_kwargs={"command": "cp INPUT outputs/o"}
        )
        assert found["skipped"] == []
        assert f"band_pass = {number}" in (tmp_path / "p/outputs/o").read_text()


def test_no_value_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what decides only a digest is kept; a secret that is replaced under its own name repeats nothing."""
    monkeypatch.setenv("OSIRIS_TEST_SOURCE", "source-4711-4711")
    given = {"env_vars": {"A": "${OSIRIS_TEST_SOURCE}", "API_TOKEN": "literal-4711-4711"}}
    run = ModelRun(run_id="m", output_dir=tmp_path, parameters={"pass": "word-4711-4711"}, command="true")
    monkeypatch.setattr(ModelRun, "_write_input", lambda *_: None)
    assert run.pipeline(run_kwargs=given).success
    state = (tmp_path / ".osiris/sessions/m.pipeline/stages.json").read_text()
    assert "4711" not in state
    renewed = {"env_vars": {**given["env_vars"], "API_TOKEN": "literal-4712-4712"}}
    assert run.pipeline(run_kwargs=renewed)["skipped"] == ALL
    monkeypatch.setenv("OSIRIS_TEST_SOURCE", "source-4712-4712")
    assert "run" not in run.pipeline(run_kwargs=renewed)["skipped"]

    class Typed(BaseModel):
        key: SecretStr

    assert described(Typed(key=SecretStr("a"))) == described(Typed(key=SecretStr("b")))


class Period(BaseModel):
    start: datetime


class Core(BaseModel):
    model_type: str = "base"


class OceanRun(BaseModel):
    """A model run of somebody else's: pydantic, with a period, a configuration and a generate of its own."""

    run_id: str = "ocean"
    output_dir: Path
    period: Period
    config: Core = Core()

    def generate(self) -> str:
        folder = self.output_dir / self.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "INPUT").write_text(f"{self.period.start} {self.config.model_type}")
        return str(folder)


def test_a_model_run_of_somebody_elses(tmp_path: Path) -> None:
    """One like those of rompy runs as it is; another period, or another `config`, is another run."""
    seen = []
    for year, kind in ((2020, "base"), (2024, "base"), (2024, "swan"), (2024, "swan")):
        subject = OceanRun(output_dir=tmp_path, period=Period(start=datetime(year, 1, 1)), config=Core(model_type=kind))
        found = run_pipeline(subject, run_kwargs={"command": "cp INPUT out"}, processor="report")
        assert found.success, found.error
        seen.append(((tmp_path / "ocean/out").read_text(), found["skipped"]))
    assert seen == [
        ("2020-01-01 00:00:00 base", []),
        ("2024-01-01 00:00:00 base", []),
        ("2024-01-01 00:00:00 swan", []),
        ("2024-01-01 00:00:00 swan", ALL),
    ]


def test_a_result_holds_while_its_files_are_there(tmp_path: Path) -> None:
    """An archive or a report that is gone is made again, in a chain too; so is any file that a processor names."""

    class Plots:
        def process(self, model_run: Any, **_: Any) -> dict[str, Any]:
            plot = tmp_path / "plot.png"
            plot.write_text("plot")
            return {"success": True, "plots": [{"file": str(plot)}]}

    run = ModelRun(run_id="m", output_dir=tmp_path, command="echo 1 > outputs/o")
    chain = [{"type": "noop"}, {"type": "archive", "format": "tar", "archive": str(tmp_path / "c.tar")}]
    for processor, settings, made in [
        ("archive", {}, "m.tar.gz"),
        ("report", {"report": str(tmp_path / "r.json")}, "r.json"),
        ("chain", {"steps": chain}, "c.tar"),
        (Plots, {}, "plot.png"),
    ]:
        wish: dict[str, Any] = {"processor": processor, "process_kwargs": settings}
        assert run.pipeline(**wish).success
        assert run.pipeline(**wish)["skipped"] == ALL
        (tmp_path / made).unlink()
        assert run.pipeline(**wish)["skipped"] == ALL[:2]
        assert (tmp_path / made).exists()


def test_inputs_that_somebody_touched_are_made_again(tmp_path: Path) -> None:
    """By a dry run with other wishes, or by hand; what the run itself did to them is no touch."""
    mine = ModelRun(
        run_id="m", output_dir=tmp_path, parameters={"n": 1}, command="cat INPUT > outputs/o; echo x >> INPUT"
    )
    assert mine.pipeline().success
    assert mine.pipeline()["skipped"] == ALL
    ModelRun(run_id="m", output_dir=tmp_path, parameters={"n": 2}).generate()
    assert mine.pipeline(run_kwargs={"command": "cat INPUT > outputs/p"})["skipped"] == []
    assert "n = 1" in (tmp_path / "m/outputs/p").read_text()


def test_outputs_elsewhere_are_looked_at_where_they_are(tmp_path: Path) -> None:
    """What `generate` returns is the workspace, for the processors too."""
    (tmp_path / "elsewhere").mkdir()
    subject = SimpleNamespace(
        run_id="m", output_dir=tmp_path / "out", config=None, generate=lambda: str(tmp_path / "elsewhere")
    )
    chain = {"steps": [{"type": "noop"}, {"type": "chain", "steps": [{"type": "report"}]}]}
    for processor, settings in (("noop", {}), ("archive", {"format": "zip"}), ("report", {}), ("chain", chain)):
        found = run_pipeline(
            subject, run_kwargs={"command": "echo 1 > x"}, processor=processor, process_kwargs=settings
        )
        assert found.success, found.error
    archive = ArchivePostprocessorConfig(archive=tmp_path / "a.tar", format="tar")
    found = run_pipeline(subject, run_kwargs={"command": "echo 1 > x"}, processor=archive)
    assert [item["path"] for item in found["postprocess_results"]["files"]] == ["x"]
    assert os.path.samefile(found["staging_dir"], tmp_path / "elsewhere")


def test_a_processors_own_workspace_setting_is_its_own(tmp_path: Path) -> None:
    """Only a parameter that nobody gave is filled in."""

    class Mine:
        def process(self, model_run: Any, workspace: str = "") -> dict[str, Any]:
            return {"success": True, "got": workspace}

    class Config(BasePostprocessorConfig):
        type: Literal["mine"] = "mine"
        workspace: str = "scratch"

        def get_postprocessor_class(self) -> type[Any]:
            return Mine

    run = ModelRun(run_id="m", output_dir=tmp_path, command="true")
    assert run.pipeline(processor=Mine)["postprocess_results"]["got"] == str(tmp_path / "m")
    assert run.pipeline(processor=Config())["postprocess_results"]["got"] == "scratch"
