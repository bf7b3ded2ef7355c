"""A model as a batch job: in its workspace where the nodes see that, in a copy of it where they do not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from osiris_core import ModelRun
from osiris_core.backends import SlurmConfig
from tests.test_model_elsewhere import COMMAND, tree, workspace_of


@pytest.mark.usefixtures("slurm_cluster")
@pytest.mark.parametrize("is_shared", [True, False], ids=["in its workspace", "in a copy"])
def test_a_model_is_a_job(tmp_path: Path, slurm_shared: str, is_shared: bool) -> None:
    """It looks afterwards as by `local`, and nothing of the run is left on the file system or in the queue."""
    settings: dict[str, Any] = {} if is_shared else {"shared_dir": slurm_shared}
    config = SlurmConfig(queue="main", env_vars={"TOLD": "by us"}, **settings)
    assert config.runs_in_workspace == is_shared
    command = f'{COMMAND}; printf "$TOLD" > told'
    here = ModelRun(run_id="m", output_dir=tmp_path / "here", command=command)
    there = ModelRun(run_id="m", output_dir=tmp_path / "there ' n", command=f"pwd; {command}")
    first = here.execute("local", workspace_dir=workspace_of(here), env_vars={"TOLD": "by us"})
    second = there.execute(config, workspace_dir=workspace_of(there))
    assert first, first.error
    assert second, second.error
    assert tree(here.staging_dir) == tree(there.staging_dir)
    assert {item.path for item in second.artifacts} == {item.path for item in first.artifacts}
    ran_in = Path(second.stdout_log).read_text().splitlines()[0]
    assert (ran_in == str(there.staging_dir)) == is_shared
    session = Path(second.session_dir)
    assert list(session.glob("slurm*")) == list(Path(slurm_shared).glob("runs/*")) == []
    listed = subprocess.run(["squeue", "-ho", "%k %T"], capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if "osiris:" in line and "COMPLETING" not in line] == []


@pytest.mark.usefixtures("slurm_cluster")
def test_a_model_that_fails(tmp_path: Path) -> None:
    """Its exit code, and what it left, are here."""
    config = SlurmConfig(command="echo half > outputs/half; exit 3", time_limit="0:05:00")
    result = ModelRun(run_id="m", output_dir=tmp_path).execute(config)
    assert (result.success, result.return_code, result.failure_class) == (False, 3, "user_error")
    assert (tmp_path / "m/outputs/half").read_text() == "half\n"


def test_a_job_needs_a_command(tmp_path: Path) -> None:
    """A model that has none is refused before anything is handed in."""
    result = ModelRun(run_id="m", output_dir=tmp_path).execute(SlurmConfig())
    assert (result.success, result.phase) == (False, "prepare")
    assert "slurm.command: a job needs a command" in str(result.error)


def test_what_runs_a_model() -> None:
    """The configuration knows its backend; only what the nodes see is run in."""
    assert SlurmConfig().get_backend_class().__name__ == "SlurmRunBackend"
    assert SlurmConfig(command="./model").command_step("own") == {"shell": "./model"}
    assert SlurmConfig(command="./model 'a b'", shell=False).command_step(None) == {"argv": ["./model", "a b"]}
    for settings in ({"mode": "array"}, {"mode": "interactive"}, {"shared_dir": "/scratch"}):
        assert not SlurmConfig(**settings).runs_in_workspace
