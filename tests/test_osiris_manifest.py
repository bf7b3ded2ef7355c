"""Compiled Osiris manifests: the real sample is read unchanged, a changed one is refused with every reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from osiris_core.errors import ManifestError, Problem
from osiris_core.manifest import load_manifest
from osiris_core.osiris_manifest import manifest_fingerprint, sanitise

SAMPLE = Path(__file__).parent / "data" / "osiris-trips"


def compiled(folder: Path, steps: list[Any], **top: Any) -> Path:
    """A manifest of the given steps, each with a cfg file unless it names one."""
    (folder / "cfg").mkdir(exist_ok=True)
    for step in steps:
        if isinstance(step, dict) and "cfg_path" not in step and isinstance(step.get("id"), str):
            step["cfg_path"] = f"cfg/{step['id']}.json"
            (folder / step["cfg_path"]).write_text('{"component":"d","query":"x"}')
    (folder / "manifest.yaml").write_text(yaml.safe_dump({**top, "steps": steps}, sort_keys=False))
    return folder / "manifest.yaml"


def problems(path: Path) -> list[Problem]:
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return caught.value.problems


def test_the_sample_is_read_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Osiris compiled loads as it is: name, steps, inputs by table name, the working directory."""
    monkeypatch.chdir("/")
    manifest = load_manifest(SAMPLE / "compiled" / "manifest.yaml")
    assert manifest.compiled
    assert manifest.name == "city-trips"
    assert manifest.base_dir == Path("/")
    steps = {step.id: step for step in manifest.steps}
    assert list(steps) == ["extract-trips", "extract.stations", "per-city", "write-cities", "write-raw"]
    per_city = steps["per-city"]
    assert per_city.driver == "duckdb.processor"
    assert set(per_city.inputs) == {"df_extract_trips", "df_extract_stations"}
    assert all(item.key == "df" and item.optional for item in per_city.inputs.values() if not isinstance(item, str))
    assert per_city.needs == ["extract-trips", "extract.stations"]
    assert "component" not in per_city.config
    assert per_city.config["query"].startswith("SELECT s.city")
    assert [file.name for file in manifest.source_files[1:]] == [f"{step_id}.json" for step_id in steps]
    assert all(file.is_file() for file in manifest.source_files)
    assert load_manifest(SAMPLE / "compiled" / "manifest.yaml", base_dir=SAMPLE).base_dir == SAMPLE


def test_the_fingerprint_is_that_of_osiris() -> None:
    """The recipe gives the value that the compiler wrote."""
    data = yaml.safe_load((SAMPLE / "compiled" / "manifest.yaml").read_text())
    assert manifest_fingerprint(data) == data["pipeline"]["fingerprints"]["manifest_fp"]
    assert data["meta"]["generated_at"], "the given data is not changed"


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ("id: write-raw", "id: write-row", True),
        ("  - extract.stations\n", "", True),
        ("profile: dev", "profile: prod", True),
        ("generated_at: '2026", "generated_at: '2027", False),
        ("manifest_short: 6f01009", "manifest_short: abcdefg", False),
        ("---\n", "# a comment\n---\n", False),
    ],
)
def test_a_changed_manifest_is_refused(tmp_path: Path, old: str, new: str, refused: bool) -> None:
    """A change after compiling is noticed; times, short names and comments are none."""
    shutil.copytree(SAMPLE / "compiled", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "manifest.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if not refused:
        assert load_manifest(path).name == "city-trips"
        return
    (found,) = problems(path)
    assert found.key == "pipeline.fingerprints.manifest_fp"
    assert found.line is not None
    assert "changed after it was compiled" in found.message


@pytest.mark.parametrize(
    "top", [{"meta": None}, {"pipeline": None}, {"pipeline": "x"}, {"pipeline": {"fingerprints": []}}, {"meta": [1]}]
)
def test_odd_heads_are_no_crash(tmp_path: Path, top: dict[str, Any]) -> None:
    """A manifest without a fingerprint, or with an odd head, is read by its steps."""
    assert load_manifest(compiled(tmp_path, [{"id": "a", "driver": "d"}], **top)).steps[0].id == "a"


@pytest.mark.parametrize(
    ("step_id", "name"),
    [("a", "a"), ("a-b.c", "a_b_c"), ("1a", "_1a"), ("A_b", "A_b"), ("-", "_"), ("ž", "_")],
)
def test_table_names(step_id: str, name: str) -> None:
    """A step id becomes a table name as Osiris makes it."""
    assert sanitise(step_id) == name


def test_ids_that_collide_get_a_hash(tmp_path: Path) -> None:
    """Of needs whose names would be equal, each gets the first 8 hex digits of its id's sha256; others do not."""
    steps = [{"id": name, "driver": "d", "needs": []} for name in ("a-b", "a.b", "c")]
    path = compiled(tmp_path, [*steps, {"id": "z", "driver": "d", "needs": ["a-b", "a.b", "c", "c"]}])
    hashed = [f"df_a_b_{hashlib.sha256(name.encode()).hexdigest()[:8]}" for name in ("a-b", "a.b")]
    step = load_manifest(path).steps[3]
    assert list(step.inputs) == [*hashed, "df_c"]
    assert step.needs == ["a-b", "a.b", "c"]


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Bad steps, cfg files, ids, duplicates, unknown needs and a cycle are refused in one go, each with its line."""
    (tmp_path / "bad.json").write_text('{\n"a": 1,\n"a": 2}')
    (tmp_path / "list.json").write_text("[1]")
    path = compiled(
        tmp_path,
        [
            {"id": "up", "driver": "d", "cfg_path": "../secret.json"},
            {"id": "gone", "driver": "d", "cfg_path": "cfg/no.json"},
            {"id": "bad", "driver": "d", "cfg_path": "bad.json"},
            {"id": "list", "driver": "d", "cfg_path": "list.json"},
            {"id": "a/../b", "driver": "d", "cfg_path": "cfg/up.json"},
            {"id": "twice", "driver": "d"},
            {"id": "twice", "driver": "d"},
            {"id": "x", "driver": "d", "needs": ["y", "nope"]},
            {"id": "y", "component": "d", "needs": ["x"]},
            {"id": "keys", "driver": 1, "inputs": {}, "needs": "x"},
            "text",
            {"driver": "d", "cfg_path": 1},
        ],
    )
    found = problems(path)
    text = "\n".join(str(problem) for problem in found)
    for words in (
        "step 'up', cfg_path: '../secret.json' leaves the manifest's folder",
        "step 'gone', cfg_path:",
        "bad.json:3: the key 'a' stands twice",
        "list.json: is not a JSON object",
        "step 'a/../b', id: an id has",
        "step 'twice', id: the id stands twice",
        "step 'x', needs: there is no step 'nope'",
        "steps wait for each other: x -> y -> x",
        "step 'keys', driver: is missing or not a text",
        "step 'keys', inputs: there is no such key",
        "step 'keys', needs: is a list of step ids",
        "step '#11': a step is a mapping",
        "step '#12', id: is missing or not a text",
        "step '#12', cfg_path: is missing or not a text",
    ):
        assert words in text, f"{words!r} not in\n{text}"
    assert all(problem.line for problem in found)


def test_needs_may_be_empty(tmp_path: Path) -> None:
    """`needs:` without a value is none."""
    assert load_manifest(compiled(tmp_path, [{"id": "a", "driver": "d", "needs": None}])).steps[0].needs == []


def test_a_dict_is_compiled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled manifest given as a dict finds its cfg files in the working directory."""
    path = compiled(tmp_path, [{"id": "a", "driver": "d"}])
    monkeypatch.chdir(tmp_path)
    manifest = load_manifest(yaml.safe_load(path.read_text()))
    assert manifest.compiled
    assert manifest.steps[0].config == {"query": "x"}


def test_the_sample_itself_is_ours_unchanged() -> None:
    """The fixture's cfg files are the compact JSON that the compiler wrote."""
    for path in (SAMPLE / "compiled" / "cfg").iterdir():
        text = path.read_text()
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text
