"""`osiris backends`: what is installed, of every kind; configurations that are made, shown and checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]


def osiris(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OSIRIS_")}
    done = subprocess.run(
        [*OSIRIS, *arguments],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def document(folder: Path, *arguments: str, code: int = 0, **environment: str) -> Any:
    done = osiris(folder, *arguments, "--json", **environment)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment with a distribution that brings a backend, a postprocessor and a pipeline, one of them broken."""
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[osiris.run_backends]\nqueue = acme:Queue\n[osiris.configs]\nqueue = acme:QueueConfig\n"
        "[osiris.postprocessors]\nsad = acme:Nothing\n[osiris.pipelines]\ncloud = acme:Cloud\n"
    )
    (tmp_path / "site" / "acme.py").write_text(
        "from typing import Literal\nfrom osiris_core.backends import BaseBackendConfig\n"
        "class Queue:\n    'Waits in a queue.'\n    def run(self, model_run, config, workspace_dir=None): return True\n"
        "class QueueConfig(BaseBackendConfig):\n    'Settings of the queue.'\n    type: Literal['queue'] = 'queue'\n"
        "    partition: str\n    def get_backend_class(self): return Queue\n"
        "class Cloud:\n    'Somewhere else.'\n    def execute(self, model_run, **kwargs): return {'success': True}\n"
    )
    return {"PYTHONPATH": str(tmp_path / "site")}


def test_list_has_every_kind(tmp_path: Path, plugin: dict[str, str]) -> None:
    """Ours and those of plugins, each with its kind and first line; a broken one is said to be so, once, on stderr."""
    listed = document(tmp_path, "backends", "list", **plugin)
    found = {(item["kind"], item["name"]): item for item in listed}
    for key in [("adapter", "local"), ("adapter", "docker"), ("postprocessor", "noop"), ("pipeline", "local")]:
        assert found[key]["state"] == "ok"
        assert found[key]["summary"]
        assert found[key]["source"] == "built in"
    assert ("backend", "local") not in found, "an adapter's run backend is no other place"
    assert found["backend", "queue"]["summary"] == "Waits in a queue."
    assert found["backend", "queue"]["source"].startswith("acme")
    assert found["pipeline", "cloud"]["state"] == "ok"
    assert found["postprocessor", "sad"]["state"] == "broken"
    text = osiris(tmp_path, "backends", "list", **plugin)
    assert text.stderr.count("sad") == 1
    assert "kind" in text.stdout.splitlines()[0]
    only = document(tmp_path, "backends", "list", "--kind", "backend", **plugin)
    assert {"docker", "local", "process", "queue"} <= {item["name"] for item in only}


def test_list_imports_nothing_heavy(tmp_path: Path) -> None:
    """It neither loads our adapters nor what they stand on; `benchmarks/startup.py` has the time."""
    script = (
        "import sys; sys.argv = ['osiris', 'backends', 'list']\n"
        "import osiris_core.cli.main as main, osiris_core.cli.stdout as out\n"
        "out.finish = lambda code: print(*sorted(sys.modules), file=sys.stderr)\nmain.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "docker" in done.stdout
    assert not loaded & {"docker", "pyarrow", "duckdb", "pydantic", "yaml", "numpy", "jinja2", "adapters.docker"}


def test_show_and_schema(tmp_path: Path, plugin: dict[str, str]) -> None:
    """Keys with types and defaults, an example that is valid, and what else has the name."""
    shown = osiris(tmp_path, "backends", "show", "local")
    assert "timeout: integer (default 3600)" in shown.stdout
    assert "it is another thing as well: --kind pipeline" in shown.stdout
    example = document(tmp_path, "backends", "show", "archive")["example"]
    (tmp_path / "archive.yaml").write_text(example)
    assert osiris(tmp_path, "backends", "validate", "archive.yaml").returncode == 0
    assert "partition: string (required)" in osiris(tmp_path, "backends", "show", "queue", **plugin).stdout
    schema = json.loads(osiris(tmp_path, "backends", "schema", "--processor-type", "noop").stdout)
    assert schema["properties"]["timeout"]["minimum"] == 60
    as_yaml = osiris(tmp_path, "backends", "schema", "noop", "--format", "yaml")
    assert yaml.safe_load(as_yaml.stdout) == schema
    assert json.loads(osiris(tmp_path, "backends", "schema", "local", "--examples").stdout)[0]["type"] == "local"
    wrong = osiris(tmp_path, "backends", "show", "dockr")
    assert (wrong.returncode, "did you mean 'docker'?" in wrong.stderr) == (2, True)
    assert osiris(tmp_path, "backends", "schema").returncode == 2


def test_create_then_validate(tmp_path: Path) -> None:
    """What `create` writes is valid, in both forms; an existing file is never overwritten."""
    for arguments in (["local"], ["chain"], ["--backend-type", "docker"], ["--processor-type", "noop"]):
        for form in ("yaml", "json"):
            file = f"{arguments[-1]}.{form}"
            made = osiris(tmp_path, "backends", "create", *arguments, "-o", file, "--format", form, "--with-examples")
            assert made.returncode == 0, made.stderr
            assert file in made.stdout
            checked = document(tmp_path, "backends", "validate", file)
            assert [item["name"] for item in checked["documents"]] == [arguments[-1]]
    before = (tmp_path / "local.yaml").read_text()
    again = osiris(tmp_path, "backends", "create", "process", "--output", "local.yaml")
    assert (again.returncode, "there is such a file already" in again.stderr) == (2, True)
    assert (tmp_path / "local.yaml").read_text() == before


def test_pipelines_are_made_and_shown_too(tmp_path: Path, plugin: dict[str, str]) -> None:
    """Their file has three sections; what a pipeline backend takes is known by the names of its parameters."""
    for name, form in (("local", "yaml"), ("local", "json"), ("cloud", "yaml")):
        made = osiris(tmp_path, "backends", "create", name, "--kind", "pipeline", "--format", form, **plugin)
        (tmp_path / f"{name}.{form}").write_text(made.stdout)
        checked = document(tmp_path, "backends", "validate", f"{name}.{form}", **plugin)
        assert [item["kind"] for item in checked["documents"]] == ["pipeline"]
    assert osiris(tmp_path, "pipeline", "local.yaml").returncode == 0, "what is created can be run as it stands"
    keys = {row["key"]: row for row in document(tmp_path, "backends", "show", "local", "--kind", "pipeline")["keys"]}
    assert keys["config"]["required"]
    assert keys["settings.run_kwargs"]["default"] is None
    schema = json.loads(osiris(tmp_path, "backends", "schema", "local", "--kind", "pipeline").stdout)
    assert schema["properties"]["backend"]["anyOf"]


def test_a_model_run_needs_no_name(tmp_path: Path) -> None:
    """What runs is valid: a document that says nothing but a model run's keys is one."""
    (tmp_path / "model.yaml").write_text("command: echo 1 > outputs/o\n")
    checked = document(tmp_path, "backends", "validate", "model.yaml")
    assert [(item["kind"], item["name"]) for item in checked["documents"]] == [("model run", "run")]
    assert osiris(tmp_path, "run", "--model-run", "model.yaml").returncode == 0


def test_validate_lists_every_problem(tmp_path: Path, plugin: dict[str, str]) -> None:
    """Of every document of the file, with line and did-you-mean; types of plugins are known."""
    (tmp_path / "all.yaml").write_text(
        "type: local\ntimeout: 30\ncomand: x\nworking_dir: nowhere\n---\ntype: queue\n---\ntype: slrum\n---\n"
        "type: noop\ntimeout: ${LIMIT:-60}\n---\njust: this\n---\nrun_id: m\noutput: x\n"
    )
    done = osiris(tmp_path, "backends", "validate", "all.yaml", **plugin)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "all.yaml:2: timeout: Input should be greater than or equal to 60",
        "all.yaml:3: comand: there is no such key (did you mean 'command'?)",
        f"all.yaml:4: working_dir: Working directory does not exist: {tmp_path}/nowhere",
        "all.yaml:6: partition: is missing",
        done.stderr.splitlines()[4],
        done.stderr.splitlines()[5],
        "all.yaml:16: output: there is no such key (did you mean 'output_dir'?)",
        "osiris: 7 problems in 5 of 6 configurations",
    ]
    assert done.stderr.splitlines()[4].startswith("all.yaml:8: type: there is no backend or postprocessor 'slrum'")
    assert done.stderr.splitlines()[5].startswith("all.yaml:13: type: is missing")
    assert "all.yaml:10: postprocessor 'noop': valid" in done.stdout
    found = document(tmp_path, "backends", "validate", "all.yaml", code=2, **plugin)
    assert [item["status"] for item in found["documents"]] == ["invalid"] * 3 + ["valid"] + ["invalid"] * 2
    assert len(found["problems"]) == 7


def test_validate_by_type(tmp_path: Path) -> None:
    """A file that does not say what it is, one that says something else, another spelling of `type`, and none."""
    (tmp_path / "plain.yaml").write_text("timeout: 60\n")
    assert osiris(tmp_path, "backends", "validate", "plain.yaml", "--backend-type", "local").returncode == 0
    assert osiris(tmp_path, "backends", "validate", "plain.yaml", "--processor-type", "noop").returncode == 0
    (tmp_path / "other.yaml").write_text("backend_type: local\ntimeout: 60\n")
    assert osiris(tmp_path, "backends", "validate", "other.yaml").returncode == 0
    differs = osiris(tmp_path, "backends", "validate", "other.yaml", "--backend-type", "docker")
    assert "of 'local', not of 'docker'" in differs.stderr
    broken = osiris(tmp_path, "backends", "validate", "gone.yaml")
    assert (broken.returncode, "there is no such file" in broken.stderr) == (2, True)
    (tmp_path / "bad.yaml").write_text("type: local\n\ttimeout: 1\n")
    assert "bad.yaml:2: not YAML" in osiris(tmp_path, "backends", "validate", "bad.yaml").stderr


def test_schemas_of_model_runs_and_pipelines(tmp_path: Path) -> None:
    """`osiris schema` has them, for editors."""
    assert "template" in json.loads(osiris(tmp_path, "schema", "model-run").stdout)["properties"]
    pipeline = json.loads(osiris(tmp_path, "schema", "pipeline").stdout)
    assert {"config", "backend", "postprocessor"} <= set(pipeline["properties"])


@pytest.mark.parametrize("group", ["backends", "schema", "drivers"])
def test_no_help_is_cut(tmp_path: Path, group: str) -> None:
    """Each command's line in the help of its group is whole."""
    lines = osiris(tmp_path, group, "--help").stdout.partition("Commands:")[2].splitlines()
    assert len(lines) > 2
    assert [line for line in lines if line.endswith("...")] == []
