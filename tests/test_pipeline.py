"""The local pipeline: its stages in their order, what a failure says, what is not done twice, and what is not lost."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import ModelRun, PipelineResult, run_pipeline
from osiris_core.backends import (
    BaseBackendConfig,
    LocalConfig,
    LocalPipelineBackend,
    NoopPostprocessorConfig,
)

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = "echo x >> ../count; date +%N > outputs/o"


def model(folder: Path, **settings: Any) -> ModelRun:
    return ModelRun(**{"run_id": "tides", "output_dir": folder, "command": COMMAND, **settings})


def runs(folder: Path) -> int:
    return len((folder / "count").read_text().split()) if (folder / "count").exists() else 0


class Says:
    """A processor that says what it was told to say."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def process(self, model_run: Any, **_: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Failing(BaseBackendConfig):
    def get_backend_class(self) -> type[Any]:
        return FailingBackend


class FailingBackend:
    def run(self, model_run: Any, config: Any, workspace_dir: Any = None) -> bool:
        raise RuntimeError("no license")


def test_the_documented_calls(tmp_path: Path) -> None:
    """By names with settings or by configurations, on the model or on the backend; with every documented key."""
    run = model(tmp_path)
    result = run.pipeline(
        pipeline_backend="local",
        run_backend="local",
        processor="noop",
        run_kwargs={"env_vars": {"A": "1"}},
        process_kwargs={"validate_outputs": True},
        cleanup_on_failure=True,
    )
    assert isinstance(result, PipelineResult)
    assert result["success"] is True
    assert result["stages_completed"] == ["generate", "run", "postprocess"]
    assert (result["run_id"], result["run_backend"], result["processor"]) == ("tides", "local", "noop")
    assert result["staging_dir"] == str(tmp_path / "tides")
    assert result["run_success"] is True
    assert result["postprocess_results"]["success"] is True
    assert result["message"] == "Pipeline completed successfully"
    assert set(result["timings"]) == {"generate_ms", "run_ms", "postprocess_ms"}
    assert "stage" not in result
    json.dumps(result)
    results = LocalPipelineBackend().execute(
        model_run=run,
        run_backend=LocalConfig(timeout=7200),
        processor_config=NoopPostprocessorConfig(validate_outputs=True, timeout=3600),
        cleanup_on_failure=False,
    )
    assert results["success"], results
    assert run.pipeline(backend_config=LocalConfig(timeout=99), processor=NoopPostprocessorConfig()).success


def test_bad_arguments_do_nothing(tmp_path: Path) -> None:
    """Names, kinds and settings are checked before the first stage; what was meant is suggested."""
    run = model(tmp_path)
    for settings, error, words in [
        ({"run_backend": "locl"}, ValueError, "Unknown run backend: locl"),
        ({"run_backend": " "}, ValueError, "run_backend must be a non-empty string"),
        ({"run_backend": 5}, TypeError, "Backend must be a subclass of BaseBackendConfig, got int"),
        ({"run_kwargs": {"comand": "x"}}, ValueError, "did you mean 'command'"),
        ({"run_kwargs": ["x"]}, TypeError, "mapping"),
        ({"run_backend": "docker"}, ValueError, "Either 'image' or 'dockerfile' must be provided"),
        ({"processor": ""}, ValueError, "processor must be a non-empty string"),
        ({"processor": "nop"}, ValueError, "Unknown postprocessor: nop"),
        ({"processor": 5}, TypeError, "processor must be a BasePostprocessorConfig instance"),
        ({"process_kwargs": {"validat": 1}}, ValueError, "there is no such key"),
        ({"postprocess_failure": "maybe"}, ValueError, "'fail' or 'warn'"),
        (
            {"pipeline_backend": "nope"},
            ValueError,
            "Unknown pipeline backend: nope. Available pipeline backends: local",
        ),
        ({"run_backends": "local"}, TypeError, "run_backends"),
    ]:
        with pytest.raises(error, match=words.replace(".", r"\.")):
            run.pipeline(**settings)  # type: ignore[arg-type]
    for subject, words in ((None, "model_run cannot be None"), (SimpleNamespace(), "must have a run_id")):
        with pytest.raises(ValueError, match=words):
            run_pipeline(subject)
    assert list(tmp_path.iterdir()) == []


def test_each_stage_can_fail(tmp_path: Path) -> None:
    """The stage is named, with its error; `stages_completed` is exactly what came before it."""

    def broken() -> str:
        raise OSError("disk is full")

    def nowhere() -> str:
        return str(tmp_path / "nowhere")

    def subject(generate: Any) -> Any:
        return SimpleNamespace(run_id="s", output_dir=tmp_path / "s", config=SimpleNamespace(), generate=generate)

    found = run_pipeline(subject(broken))
    assert (found["stage"], found["error"], found["stages_completed"]) == ("generate", "disk is full", [])
    assert found["message"] == "Input file generation failed: disk is full"
    found = run_pipeline(subject(nowhere))
    assert (found["stage"], found["stages_completed"]) == ("generate", [])
    assert "not found after generation" in found["message"]
    assert run_pipeline(subject(nowhere), validate_stages=False)["stage"] == "run"

    run = model(tmp_path)
    found = run.pipeline(run_kwargs={"command": "exit 3"})
    assert (found["stage"], found["stages_completed"], found["run_success"]) == ("run", ["generate"], False)
    assert found["message"] == "Model run failed"
    assert "exited with code 3" in found["error"]
    found = run.pipeline(run_backend=Failing())
    assert (found["stage"], found["message"]) == ("run", "Model run error: no license")
    found = run.pipeline(processor=Says(LookupError("no grid")))
    assert (found["stage"], found["stages_completed"]) == ("postprocess", ["generate", "run"])
    assert "no grid" in found["error"]
    assert (found.success, found.stage) == (False, "postprocess")


def test_a_failed_postprocessing_is_no_success(tmp_path: Path) -> None:
    """Unless that is asked for; and what a processor raises is never one."""
    run, bad = model(tmp_path), Says({"success": False, "message": "bad grid"})
    found = run.pipeline(processor=bad)
    assert (found["success"], found["stage"], found["error"]) == (False, "postprocess", "bad grid")
    warned = run.pipeline(processor=bad, postprocess_failure="warn")
    assert (warned["success"], warned["postprocess_results"]["success"]) == (True, False)
    assert warned["stages_completed"] == ["generate", "run", "postprocess"]
    assert "bad grid" in warned["warnings"][0]
    assert not run.pipeline(processor=Says(RuntimeError("x")), postprocess_failure="warn")


def test_what_succeeded_is_not_repeated(tmp_path: Path) -> None:
    """A second call goes on where the first one failed; other wishes, lost files or `force` begin again."""
    run = model(tmp_path)
    assert run.pipeline(processor=Says({"success": False}))["stage"] == "postprocess"
    assert runs(tmp_path) == 1
    again = run.pipeline(processor="noop")
    assert (again.success, again["skipped"], runs(tmp_path)) == (True, ["generate", "run"], 1)
    fresh = model(tmp_path).pipeline(processor="noop")
    assert (fresh["skipped"], runs(tmp_path)) == (["generate", "run", "postprocess"], 1)
    assert fresh["stages_completed"] == ["generate", "run", "postprocess"]
    assert fresh["postprocess_results"]["file_count"] == 2
    assert fresh["run_success"] is True

    assert run.pipeline(force=True)["skipped"] == []
    assert runs(tmp_path) == 2
    (tmp_path / "tides" / "outputs" / "o").unlink()
    assert run.pipeline()["skipped"] == ["generate"]
    assert runs(tmp_path) == 3
    assert run.pipeline(run_kwargs={"env_vars": {"A": "1"}})["skipped"] == ["generate"]
    assert runs(tmp_path) == 4
    assert model(tmp_path, parameters={"a": 1}).pipeline()["skipped"] == []
    assert (tmp_path / "tides" / "INPUT").read_text().endswith("a = 1\n")
    failed = run.pipeline(run_kwargs={"command": "exit 1"})
    assert failed["stage"] == "run"
    assert run.pipeline(run_kwargs={"command": "exit 1"})["skipped"] == ["generate"]


def test_inputs_that_are_gone_are_generated_again(tmp_path: Path) -> None:
    """Unless the run itself took them away."""
    run = model(tmp_path, parameters={"n": 1})
    settings: Any = {"run_kwargs": {"command": "cp INPUT outputs/copy; rm -f datasets/used"}}
    assert run.pipeline(**settings).success
    (run.staging_dir / "INPUT").unlink()
    (run.staging_dir / "outputs" / "copy").unlink()
    again = run.pipeline(**settings)
    assert again.success, again["error"]
    assert again["skipped"] == []
    eats = {"run_kwargs": {"command": "mv INPUT outputs/moved"}}
    assert run.pipeline(**eats).success
    assert run.pipeline(**eats)["skipped"] == ["generate", "run", "postprocess"]


def test_a_run_that_failed_since_is_repeated(tmp_path: Path) -> None:
    """A pipeline's own success does not hold when the model was run since, which also made its inputs anew."""
    assert model(tmp_path).pipeline().success
    assert not model(tmp_path).run("local", command="exit 3")
    again = model(tmp_path).pipeline()
    assert again.success, again["error"]
    assert again["skipped"] == []
    assert model(tmp_path, parameters={"n": 2}, command="echo other > outputs/o").run("local")
    again = model(tmp_path).pipeline()
    assert again["skipped"] == []
    assert (tmp_path / "tides" / "INPUT").read_text() == "run_id = tides\n"
    assert (tmp_path / "tides" / "outputs" / "o").read_text() != "other\n"


def test_a_model_in_python_is_done_again_when_its_code_is_other(tmp_path: Path) -> None:
    """The code of `config.run` counts."""

    def subject(run: Any) -> Any:
        def generate() -> str:
            (tmp_path / "s").mkdir(exist_ok=True)
            return str(tmp_path / "s")

        return SimpleNamespace(run_id="s", output_dir=tmp_path, config=SimpleNamespace(run=run), generate=generate)

    def one(_: Any) -> bool:
        return True

    def two(_: Any) -> bool:
        return bool(1 + len("a"))

    assert run_pipeline(subject(one))["skipped"] == []
    assert "run" in run_pipeline(subject(one))["skipped"]
    assert "run" not in run_pipeline(subject(two))["skipped"]


def test_cleanup(tmp_path: Path) -> None:
    """After a failed run the workspace is gone, and nothing else; it never raises, and never takes what is shared."""
    (tmp_path / "other").mkdir()
    run = model(tmp_path)
    found = run.pipeline(run_kwargs={"command": "echo 1 > outputs/big; exit 1"}, cleanup_on_failure=True)
    assert (found["stage"], found["cleaned_up"]) == ("run", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".osiris", "other"]
    assert not list((tmp_path / ".osiris").rglob("big"))
    assert (tmp_path / ".osiris/sessions/tides/events.jsonl").exists()
    kept = run.pipeline(run_kwargs={"command": "exit 1"})
    assert kept["cleaned_up"] is False
    assert (tmp_path / "tides").is_dir()
    shared = model(tmp_path / "flat", run_id_subdir=False)
    found = shared.pipeline(run_kwargs={"command": "exit 1"}, cleanup_on_failure=True)
    assert (found["stage"], found["cleaned_up"]) == ("run", False)
    assert (tmp_path / "flat" / "INPUT").exists()


def test_a_timeout_is_a_failure_of_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no exception."""
    run = model(tmp_path)
    config = LocalConfig(command="sleep 30").model_copy(update={"timeout": 1})
    started_s = time.monotonic()
    found = run.pipeline(backend_config=config)
    assert (found["stage"], found["run_success"]) == ("run", False)
    assert "longer than 1 s" in found["error"]
    assert time.monotonic() - started_s < 15


def test_a_limit_under_a_minute(tmp_path: Path) -> None:
    """By `timeout_s`, of the pipeline or among the run's settings; one that is none is refused before anything."""
    run = model(tmp_path, command="sleep 30")
    for settings in ({"timeout_s": 0.5}, {"run_kwargs": {"timeout_s": 0.5}}):
        found = run.pipeline(**settings)  # type: ignore[arg-type]
        assert "longer than 0.5 s" in found["error"]
    with pytest.raises(ValueError, match="timeout_s must be positive"):
        run.pipeline(timeout_s=0)


def test_secrets_stay_out_of_what_is_kept(tmp_path: Path) -> None:
    """What stages are told by holds no value of a variable, and a new password repeats nothing."""
    run = model(tmp_path)
    assert run.pipeline(run_kwargs={"env_vars": {"API_TOKEN": "tok-4711-4711"}}).success
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"4711" in path.read_bytes()]
    assert "run" in run.pipeline(run_kwargs={"env_vars": {"API_TOKEN": "tok-4712-4712"}})["skipped"]
