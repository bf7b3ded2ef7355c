"""Configurations of run backends: the documented rules and words, and every field arrives or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from osiris_core import AdapterFactory, ExecutionContext, PreparationError
from osiris_core.backends import BaseBackendConfig, DockerConfig, LocalConfig, ProcessConfig

PRINTENV = {"pipeline": "p", "steps": [{"id": "run", "driver": "command", "config": {"shell": "echo $LEVEL"}}]}


def words_of(model: type[BaseBackendConfig], **settings: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model(**settings)
    return "; ".join(item["msg"] for item in caught.value.errors())


def test_the_base_is_abstract() -> None:
    """It says nothing about who runs, so nobody can have one."""
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        BaseBackendConfig()  # type: ignore[abstract]


@pytest.mark.parametrize("model", [LocalConfig, ProcessConfig, DockerConfig])
def test_the_rules_that_all_have(model: type[BaseBackendConfig], tmp_path: Path) -> None:
    """Bounds, variables and unknown fields are told in the documented words."""
    assert "Input should be greater than or equal to 60" in words_of(model, timeout=59)
    assert "Input should be less than or equal to 86400" in words_of(model, timeout=86401)
    assert "fractional part" in words_of(model, timeout=60.5)
    assert "Input should be a valid string" in words_of(model, env_vars={"A": 1})
    assert "Input should be a valid dictionary" in words_of(model, env_vars=["A"])
    assert "Environment variable keys cannot be empty" in words_of(model, env_vars={"": "1"})
    assert "Extra inputs are not permitted" in words_of(model, comand="x")
    settings = {"image": "a"} if model is DockerConfig else {}
    config = model(timeout="60", env_vars={"A": "1"}, **settings)  # type: ignore[arg-type]
    assert (config.timeout, config.env_vars) == (60, {"A": "1"})
    with pytest.raises(ValidationError):
        config.timeout = 5  # type: ignore[misc]
    assert model(**settings).timeout == 3600
    assert config.validate() is True


def test_a_working_directory_must_be_one(tmp_path: Path) -> None:
    """What is missing or a file is refused; what is good is absolute from then on."""
    (tmp_path / "file").touch()
    assert f"Working directory does not exist: {tmp_path}/none" in words_of(
        LocalConfig, working_dir=str(tmp_path / "none")
    )
    assert f"is not a directory: {tmp_path}/file" in words_of(LocalConfig, working_dir=tmp_path / "file")
    config = LocalConfig(working_dir=tmp_path)
    assert config.working_dir == tmp_path
    tmp_path.joinpath("sub").mkdir()
    gone = LocalConfig(working_dir=tmp_path / "sub")
    tmp_path.joinpath("sub").rmdir()
    with pytest.raises(ValidationError, match="does not exist"):
        gone.validate()


@pytest.mark.parametrize(
    "config",
    [
        LocalConfig(command="x", shell=False, env_vars={"A": "1"}, working_dir=Path.cwd(), inherit_env=False),
        ProcessConfig(command="x", timeout=99),
        DockerConfig(image="a/b:1", cpu=2, memory="512m", user="root", mpiexec="mpirun", volumes=("/usr:/grids:ro",)),
    ],
)
def test_round_trips(config: BaseBackendConfig) -> None:
    """A mapping and JSON give the same configuration back, and `json.dump` takes what it dumps."""
    model = type(config)
    assert model(**config.model_dump()) == config
    assert model.model_validate_json(config.model_dump_json()) == config
    assert model(**json.loads(json.dumps(config.model_dump()))) == config
    assert model(**config.model_dump()).runs_in_workspace == config.runs_in_workspace


def test_names_of_the_classes() -> None:
    """Each configuration knows who runs with it."""
    assert LocalConfig().get_backend_class().__name__ == "LocalRunBackend"
    assert ProcessConfig().get_backend_class().__name__ == "ProcessRunBackend"
    assert DockerConfig(image="a").get_backend_class().__name__ == "DockerRunBackend"
    from osiris_core.models.run_backend import run_backend_class

    assert run_backend_class("slurm").__name__ == "SlurmRunBackend"
    assert run_backend_class("e2b").__name__ == "E2BRunBackend"


def test_an_empty_command_is_refused() -> None:
    """It would be a run of nothing."""
    assert "the command is empty" in words_of(LocalConfig, command=" ")
    assert "cannot be split" in words_of(LocalConfig, command="a 'b", shell=False)
    assert "nothing to log" in words_of(LocalConfig, stream_output=True, capture_output=False)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"command": "x"}, "local.command"),
        ({"shell": False}, "local.shell"),
        ({"capture_output": False}, "local.capture_output"),
        ({"stream_output": True}, "local.stream_output"),
        ({"working_dir": "."}, "local.working_dir"),
    ],
)
def test_what_is_for_model_runs_is_refused_for_a_manifest(tmp_path: Path, settings: dict[str, Any], key: str) -> None:
    """Nothing is ignored: a manifest run says which setting means nothing to it, with all other problems."""
    adapter = AdapterFactory.create("local", **settings)
    broken = {"steps": [{"id": "a", "driver": "comand"}]}
    with pytest.raises(PreparationError) as caught:
        adapter.prepare(broken, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert [problem.key for problem in caught.value.problems] == [key, "driver"]
    assert "model runs" in str(caught.value)


def test_what_equals_the_default_is_refused_by_nobody(tmp_path: Path) -> None:
    """A configuration that was written out with all its defaults serves manifests as before."""
    written = LocalConfig().model_dump()
    assert (
        AdapterFactory.create("local", **written)
        .run(PRINTENV, ExecutionContext(session_dir=str(tmp_path / "s")))
        .succeeded
    )


@pytest.mark.parametrize("name", ["local", "process"])
def test_variables_arrive_in_the_steps_of_a_manifest(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env_vars` are declared variables on every adapter, those by reference secret; what the run declares wins."""
    monkeypatch.setenv("HERE", "a-secret-4711")
    adapter = AdapterFactory.create(name, env_vars={"LEVEL": "high ${HERE}"})
    report = adapter.run(PRINTENV, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert (tmp_path / "s/artifacts/run/stdout.log").read_text() == "***\n"
    assert not [path for path in (tmp_path / "s").rglob("*") if path.is_file() and b"4711" in path.read_bytes()]
    own = ExecutionContext(session_dir=str(tmp_path / "t"), environment={"LEVEL": "mine"}, public_environment={"LEVEL"})  # type: ignore[arg-type]
    assert adapter.run(PRINTENV, own).succeeded
    assert (tmp_path / "t/artifacts/run/stdout.log").read_text() == "mine\n"


def test_a_variable_without_a_value_is_a_problem(tmp_path: Path) -> None:
    """It is named before anything is started."""
    adapter = AdapterFactory.create("local", env_vars={"TOKEN": "${OSIRIS_TEST_NOT_SET}"})
    with pytest.raises(PreparationError, match="OSIRIS_TEST_NOT_SET has no value here"):
        adapter.run(PRINTENV, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert not (tmp_path / "s").exists()


def test_a_timeout_counts_for_a_manifest_when_it_is_written(tmp_path: Path) -> None:
    """The default is no limit; a written one is; the run's own goes before both."""

    def limit(adapter: Any, context: ExecutionContext) -> Any:
        return adapter.prepare(PRINTENV, context).settings["timeout_s"]

    for number, (config, own, expected) in enumerate(
        [(LocalConfig(), None, None), (LocalConfig(timeout=77), None, 77.0), (LocalConfig(timeout=77), 5.0, 5.0)]
    ):
        adapter = AdapterFactory.create("local", config)
        context = ExecutionContext(session_dir=str(tmp_path / str(number)), timeout=own)
        assert limit(adapter, context) == expected


def test_docker_words(tmp_path: Path) -> None:
    """The documented rules of images, builds, volumes and limits, in the documented words."""
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "folder").mkdir()
    good = {"image": "a"}
    assert "Cannot specify both 'image' and 'dockerfile'" in words_of(DockerConfig, image="a", dockerfile="b")
    for image in ("swan", "swan:latest", "registry.example.org:5000/a/b:1", "a/b/c"):
        assert DockerConfig(image=image).image == image
    assert "less than or equal to 128" in words_of(DockerConfig, **good, cpu=200)
    assert words_of(DockerConfig, **good, cpu=0)
    for memory in ("1.5g", "2gb", ""):
        assert words_of(DockerConfig, **good, memory=memory)
    assert "Host path does not exist: /nowhere" in words_of(DockerConfig, **good, volumes=["/nowhere:/data"])
    assert "host:container" in words_of(DockerConfig, **good, volumes=["/usr"])
    assert "Build context does not exist" in words_of(DockerConfig, dockerfile="D", build_context=str(tmp_path / "x"))
    assert "is not a directory" in words_of(DockerConfig, dockerfile="D", build_context=str(tmp_path / "Dockerfile"))
    assert "Dockerfile does not exist" in words_of(DockerConfig, dockerfile="None", build_context=str(tmp_path))
    assert "Dockerfile is not a file" in words_of(DockerConfig, dockerfile="folder", build_context=str(tmp_path))
    assert DockerConfig(dockerfile="Dockerfile", build_context=str(tmp_path)).build_context == str(tmp_path)
    (problem,) = DockerConfig().model_run_problems()
    assert "Either 'image' or 'dockerfile' must be provided" in problem.message


@pytest.mark.parametrize(
    ("settings", "argv"),
    [
        ({}, ["/usr/local/bin/run.sh"]),
        ({"executable": "/opt/a 'b c'"}, ["/opt/a", "b c"]),
        ({"mpiexec": "mpiexec", "cpu": 4}, ["mpiexec", "-n", "4", "/usr/local/bin/run.sh"]),
        ({"mpiexec": "mpiexec"}, ["mpiexec", "-n", "1", "/usr/local/bin/run.sh"]),
        ({"mpiexec": "mpirun -np 8", "cpu": 4}, ["mpirun", "-np", "8", "/usr/local/bin/run.sh"]),
        ({"mpiexec": "mpirun -np=8"}, ["mpirun", "-np=8", "/usr/local/bin/run.sh"]),
        ({"mpiexec": "srun --ntasks=3"}, ["srun", "--ntasks=3", "/usr/local/bin/run.sh"]),
        (
            {"mpiexec": "mpiexec --opt 'a b'", "cpu": 2.5},
            ["mpiexec", "--opt", "a b", "-n", "2", "/usr/local/bin/run.sh"],
        ),
    ],
)
def test_the_command_line_of_a_container(settings: dict[str, Any], argv: list[str]) -> None:
    """`mpiexec` is split like a shell would, and a count added only where it names none."""
    assert DockerConfig(image="a", **settings).command_step(None) == {"argv": argv}


@pytest.mark.parametrize("text", ["a; b", "a && b", "a | b", "a > b", "echo $HOME", "a `b`", "a & b"])
def test_what_only_a_shell_understands_is_refused(text: str) -> None:
    """Nothing is spliced into a shell, and nobody has to find that out by what did not happen."""
    assert "sh -c" in words_of(DockerConfig, image="a", executable=text)
    assert DockerConfig(image="a", executable=f"sh -c '{text}'").executable
