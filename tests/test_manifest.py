"""Manifests: every problem at once, each where it is and with what was meant; types as YAML 1.2 has them."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from osiris_core.errors import ManifestError, Problem
from osiris_core.manifest import InputReference, Manifest, load_manifest


def problems(tmp_path: Path, text: str) -> list[Problem]:
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return caught.value.problems


def of_dict(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_manifest(data)
    assert all(problem.line is None and problem.file is None for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def step(**fields: Any) -> dict[str, Any]:
    return {"steps": [{"id": "a", "driver": "d", **fields}]}


MANY = """\
pipline: {name: x}
params:
  limit: {defualt: 1}
steps:
  - id: extract
    drivr: filesystem.csv_extractor
    config: {path: in.csv}
  - id: Ünïcode
    driver: d
    retry: {attempts: 0, backof_s: 1}
    timeout_s: soon
  - id: load
    driver: d
    inputs: {df: extrct, other: {from_step: extract, kee: df}}
    needs: [lod, sql]
  - id: load
    driver: d
  - id: sql
    driver: d
    config: {a: .nan, 1: x}
    needs: [load]
  - just a text
"""


def test_every_problem_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    """One reading reports all: wrong keys, missing ones, bad values, duplicates, unknown references and a cycle."""
    found = {(problem.line, problem.step_id, problem.key): problem for problem in problems(tmp_path, MANY)}
    expected = {
        (1, None, "pipline"): ("there is no such key", "did you mean 'pipeline'?"),
        (3, None, "params.limit.defualt"): ("there is no such key", "did you mean 'default'?"),
        (5, "extract", "driver"): ("is missing", None),
        (6, "extract", "drivr"): ("there is no such key", "did you mean 'driver'?"),
        (8, "Ünïcode", "id"): ("ASCII letters", None),
        (10, "Ünïcode", "retry.attempts"): ("greater than or equal to 1", None),
        (10, "Ünïcode", "retry.backof_s"): ("there is no such key", "did you mean 'backoff_s'?"),
        (11, "Ünïcode", "timeout_s"): ("valid number", None),
        (14, "load", "inputs.other.kee"): ("there is no such key", "did you mean 'key'?"),
        (14, "load", "inputs.df"): ("there is no step 'extrct'", "did you mean 'extract'?"),
        (15, "load", "needs"): ("there is no step 'lod'", "did you mean 'load'?"),
        (16, "load", "id"): ("stands twice", None),
        (20, "sql", "config.a"): ("finite number", None),
        (20, "sql", "config.1"): ("is not a text; write it in quotes", None),
        (22, "#6", None): ("must be a mapping", None),
        (12, "load", None): ("steps wait for each other: load -> sql -> load", None),
    }
    if (12, "load", None) not in found:  # the second `load` of the two takes part in the ring
        expected.pop((12, "load", None))
    assert set(found) == set(expected)
    for place, (message, hint) in expected.items():
        assert message in found[place].message, place
        assert found[place].hint == hint, place


def test_a_problem_is_one_line_that_a_person_understands(tmp_path: Path) -> None:
    """The text of a problem says file, line, step, key, what is wrong and what was probably meant."""
    (found,) = problems(tmp_path, "steps:\n  - id: a\n    driver: d\n    confg: {}\n")
    assert str(found) == f"{tmp_path}/m.yaml:4: step 'a', confg: there is no such key (did you mean 'config'?)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- a\n", "this is a list"),
        ("text\n", "this is a str"),
        ("steps: []\n", "steps: must not be empty"),
        ("steps: {}\n", "steps: must be a list"),
        ("params: {}\n", "steps: is missing"),
        ("steps: [null]\n", "must be a mapping"),
        ("steps: [{id: 1, driver: d}]\n", "step '1', id: must be a text"),
        ("steps: [{id: no, driver: on, inputs: [a]}]\n", "step 'no', inputs: must be a mapping"),
        ("steps: [{id: a, driver: d, needs: b}]\n", "needs: must be a list"),
        ("steps: [{id: a, driver: d, config: x}]\n", "config: must be a mapping"),
        ("steps: [{id: a, driver: d, timeout_s: .inf}]\n", "timeout_s: must be a finite number"),
        ("steps: [{id: a, driver: d, timeout_s: 0}]\n", "timeout_s: Input should be greater than 0"),
        ("steps: [{id: a, driver: d, retry: 3}]\n", "retry: must be a mapping"),
        ("steps: [{id: a, driver: d, retry: {on: [user_eror]}}]\n", "retry.on.0: Input should be 'user_error'"),
        (
            "pipeline: {nme: x}\nsteps: [{id: a, driver: d}]\n",
            "pipeline.nme: there is no such key (did you mean 'name'?)",
        ),
        ("params: {str: {defualt: 1}}\nsteps: [{id: a, driver: d}]\n", "params.str.defualt: there is no such key"),
    ],
)
def test_messages(tmp_path: Path, text: str, message: str) -> None:
    """Each ordinary mistake has a message of its own, once."""
    found = problems(tmp_path, text)
    assert len(found) == 1, [str(problem) for problem in found]
    assert message in str(found[0])


@pytest.mark.parametrize("step_id", ["a", "a.b", "0", "_", "A-b_c.d.1", "no", "x" * 128])
def test_plain_ids(step_id: str) -> None:
    """Letters, digits, dashes, underscores and dots inside make an id."""
    assert load_manifest(step(id=step_id)).steps[0].id == step_id


@pytest.mark.parametrize(
    "step_id",
    [
        "",
        ".",
        "..",
        "a..b",
        "../a",
        "a/b",
        "a.",
        ".a",
        "-a",
        "a b",
        "a\n",
        "ž",
        "a\0",
        "x" * 129,
        "a:b",
        "$a",
        "a\\b",
        "②",
    ],
)
def test_ids_that_could_be_paths_or_options(step_id: str) -> None:
    """Whatever could leave a folder, or is read differently elsewhere, is refused with the rule."""
    assert any("ASCII letters" in message for message in of_dict(step(id=step_id)))


def test_the_norway_problem(tmp_path: Path) -> None:
    """Country codes, switches, times and dates in a configuration stay the texts they look like."""
    path = tmp_path / "m.yaml"
    path.write_text(
        "steps:\n- id: no\n  driver: d\n  config: {country: NO, on: off, at: 1:30, day: 2026-11-20, zip: 'x'}\n"
    )
    manifest = load_manifest(path)
    assert manifest.steps[0].id == "no"
    assert manifest.steps[0].config == {"country": "NO", "on": "off", "at": "1:30", "day": "2026-11-20", "zip": "x"}


def test_all_forms_of_inputs() -> None:
    """`step`, `step.output`, the seed's `${step.output}` and `{from_step, key}` are taken as written."""
    inputs = {"a": "x", "b": "x.df", "c": "${x.df}", "d": {"from_step": "x", "key": "df", "optional": True}}
    loaded = load_manifest({"steps": [{"id": "x", "driver": "d"}, {"id": "y", "driver": "d", "inputs": inputs}]})
    assert loaded.steps[1].inputs == {**inputs, "d": InputReference(from_step="x", key="df", optional=True)}


def test_a_dict_gives_the_same_problems_without_lines() -> None:
    """A manifest made in Python is checked like a file; paths and tuples in it become JSON."""
    assert any("did you mean 'config'?" in message for message in of_dict(step(confg={})))
    assert of_dict(step(config={"when": datetime.date(2026, 1, 1), "x": [{"y": object()}]})) == [
        "step 'a', config.when: a date cannot stand in a configuration; write it as a text",
        "step 'a', config.x.0.y: a object cannot stand in a configuration; write it as a text",
    ]
    loaded = load_manifest(step(config={"path": Path("in") / "x.csv", "columns": ("a", "b")}))
    assert loaded.steps[0].config == {"path": "in/x.csv", "columns": ["a", "b"]}


def test_where_a_manifest_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input paths start at the file's folder, for a dict at the working directory, or where one says."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps(step()))
    monkeypatch.chdir("/")
    loaded = load_manifest(str(path))
    assert (loaded.base_dir, loaded.file, loaded.compiled) == (tmp_path, str(path), False)
    assert load_manifest(step()).base_dir == Path("/")
    moved = load_manifest(loaded, base_dir="/usr")
    assert (moved.base_dir, loaded.base_dir) == (Path("/usr"), tmp_path)
    assert load_manifest(loaded) is loaded
    assert loaded["steps"][0]["id"] == "a"
    assert loaded.line_of("steps", 0, "driver") == 1


def test_the_schema_knows_every_key_and_its_examples_hold() -> None:
    """The JSON Schema is strict, describes every field, and what a full manifest dumps to validates again."""
    schema = Manifest.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["required"] == ["steps"]
    for model in [schema, *schema["$defs"].values()]:
        if "properties" in model:
            assert model["additionalProperties"] is False
            assert all("description" in field for field in model["properties"].values()), model["title"]
    examples = {
        name: field["examples"][0]
        for name, field in schema["$defs"]["Step"]["properties"].items()
        if "examples" in field
    }
    manifest = load_manifest(
        {
            "steps": [examples, {"id": "extract-orders", "driver": "d"}]
            if examples["id"] != "extract-orders"
            else [examples]
        }
    )
    dumped = manifest.model_dump(mode="json")
    assert load_manifest(dumped).model_dump(mode="json") == dumped


def test_five_thousand_steps(tmp_path: Path) -> None:
    """A manifest of 5,000 steps is read in seconds, as YAML and as JSON (a bound against quadratic work)."""
    steps = [
        {
            "id": f"s{n}",
            "driver": "d",
            "config": {"query": f"SELECT {n}", "n": n},
            "inputs": {"df": f"s{n - 1}"} if n else {},
        }
        for n in range(5000)
    ]
    (tmp_path / "m.json").write_text(json.dumps({"steps": steps}))
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"steps": steps}))
    started_s = time.monotonic()
    assert load_manifest(tmp_path / "m.json").steps == load_manifest(tmp_path / "m.yaml").steps
    assert time.monotonic() - started_s < 20


def test_five_thousand_mistakes(tmp_path: Path) -> None:
    """A mistake in each of 2,000 steps is 2,000 problems, each with its line, in seconds."""
    text = "steps:\n" + "".join(f"- id: s{n}\n  driver: d\n  confg: {{}}\n" for n in range(2000))
    found = problems(tmp_path, text)
    assert [problem.line for problem in found] == [4 + 3 * n for n in range(2000)]
