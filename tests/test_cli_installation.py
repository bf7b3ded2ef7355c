"""The commands that show what is installed: drivers, adapters, schema, doctor."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml


def osiris(*args: str, cwd: Path, env: dict[str, str] | None = None, code: int = 0) -> str:
    """What the command line prints; it must end with `code`, and never with a traceback of ours."""
    done = run(*args, cwd=cwd, env=env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def run(*args: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "osiris_core.cli.main", *args]
    clean = {name: value for name, value in os.environ.items() if name not in ("OSIRIS_HOME",)}
    environment = {**clean, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=50, check=False)


def document(*args: str, cwd: Path, env: dict[str, str] | None = None, code: int = 0) -> Any:
    return json.loads(osiris(*args, "--json", cwd=cwd, env=env, code=code))


# drivers, adapters, schema


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment with plugins that cannot be loaded, and one that wants a built-in name."""
    info = tmp_path / "site" / "sad-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[osiris.drivers]\nsad.driver = sad_plugins:Driver\ncommand = sad_plugins:Other\n"
        "[osiris.adapters]\nsad = sad_plugins:Adapter\n"
    )
    (tmp_path / "site" / "sad_plugins.py").write_text("print('noise')\nraise RuntimeError('sad')\n")
    return {"PYTHONPATH": str(tmp_path / "site")}


def test_drivers_list_and_show(tmp_path: Path) -> None:
    """Every built-in driver is there, and show has its docstring, keys with types and defaults, and its example."""
    listed = {item["name"]: item for item in document("drivers", "list", cwd=tmp_path)}
    assert {"command", "duckdb.processor", "filesystem.csv_extractor", "filesystem.csv_writer"} <= set(listed)
    for name, item in listed.items():
        assert item["state"] == "ok"
        assert item["summary"]
        shown = document("drivers", "show", name, cwd=tmp_path)
        assert f"driver: {name}" in shown["example"]
        assert all(key["description"] and key["type"] != "any" for key in shown["keys"]), shown["keys"]
    text = osiris("drivers", "show", "duckdb.processor", cwd=tmp_path)
    for part in (
        "Runs SQL over",
        "query: string (required)",
        "threads: integer or null (default null)",
        "GROUP BY zone",
    ):
        assert part in text
    assert "did you mean 'command'?" in run("drivers", "show", "comand", cwd=tmp_path).stderr


def test_broken_plugins_are_reported_and_harmless(tmp_path: Path, broken: dict[str, str]) -> None:
    """Lists show a broken plugin as such and say why on stderr; everything else is listed, and stdout stays clean."""
    for group, name in (("drivers", "sad.driver"), ("adapters", "sad")):
        done = run(group, "list", "--json", cwd=tmp_path, env=broken)
        assert done.returncode == 0
        states = {item["name"]: item["state"] for item in json.loads(done.stdout)}
        assert states[name] == "broken"
        assert "ok" in states.values()
        assert "sad" in done.stderr
    assert "built in" in run("drivers", "list", cwd=tmp_path, env=broken).stderr
    assert document("drivers", "show", "command", cwd=tmp_path, env=broken)["source"] == "built in"


def test_adapters_and_their_alias(tmp_path: Path) -> None:
    """`backends` is the same group as `adapters`."""
    for group in ("adapters", "backends"):
        assert "local" in [item["name"] for item in document(group, "list", cwd=tmp_path)]
        keys = {item["key"] for item in document(group, "show", "local", cwd=tmp_path)["keys"]}
        assert {"type", "compress_artifacts"} <= keys
        assert "compress_artifacts" in json.loads(osiris(group, "schema", "local", cwd=tmp_path))["properties"]
    assert "compress_artifacts: boolean (default false)" in osiris("adapters", "show", "local", cwd=tmp_path)


def test_schemas_are_json_schemas(tmp_path: Path) -> None:
    """Each schema is one JSON document with the keys that the thing has."""
    keys = {
        ("manifest",): "steps",
        ("connections",): "connections",
        ("driver", "duckdb.processor"): "query",
        ("adapter", "local"): "type",
    }
    for arguments, key in keys.items():
        found = json.loads(osiris("schema", *arguments, cwd=tmp_path))
        assert key in found["properties"]
        assert found["$schema"].startswith("https://json-schema.org/")


def test_the_schema_of_connections_knows_every_family(tmp_path: Path) -> None:
    """It takes the example's file, with references in place of values, and refuses a key that the family has not."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = jsonschema.Draft202012Validator(json.loads(osiris("schema", "connections", cwd=tmp_path)))
    example = Path(__file__).parent.parent / "examples" / "api" / "osiris_connections.yaml"
    schema.validate(yaml.safe_load(example.read_text()))
    wrong = {"connections": {"http": {"shop": {"default": True, "base_url": "${URL}", "auth_typ": "bearer"}}}}
    (error,) = schema.iter_errors(wrong)
    assert "auth_typ" in error.message
    schema.validate({"connections": {"acme": {"a": {"anything": 1}}}})


# doctor


def test_doctor_is_well_here(tmp_path: Path) -> None:
    """In a whole installation nothing is broken; versions, resources and every plugin are there."""
    found = document("doctor", cwd=tmp_path)
    names = {check["name"] for check in found["checks"]}
    assert found["status"] == "ok"
    assert {"python", "duckdb", "processors", "memory", "session root", "adapter local", "driver command"} <= names
    assert "all is well" in osiris("doctor", cwd=tmp_path)


def test_doctor_finds_what_is_broken(tmp_path: Path, broken: dict[str, str]) -> None:
    """Broken plugins, a taken name and an unwritable session root are each named, and the exit code is 1."""
    done = run("doctor", "--json", cwd=tmp_path, env={**broken, "OSIRIS_HOME": "/proc/nowhere"})
    assert done.returncode == 1
    found = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    for name in ("adapter sad", "driver sad.driver", "driver plugins", "session root"):
        assert found[name] == "broken"
    assert found["driver command"] == "ok"
