"""Prepare: every problem at once and in words, nothing written, no secret in what is written down later."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, model_validator

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, LocalAdapter, PreparationError, PreparedRun
from osiris_core.paths import InputPath, OutputPath  # noqa: TC001 - pydantic resolves the fields' types

LITERAL = "hunter2hunter2"


class Files(BaseModel):
    source: InputPath | None = None
    target: OutputPath | None = None
    targets: list[OutputPath] = []


class WithFiles:
    Config = Files

    def run(self, step_id, config, inputs, ctx):
        for path in [config.target, *config.targets]:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text("x")


class Explosive(BaseModel):
    kind: str

    @model_validator(mode="after")
    def _explode(self):
        raise {"key": KeyError, "zero": ZeroDivisionError, "runtime": RuntimeError}[self.kind]("boom " + LITERAL)


class Explodes:
    Config = Explosive

    def run(self, step_id, config, inputs, ctx):
        raise AssertionError


class Tells:
    """Keeps the configuration it got."""

    got: ClassVar[dict] = {}

    def run(self, step_id, config, inputs, ctx):
        Tells.got = {"config": config, "environment": dict(ctx.environment)}


@pytest.fixture(autouse=True)
def drivers():
    known = {"p.files": WithFiles, "p.explodes": Explodes, "p.tells": Tells}
    for name, driver in known.items():
        DriverRegistry.register(name, driver)
    yield
    for name in known:
        DriverRegistry.unregister(name)


def context(tmp_path: Path, **settings) -> ExecutionContext:
    return ExecutionContext(session_dir=str(tmp_path / "session"), base_dir=str(tmp_path), **settings)


def problems(tmp_path: Path, steps: list[dict], **settings) -> list[str]:
    with pytest.raises(PreparationError) as caught:
        LocalAdapter().prepare({"steps": steps}, context(tmp_path, **settings))
    assert not (tmp_path / "session").exists()
    return [str(problem) for problem in caught.value.problems]


def step(driver: str = "p.files", step_id: str = "a", **config) -> dict:
    return {"id": step_id, "driver": driver, "config": config}


def test_input_paths_that_are_no_files(tmp_path):
    """A directory, a named pipe, a NUL, an unknown user's home, a missing file, a loop: one problem each, no hang."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    wrong = ["folder", "pipe", "a\0b", "~nobody-of-that-name/x", "missing.csv", "loop", "", "x" * 5000]
    found = problems(tmp_path, [step(step_id=f"s{n}", source=path) for n, path in enumerate(wrong)])
    assert [text.partition(":")[0] for text in found] == [f"step 's{n}', config.source" for n in range(len(wrong))]


def test_input_paths_that_are_files(tmp_path):
    """An empty file, a link, a file named by a variable or by its default."""
    (tmp_path / "empty.csv").touch()
    (tmp_path / "link.csv").symlink_to("empty.csv")
    paths = ["empty.csv", "link.csv", "${NAME}.csv", "${UNSET_NAME:-empty}.csv", "./empty.csv"]
    steps = [step(step_id=f"s{n}", source=path) for n, path in enumerate(paths)]
    prepared = LocalAdapter().prepare({"steps": steps}, context(tmp_path, environment={"NAME": "empty"}))
    assert [file.size_bytes for file in prepared.input_files] == [0] * 5


@pytest.mark.parametrize("path", ["/etc/x", "~/x", "../x", "", ".", "a/../../x", "a\\b", "%2e%2e/x"])
def test_output_paths_that_leave(tmp_path, path):
    """An output is below the step's artifacts or refused."""
    assert len(problems(tmp_path, [step(target=path)])) == 1


def test_two_steps_that_publish_one_path(tmp_path):
    """With --out that is a problem before anything runs; without it each has its own artifacts."""
    steps = [step(target="out.csv"), step(step_id="b", targets=["x.csv", "./out.csv"])]
    assert "step 'a' publishes out.csv too" in problems(tmp_path, steps, publish_dir=str(tmp_path / "out"))[0]
    assert AdapterFactory.create("local").run({"steps": steps}, context(tmp_path)).succeeded


@pytest.mark.parametrize("wrong", ["a file", "below a file", "a link to nowhere", "empty"])
def test_a_place_that_nothing_can_be_published_to(tmp_path, wrong):
    """It is found before anything runs, whatever is in the way."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    places = {"a file": "file", "below a file": "file/x/y", "a link to nowhere": "link"}
    place = "" if wrong == "empty" else str(tmp_path / places[wrong])
    (found,) = problems(tmp_path, [step(target="out.csv")], publish_dir=place)
    assert "outputs cannot be published" in found


@pytest.mark.parametrize("there", ["out.csv/inner", "out.csv/", "deep"])
def test_an_output_whose_place_is_taken(tmp_path, there):
    """A directory in the file's place, or a file in its folder's, is found before anything runs."""
    place = tmp_path / "out" / there
    place.mkdir(parents=True) if there != "deep" else (place.parent.mkdir(), place.touch())
    found = problems(
        tmp_path, [step(targets=["out.csv" if there != "deep" else "deep/out.csv"])], publish_dir=str(tmp_path / "out")
    )
    assert len(found) == 1
    assert "config.targets: it cannot be published" in found[0]


@pytest.mark.parametrize("secret", ["hunter2hunter2", "xyz"])
def test_no_problem_shows_a_secret(tmp_path, monkeypatch, secret):
    """Whatever is wrong with a value that came through a variable, what is said of it names the variable."""
    monkeypatch.setenv("TOK", secret)
    (tmp_path / "there.csv").write_text("a\n1\n")
    csv, command = "filesystem.csv_extractor", "command"
    steps = [
        step(csv, step_id="s0", path="${TOK}/x.csv"),
        step(csv, step_id="s1", path="there.csv", dtype={"x": "${TOK}"}),
        step("filesystem.csv_writer", step_id="s2", path="../${TOK}.csv") | {"inputs": {"df": "s1"}},
        step(command, step_id="s3", argv=["x"], workspace="${TOK}"),
        step(command, step_id="s4", argv=["x"], outputs={"df": {"path": "${TOK}"}}),
        step("p.explodes", step_id="s5", kind="${TOK}"),
        step(csv, step_id="s6", path="~${TOK}/x.csv"),
    ]
    found = problems(tmp_path, steps)
    assert {text[6:8] for text in found} == {f"s{n}" for n in range(7)}
    assert secret not in "".join(found).replace(str(tmp_path), "")
    assert f"there is no file {tmp_path}/${{TOK}}/x.csv" in found[0]


@pytest.mark.parametrize("path", ["${TOK}.csv", "${TOK:-out}.csv"])
def test_a_secret_names_no_output(tmp_path, path):
    """A file's name is written down everywhere; a parameter or a variable declared as public may name one."""
    (found,) = problems(tmp_path, [step(target=path)], environment={"TOK": LITERAL})
    assert "${TOK} is secret" in found
    assert "use a parameter" in found
    public = context(tmp_path, environment={"TOK": "monday"}, public_environment=frozenset({"TOK"}))
    report = LocalAdapter().run({"steps": [step(target=path)]}, public)
    assert [artifact["path"] for artifact in report.artifacts] == ["a/monday.csv"]


def test_lists_of_outputs_are_published(tmp_path):
    """Every path of a field counts, not only a lone one."""
    steps = [step(targets=["x.csv", "deep/y.csv"])]
    report = AdapterFactory.create("local").run({"steps": steps}, context(tmp_path, publish_dir=str(tmp_path / "out")))
    assert report.succeeded
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.csv")) == [
        "deep/y.csv",
        "x.csv",
    ]


@pytest.mark.parametrize("kind", ["key", "zero", "runtime"])
def test_a_validator_that_raises_anything(tmp_path, kind):
    """It is a problem of its step beside the others, and shows no secret."""
    steps = [step("p.explodes", kind=kind, password=LITERAL), step("no.such", step_id="b")]
    found = problems(tmp_path, steps)
    assert len(found) == 2
    assert "its driver cannot check this" in found[0]
    assert LITERAL not in "".join(found)


def test_a_plugin_that_cannot_be_imported(tmp_path, monkeypatch):
    """It is a problem of its step, with the name and the reason."""
    import osiris_core.driver

    folder = tmp_path / "site" / "broken-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[osiris.drivers]\np.broken = no_such_module:Driver\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    fresh = type(DriverRegistry._plugins)("osiris.drivers", "driver", osiris_core.driver.BUILTIN)
    monkeypatch.setattr(DriverRegistry, "_plugins", fresh)
    (found,) = problems(tmp_path, [step("p.broken")])
    assert "no_such_module" in found


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), float("inf"), object(), b"x", {("a", "b"): 1}, {True: 1}])
def test_values_that_json_cannot_hold(tmp_path, value):
    """They are problems with their key, at any depth."""
    (found,) = problems(tmp_path, [step("p.tells", outer={"inner": [value]})])
    assert "config.outer.inner.0" in found


def test_a_parameter_that_json_cannot_hold(tmp_path):
    """It is a problem of its own, however it is used."""
    with pytest.raises(PreparationError, match=r"params\.n: JSON cannot hold its value"):
        LocalAdapter().prepare(
            {"params": {"n": 1}, "steps": [step("p.tells", n="${params.n}")]}, context(tmp_path, params={"n": {1}})
        )


@pytest.mark.parametrize(
    "config",
    [
        {"password": LITERAL},
        {"deep": {"list": [{"api_key": LITERAL}]}},
        {"connection": {"host": "h", "password": LITERAL}},
        {"url": f"mysql://user:{LITERAL}@host/db"},
        {"password": "${UNSET_PW:-" + LITERAL + "}"},
        {"credentials": {"user": "u", "anything": LITERAL}},
        {"password": 123456789},
    ],
)
def test_a_literal_secret_is_in_no_file(tmp_path, config):
    """Whatever field it stands in: the driver gets it, the session directory has only its name."""
    value = "123456789" if config.get("password") == 123456789 else LITERAL
    report = AdapterFactory.create("local").run({"steps": [step("p.tells", **config)]}, context(tmp_path))
    assert report.succeeded, report.error
    assert value in json.dumps(Tells.got["config"])
    for path in (tmp_path / "session").rglob("*"):
        assert path.is_dir() or value.encode() not in path.read_bytes(), path
    assert any(name.startswith("@a.config.") for name in report["secret_names"])


def test_what_is_no_secret_stays_as_it_is(tmp_path):
    """Numbers of tokens, booleans and empty texts keep their type; `$${` is a literal."""
    config = {"max_token": 100, "password": "", "secret": True, "text": "$${HOME}", "api_key": "a$${b"}
    AdapterFactory.create("local").run({"steps": [step("p.tells", **config)]}, context(tmp_path))
    assert Tells.got["config"] == {**config, "text": "${HOME}", "api_key": "a${b"}


def test_an_empty_variable_is_told_apart_from_a_missing_one(tmp_path, monkeypatch):
    """Both are problems, in true words; a default or an explicit declaration settles it."""
    monkeypatch.setenv("EMPTY_ONE", "")
    found = problems(tmp_path, [step("p.tells", a="${EMPTY_ONE}", b="${MISSING_ONE}")])
    assert any("EMPTY_ONE is empty" in text for text in found)
    assert any("MISSING_ONE is not set" in text for text in found)
    settings = context(tmp_path, environment={"EMPTY_ONE": ""})
    steps = [step("p.tells", a="${EMPTY_ONE}", b="${MISSING_ONE:-d}")]
    assert AdapterFactory.create("local").run({"steps": steps}, settings).succeeded
    assert Tells.got["config"] == {"a": "", "b": "d"}


def test_a_public_value_may_look_like_a_reference(tmp_path):
    """It reaches the step to the letter."""
    settings = context(tmp_path, environment={"PATTERN": "${x} $${y}"}, public_environment=frozenset({"PATTERN"}))
    assert AdapterFactory.create("local").run({"steps": [step("p.tells")]}, settings).succeeded
    assert Tells.got["environment"]["PATTERN"] == "${x} $${y}"


def test_step_ids_that_differ_only_by_case_and_long_ones(tmp_path):
    """They are different steps with different artifacts."""
    ids = ["a", "A", "x" * 128, "con", "tables", "earlier"]
    steps = [step(step_id=step_id, target="out.txt") for step_id in ids]
    report = AdapterFactory.create("local").run({"steps": steps}, context(tmp_path))
    assert [item["path"] for item in report.artifacts] == [f"{step_id}/out.txt" for step_id in ids]


def test_five_thousand_steps_are_prepared_quickly(tmp_path):
    """Not a figure: the bound is several times what it takes."""
    steps = [step("p.tells", step_id=f"s{n}", n=n) | {"needs": [f"s{n - 1}"] if n else []} for n in range(5000)]
    started_s = time.monotonic()
    LocalAdapter().prepare({"steps": steps}, context(tmp_path))
    assert time.monotonic() - started_s < 10


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": float("nan")},
        {"timeout": 0},
        {"max_parallel_steps": 0},
        {"memory_budget_bytes": -1},
        {"on_failure": "Stop"},
        {"checkpoint": "sometimes"},
        {"session_id": "../x"},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    """A misspelt policy is an error, not the other policy."""
    with pytest.raises(ValueError, match=next(iter(settings)).replace("_id", ".id")):
        ExecutionContext(**settings)


def restored(prepared: PreparedRun) -> PreparedRun:
    return PreparedRun.from_json(json.loads(json.dumps(prepared.to_json())))


def test_a_restored_run_looks_its_secrets_up_again(tmp_path, monkeypatch):
    """In another adapter, from the environment as it is then: a rotated key is the one that is used."""
    monkeypatch.setenv("PW_ONE", "first-value")
    steps = [step("p.tells", password="${PW_ONE}", region="${REGION}")]
    settings = context(tmp_path, environment={"REGION": "eu"}, public_environment=frozenset({"REGION"}))
    prepared = restored(LocalAdapter().prepare({"steps": steps}, settings))
    monkeypatch.setenv("PW_ONE", "second-value")
    with LocalAdapter() as adapter:
        later = context(tmp_path)
        adapter.execute(prepared, later)
        assert adapter.collect(prepared, later).succeeded
    assert Tells.got["config"] == {"password": "second-value", "region": "eu"}
    assert Tells.got["environment"]["REGION"] == "eu"


def test_a_restored_run_without_its_secrets_is_refused(tmp_path, monkeypatch):
    """Each missing one by its name, before anything is touched."""
    monkeypatch.setenv("PW_ONE", "first-value")
    steps = [step("p.tells", password="${PW_ONE}", token=LITERAL)]
    settings = context(tmp_path, environment={"OTHER": "x"})
    prepared = restored(LocalAdapter().prepare({"steps": steps}, settings))
    monkeypatch.delenv("PW_ONE")
    with pytest.raises(PreparationError) as caught:
        LocalAdapter().execute(prepared, context(tmp_path))
    assert [problem.message.split()[0] for problem in caught.value.problems] == ["@a.config.token", "OTHER", "PW_ONE"]
    assert not (tmp_path / "session").exists()


def test_what_is_known_before_a_run_is_said_before_it(tmp_path):
    """A parameter without a value, an input from a step that gives nothing, an unknown encoding."""
    make = {"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS n"}}
    write = {"id": "w", "driver": "filesystem.csv_writer", "inputs": {"df": "a"}, "config": {"path": "x.csv"}}
    again = {"id": "v", "driver": "filesystem.csv_writer", "inputs": {"df": "w"}, "config": {"path": "y.csv"}}
    read = {"id": "r", "driver": "filesystem.csv_extractor", "config": {"path": "in.csv", "encoding": "utf9"}}
    (tmp_path / "in.csv").write_text("n\n1\n")
    manifest = {"params": {"day": {"type": "string"}}, "steps": [make, write, again, read]}
    with pytest.raises(PreparationError) as caught:
        LocalAdapter().prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s"), base_dir=str(tmp_path)))
    found = {(problem.step_id, problem.key): problem.message for problem in caught.value.problems}
    assert found[None, "params.day"] == "must be given"
    assert found["v", "inputs.df"] == "step 'w' gives no output"
    assert "unknown encoding" in found["r", "config.encoding"]


def test_inputs_that_a_driver_does_not_take(tmp_path):
    """An input of an extractor, none or two of a writer: each is a problem of its step, before anything runs."""
    steps = [
        {"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS n"}},
        {"id": "b", "driver": "filesystem.csv_extractor", "inputs": {"df": "a"}, "config": {"path": "in.csv"}},
        {"id": "c", "driver": "filesystem.csv_writer", "config": {"path": "c.csv"}},
        {"id": "d", "driver": "filesystem.parquet_writer", "inputs": {"x": "a", "y": "a"}, "config": {"path": "d"}},
    ]
    (tmp_path / "in.csv").write_text("n\n1\n")
    context = ExecutionContext(session_dir=str(tmp_path / "session"), base_dir=str(tmp_path))
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare({"steps": steps}, context)
    assert [(problem.step_id, problem.message) for problem in caught.value.problems] == [
        ("b", "'filesystem.csv_extractor' takes no inputs"),
        ("c", "'filesystem.csv_writer' takes one input, the step has none"),
        ("d", "'filesystem.parquet_writer' takes one input, the step has 2"),
    ]
