"""What `generate` makes: a layout, or a folder of templates rendered as a whole; and `ModelRun` itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from osiris_core import ModelRun, PreparationError

pytest.importorskip("jinja2")


def test_the_layout(tmp_path: Path) -> None:
    """INPUT, datasets and outputs are there, and a second call changes nothing that it did not make."""
    run = ModelRun(run_id="tides", output_dir=tmp_path, parameters={"grid": "coarse", "hours": 24})
    workspace = Path(run.generate())
    assert workspace == tmp_path / "tides" == run.staging_dir
    assert sorted(path.name for path in workspace.iterdir()) == ["INPUT", "datasets", "outputs"]
    assert (workspace / "INPUT").read_text() == "run_id = tides\ngrid = coarse\nhours = 24\n"
    (workspace / "outputs" / "kept").touch()
    run.generate()
    assert (workspace / "outputs" / "kept").exists()
    fresh = ModelRun(run_id="tides", output_dir=tmp_path, delete_existing=True)
    fresh.generate()
    assert list((workspace / "outputs").iterdir()) == []


def test_a_template_is_rendered(tmp_path: Path) -> None:
    """Names and texts; bytes that are no text and permissions stay; what is no template is not touched."""
    template = tmp_path / "template"
    (template / "{{ grid }}").mkdir(parents=True)
    (template / "INPUT").write_bytes(b"run {{ run_id }}\r\n{% for h in range(hours) %}{{ h }} {% endfor %}\r\nend\r\n")
    (template / "{{ grid }}" / "{{ run_id }}.nml").write_text("{{ parameters.grid }}")
    (template / "plain").write_text("100 % { } \\ $HOME ${HOME}")
    (template / "binary").write_bytes(b"\xff\xfe{{ run_id }}")
    (template / "run.sh").write_text("#!/bin/sh\necho {{ run_id }} > outputs/who\n")
    (template / "run.sh").chmod(0o755)
    run = ModelRun(
        run_id="tides", output_dir=tmp_path / "out", template=template, parameters={"grid": "coarse", "hours": 3}
    )
    workspace = Path(run.generate())
    assert (workspace / "INPUT").read_bytes() == b"run tides\r\n0 1 2 \r\nend\r\n"
    assert (workspace / "coarse" / "tides.nml").read_text() == "coarse"
    assert (workspace / "plain").read_text() == "100 % { } \\ $HOME ${HOME}"
    assert (workspace / "binary").read_bytes() == b"\xff\xfe{{ run_id }}"
    assert os.access(workspace / "run.sh", os.X_OK)
    assert run.run("local", command="./run.sh", workspace_dir=workspace)
    assert (workspace / "outputs" / "who").read_text() == "tides\n"


def test_every_problem_of_a_template_at_once(tmp_path: Path) -> None:
    """Each with its file and line, and nothing is written."""
    template = tmp_path / "template"
    template.mkdir()
    (template / "a").write_text("fine\n{{ nowhere }}\n")
    (template / "b").write_text("\n\n{% if %}\n")
    (template / "c").write_text("{{ 1 / 0 }}")
    (template / "{{ up }}").write_text("x")
    run = ModelRun(run_id="x", output_dir=tmp_path / "out", template=template, parameters={"up": "../../escaped"})
    with pytest.raises(PreparationError) as caught:
        run.generate()
    found = {(Path(str(problem.file)).name, problem.line) for problem in caught.value.problems}
    assert found == {("a", 2), ("b", 3), ("c", 1), ("{{ up }}", None)}
    assert "leads out of the workspace" in str(caught.value)
    assert list((tmp_path / "out" / "x").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    """It is named; the run is a failed one in its first phase."""
    run = ModelRun(run_id="x", output_dir=tmp_path, template=tmp_path / "none")
    result = run.execute("local", command="true")
    assert (result.success, result.phase) == (False, "generate")
    assert "there is no folder" in str(result.error)


def test_the_model_run_itself(tmp_path: Path) -> None:
    """Strict, frozen, from a file; names stay in their folder; a `config` is an object."""
    for settings, words in [
        ({"run_id": "../x"}, "leaves"),
        ({"run_id": "a/b"}, "plain name"),
        ({"run_id": ".osiris"}, "plain name"),
        ({"command": " "}, "empty"),
        ({"expected_outputs": ["../x"]}, "leaves"),
        ({"config": {"a": 1}}, "object with a `run`"),
        ({"out_dir": "x"}, "Extra inputs"),
    ]:
        with pytest.raises(ValidationError, match=words):
            ModelRun(**settings)
    run = ModelRun(run_id="a", output_dir=tmp_path, command="true")
    assert json.loads(run.model_dump_json())["output_dir"] == str(tmp_path)
    assert ModelRun(**run.model_dump()).run("local")
    assert run.config.run(run) is True
    assert ModelRun(run_id="a").config.command is None
    (tmp_path / "model.yml").write_text("run_id: b\ncommand: exit 3\n")
    loaded = ModelRun.from_file(tmp_path / "model.yml")
    assert (loaded.run_id, loaded.command) == ("b", "exit 3")
    with pytest.raises(FileNotFoundError):
        ModelRun.from_file(tmp_path / "none.yml")


def test_a_workspace_that_is_a_link(tmp_path: Path) -> None:
    """What it leads to is emptied, and it stays a link; what is not to be emptied is not, by any name."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "real")
    run = ModelRun(run_id="a", output_dir=tmp_path / "out", delete_existing=True, command="touch outputs/o")
    for _ in range(2):
        assert run.run("local")
        assert (tmp_path / "out" / "a").is_symlink()
        assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["INPUT", "datasets", "outputs"]
    (tmp_path / "out" / "b").symlink_to(Path.cwd())
    with pytest.raises(PreparationError, match="in which more than this run lives"):
        ModelRun(run_id="b", output_dir=tmp_path / "out", delete_existing=True).generate()


def test_a_copy_is_a_model_run_of_its_own(tmp_path: Path) -> None:
    """It runs its own command, has not run yet, and leaves the first as it was; a `config` of the user's stays."""
    first = ModelRun(run_id="a", output_dir=tmp_path, command="echo a > outputs/o")
    assert first.run("local")
    second = first.model_copy(update={"run_id": "b", "command": "echo b > outputs/o"})
    assert second.last_result is None
    assert second.config.command == second.command
    assert second.run("local")
    assert (tmp_path / "b/outputs/o").read_text() == "b\n"
    assert first.last_result is not None
    assert (first.last_result.run_id, first.config.command) == ("a", "echo a > outputs/o")
    bare = ModelRun(run_id="c", output_dir=tmp_path).model_copy(update={"command": "echo c > outputs/o"}, deep=True)
    assert bare.run("local"), bare.last_result

    class Python:
        def run(self, _: object) -> bool:
            return True

    own = ModelRun(run_id="d", output_dir=tmp_path, config=Python())
    assert own.model_copy(update={"run_id": "e"}).config is own.config
    assert own.model_copy(update={"config": None, "command": "true"}).config.command == "true"


def test_a_workspace_without_a_folder_of_its_own(tmp_path: Path) -> None:
    """With `run_id_subdir: false` it is `output_dir`; what we keep of its runs is no part of it, and survives."""
    run = ModelRun(run_id="a", output_dir=tmp_path / "w", run_id_subdir=False, command="ls -A > listing; touch o")
    result = run.execute("local")
    assert result
    assert [artifact.path for artifact in result.artifacts] == ["listing", "o"]
    assert run.postprocess("report")["file_count"] == 3
    again = ModelRun(run_id="a", output_dir=tmp_path / "w", run_id_subdir=False, command="true", delete_existing=True)
    assert again.run("local")
    assert not (tmp_path / "w" / "o").exists()
    assert (tmp_path / "w" / ".osiris" / "sessions" / "a" / "events.jsonl").exists()
