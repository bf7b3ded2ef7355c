"""A model run by `local`: what the documented calls promise, and what can be known of a run afterwards."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from osiris_core import ModelRun, execute_model, read_events, run_model
from osiris_core.backends import BaseBackendConfig, LocalConfig, LocalRunBackend
from osiris_core.models.registries import CONFIGS, RUN_BACKENDS
from osiris_core.models.settings import SettingsError
from osiris_core.models.subject import Subject


class Bare:
    """Nothing but the four things."""

    def __init__(self, folder: Path, run: Any = None) -> None:
        self.run_id = "bare"
        self.output_dir = str(folder)
        self.config = SimpleNamespace() if run is None else SimpleNamespace(run=run)
        self.generated = 0

    def generate(self) -> str:
        self.generated += 1
        workspace = Path(self.output_dir, self.run_id)
        workspace.mkdir(parents=True, exist_ok=True)
        (workspace / "INPUT").write_text("input\n")
        return str(workspace)


def model(folder: Path, command: str | None = None, **settings: Any) -> ModelRun:
    return ModelRun(run_id="tides", output_dir=folder, command=command, **settings)


def test_the_documented_calls(tmp_path: Path) -> None:
    """By name with settings, by configuration, on the model and on the backend: a plain bool each."""
    run = model(tmp_path)
    assert (
        run.run(backend="local", command="cat INPUT > outputs/a", env_vars={"OMP_NUM_THREADS": "4"}, timeout=3600)
        is True
    )
    config = LocalConfig(
        timeout=3600, command="exit 3", env_vars={"OMP_NUM_THREADS": "4"}, shell=True, capture_output=True
    )
    assert run.run(backend=config) is False
    assert config.get_backend_class()().run(run, config) is False
    assert LocalRunBackend().run(run, LocalConfig(command="true"), workspace_dir=run.generate()) is True
    assert run_model(Bare(tmp_path), "local", command="true") is True
    assert isinstance(Bare(tmp_path), Subject)


def test_a_result_says_what_happened(tmp_path: Path) -> None:
    """Code, signal, class, times, files with their digests; it is true when it succeeded."""
    run = model(tmp_path, "echo said; echo more >&2; printf 12345 > outputs/o.txt; rm INPUT")
    result = run.execute("local")
    assert result
    assert (result.status, result.phase, result.backend) == ("completed", "collect", "local")
    assert (result.return_code, result.signal, result.failure_class, result.error) == (0, None, None, None)
    (artifact,) = result.artifacts
    assert (artifact.path, artifact.size_bytes, artifact.type) == ("outputs/o.txt", 5, "text")
    assert artifact.sha256 == "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    assert Path(result.stdout_log).read_text() == "said\n"
    assert Path(result.stderr_log).read_text() == "more\n"
    assert result.timings["wall_ms"] >= result.timings["steps_ms"] > 0
    assert result.started_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    assert result.finished_at >= result.started_at
    assert run.last_result is result
    assert result.to_json()["artifacts"][0]["type"] == "text"

    failed = run.execute("local", command="echo why >&2; exit 3")
    assert not failed
    assert (failed.phase, failed.return_code, failed.failure_class) == ("execute", 3, "user_error")
    assert "why" in str(failed.error)
    killed = run.execute("local", command="kill -SEGV $$")
    assert (killed.return_code, killed.signal) == (None, "SIGSEGV")
    missing = run.execute("local", command="/no/such/program")
    assert missing.return_code == 127


def test_a_model_without_a_command_is_told_before(tmp_path: Path) -> None:
    """Nothing is generated for it, and no traceback of ours is its error."""
    result = model(tmp_path).execute("local")
    assert (result.success, result.phase, result.failure_class) == (False, "prepare", "user_error")
    assert "the model run has no command (give one to it" in str(result.error)
    assert not (tmp_path / "tides").exists()
    found = model(tmp_path).pipeline()
    assert (found["stage"], found["run_success"]) == ("run", False)


def test_bad_subjects_and_backends(tmp_path: Path) -> None:
    """What is no model run, and what is no backend, is told in the documented words."""
    with pytest.raises(ValueError, match="model_run cannot be None"):
        LocalRunBackend().run(None, LocalConfig(command="true"))
    with pytest.raises(ValueError, match="model_run must have a run_id attribute"):
        LocalRunBackend().run(SimpleNamespace(), LocalConfig(command="true"))
    run = model(tmp_path)
    for wrong in ({"a": 1}, 5, None):
        with pytest.raises(TypeError, match="Backend must be a subclass of BaseBackendConfig, got"):
            run.run(backend=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Unknown run backend: locl.*Available run backends: .*local.*did you mean"):
        run.run(backend="locl")
    with pytest.raises(SettingsError, match="did you mean 'command'"):
        run.run(backend="local", comand="true")
    with pytest.raises(TypeError, match="not both"):
        run.run(backend=LocalConfig(), command="true")
    assert not list(tmp_path.iterdir())


def test_where_it_runs(tmp_path: Path) -> None:
    """`working_dir` goes before the given workspace, that before what `generate` says, that before the usual place."""
    other, given = tmp_path / "other", tmp_path / "given"
    other.mkdir()
    given.mkdir()
    run = Bare(tmp_path / "out")
    command = "pwd > where"
    assert execute_model(run, LocalConfig(command=command, working_dir=other), given).workspace == str(other)
    assert (other / "where").read_text() == f"{other}\n"
    assert execute_model(run, LocalConfig(command=command), given)
    assert (given / "where").read_text() == f"{given}\n"
    assert run.generated == 0
    run.generate = lambda: str(other)  # type: ignore[method-assign]
    assert execute_model(run, LocalConfig(command=command)).workspace == str(other)
    run.generate = lambda: None  # type: ignore[assignment, method-assign]
    result = execute_model(run, LocalConfig(command=command))
    assert (result.success, result.phase) == (False, "generate")
    assert "Working directory does not exist" in str(result.error)


def test_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's whole environment with `env_vars` on top; or, if that is asked for, what is declared only."""
    monkeypatch.setenv("OSIRIS_TEST_A", "caller")
    monkeypatch.setenv("OSIRIS_TEST_B", "caller")
    run = model(tmp_path, 'echo "$OSIRIS_TEST_A $OSIRIS_TEST_B $TZ" > outputs/e')
    monkeypatch.setenv("TZ", "Europe/Prague")
    assert run.run("local", env_vars={"OSIRIS_TEST_B": "mine"})
    assert (tmp_path / "tides/outputs/e").read_text() == "caller mine Europe/Prague\n"
    assert run.run("local", inherit_env=False, env_vars={"OSIRIS_TEST_B": "mine"})
    assert (tmp_path / "tides/outputs/e").read_text() == " mine UTC\n"


def test_a_commands_own_dollars_are_its_shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` in a command is no reference of ours; without a shell it is a plain word."""
    monkeypatch.setenv("NAME", "value")
    run = model(tmp_path)
    assert run.run("local", command="echo ${NAME} ${NONE:-none} > outputs/e")
    assert (tmp_path / "tides/outputs/e").read_text() == "value none\n"
    assert run.run("local", command="touch 'outputs/${NAME} > $HOME'", shell=False)
    assert (tmp_path / "tides/outputs/${NAME} > $HOME").exists()


def test_output_may_be_passed_on(tmp_path: Path) -> None:
    """`capture_output: false` gives it to the caller's own output, masked, and keeps nothing of it."""
    script = f"""
        from osiris_core import ModelRun
        run = ModelRun(run_id="a", output_dir={str(tmp_path)!r}, command="echo out $API_TOKEN; echo err >&2")
        assert run.run("local", capture_output=False, env_vars={{"API_TOKEN": "tok-4711-4711"}})
        assert run.last_result.stdout_log == ""
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("out ***\n", "err\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"4711" in path.read_bytes()]


def test_output_may_be_streamed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every line is logged while the command runs, and is an event."""
    seen: list[tuple[str, float]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), time.monotonic()))

    logger, handler = logging.getLogger("osiris.model_run"), Handler()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "osiris.model_run"):
            result = model(tmp_path, "echo first; sleep 0.7; echo second").execute("local", stream_output=True)
    finally:
        logger.removeHandler(handler)
    at = dict(seen)
    assert at["second"] - at["first"] > 0.3
    lines = [event["message"] for event in read_events(f"{result.session_dir}/events.jsonl") if event["event"] == "log"]
    assert lines == ["first", "second"]


def test_the_end_of_the_output_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Standard output as INFO; standard error as WARNING, or ERROR when the run failed; no value of a variable."""
    with caplog.at_level(logging.INFO, "osiris.model_run"):
        run = model(tmp_path)
        run.run("local", command="echo out; echo err >&2; echo $API_KEY", env_vars={"API_KEY": "key-4711-4711"})
        run.run("local", command="echo bad >&2; exit 1")
    found = {(record.levelname, record.getMessage().split("\n")[-1]) for record in caplog.records}
    assert {("INFO", "***"), ("WARNING", "err"), ("ERROR", "bad")} <= found
    assert "4711" not in caplog.text


def test_config_run(tmp_path: Path) -> None:
    """Without a command the model's own Python runs, in its workspace, with its environment; a bool is the outcome."""
    place = tmp_path / "bare"

    def run(model_run: Any) -> Any:
        Path("made").write_text(f"{os.getcwd()} {os.environ['LEVEL']} {model_run.run_id}")
        print("printed")
        return True

    result = execute_model(Bare(tmp_path, run), "local", env_vars={"LEVEL": "high"})
    assert result, result.error
    assert (place / "made").read_text() == f"{place} high bare"
    assert Path(result.stdout_log).read_text() == "printed\n"
    assert [artifact.path for artifact in result.artifacts] == ["made"]
    assert execute_model(Bare(tmp_path, lambda _: False), "local").success is False

    def fails(_: Any) -> bool:
        raise RuntimeError("no wind")

    failed = execute_model(Bare(tmp_path, fails), "local")
    assert (failed.success, failed.error) == (False, "RuntimeError: no wind")
    assert "no wind" in Path(failed.stderr_log).read_text()
    odd = execute_model(Bare(tmp_path, lambda _: 7), "local")
    assert odd.success
    assert "returned int" in odd.warnings[0]
    assert execute_model(Bare(tmp_path, lambda _: sys.exit(3)), "local").return_code == 3
    nothing = execute_model(Bare(tmp_path), "local")
    assert nothing.success
    assert "nothing to execute" in nothing.warnings[0]


def test_expected_outputs(tmp_path: Path) -> None:
    """What a good run leaves must be there; what is missing is named, and makes the run a failed one."""
    run = model(tmp_path, "touch outputs/a.nc", expected_outputs=("outputs/*.nc", "outputs/b.txt"))
    result = run.execute("local")
    assert (result.success, result.phase, result.failure_class) == (False, "collect", "user_error")
    assert result.missing_outputs == ("outputs/b.txt",)
    assert "outputs/b.txt" in str(result.error)
    assert run.execute("local", command="touch outputs/a.nc outputs/b.txt").success
    stale = run.execute("local", command="touch outputs/a.nc")
    assert stale.missing_outputs == ("outputs/b.txt",)
    folder = model(tmp_path, "true", expected_outputs=("outputs",))
    assert folder.run("local")
    assert execute_model(folder, FakeConfig()).success
    old = model(tmp_path, expected_outputs=("outputs/b.txt",))
    time.sleep(0.05)
    assert execute_model(old, FakeConfig()).missing_outputs == ("outputs/b.txt",)


# Backends of others.


class FakeConfig(BaseBackendConfig):
    queue: str = "main"

    def get_backend_class(self) -> type[Any]:
        return FakeBackend


class FakeBackend:
    seen: ClassVar[list[dict[str, Any]]] = []

    def run(self, model_run: Any, config: Any, workspace_dir: Any = None) -> bool:
        FakeBackend.seen.append({"model_run": model_run, "config": config, "workspace_dir": workspace_dir})
        if config.queue == "raise":
            raise LookupError("no such queue")
        if config.queue == "hang":
            time.sleep(30)
        return bool(config.queue == "main")


class ShortBackend:
    seen: ClassVar[list[dict[str, Any]]] = []

    def run(self, model_run: Any, **kwargs: Any) -> bool:
        ShortBackend.seen.append(kwargs)
        model_run.generate()
        return True


class TwoArguments:
    def run(self, model_run: Any, config: Any) -> bool:
        return bool(config.queue)


def test_a_backend_of_somebody_elses(tmp_path: Path) -> None:
    """It is called once, as it is, inside one step with a journal; what it raises comes out of `run`."""
    FakeBackend.seen.clear()
    run = Bare(tmp_path)
    config = FakeConfig()
    result = execute_model(run, config)
    assert result
    assert FakeBackend.seen == [{"model_run": run, "config": config, "workspace_dir": None}]
    assert run.generated == 0
    events = [event["event"] for event in read_events(f"{result.session_dir}/events.jsonl")]
    assert events == ["run.start", "step.start", "step.complete", "steps.complete", "run.complete"]
    assert execute_model(run, FakeConfig(queue="other")).success is False
    with pytest.raises(LookupError, match="no such queue"):
        run_model(run, FakeConfig(queue="raise"))
    failed = execute_model(run, FakeConfig(queue="raise"), tmp_path)
    assert "no such queue" in failed.to_json()["error"]
    json.dumps(failed.to_json())
    assert (failed.success, failed.failure_class) == (False, "user_error")


def test_a_backend_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for it too."""
    monkeypatch.setattr("osiris_core.engine.GRACE_S", 0.2)
    started_s = time.monotonic()
    with pytest.raises(TimeoutError, match=r"timed out after 0\.3 seconds"):
        run_model(Bare(tmp_path), FakeConfig(queue="hang"), timeout_s=0.3)
    assert time.monotonic() - started_s < 10


def test_a_backend_by_name(tmp_path: Path) -> None:
    """Without a configuration class it gets the settings; with one of its name they are checked first."""
    ShortBackend.seen.clear()
    RUN_BACKENDS.register("short", ShortBackend)
    RUN_BACKENDS.register("two", TwoArguments)
    CONFIGS.register("fake", FakeConfig)
    try:
        run = Bare(tmp_path)
        assert run_model(run, "short", nodes=2) is True
        assert ShortBackend.seen == [{"nodes": 2}]
        assert run.generated == 1
        assert run_model(run, "fake", queue="other") is False
        with pytest.raises(SettingsError, match="did you mean 'queue'"):
            run_model(run, "fake", queu="other")

        class Two(FakeConfig):
            def get_backend_class(self) -> type[Any]:
                return TwoArguments

        assert run_model(run, Two()) is True
    finally:
        RUN_BACKENDS.unregister("short")
        RUN_BACKENDS.unregister("two")
        CONFIGS.unregister("fake")


def test_a_child_logs_while_others_do(tmp_path: Path) -> None:
    """Threads that log and print all the time hold locks at the moment of a fork; no child waits for one of them."""
    stopping = threading.Event()
    logger = logging.getLogger("osiris-test-noise")
    with (tmp_path / "log").open("w") as stream:
        handlers = [logging.StreamHandler(stream), logging.StreamHandler(sys.stderr)]
        for handler in handlers:
            logger.addHandler(handler)
        logger.propagate = False

        def noise() -> None:
            while not stopping.is_set():
                logger.warning("noise")
                print("noise", file=sys.stderr)

        def call(_: Any) -> bool:
            logger.warning("from the child")
            print("printed")
            return True

        threads = [threading.Thread(target=noise) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            results = [execute_model(Bare(tmp_path, call), "local", timeout_s=15) for _ in range(15)]
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
            for handler in handlers:
                logger.removeHandler(handler)
    assert [result.error for result in results] == [None] * 15
    assert Path(results[-1].stdout_log).read_text() == "printed\n"
    assert "from the child" in Path(results[-1].stderr_log).read_text()


def test_runs_side_by_side(tmp_path: Path) -> None:
    """Many at once, commands and callables mixed: each ends in its own workspace with its own words."""

    def one(number: int) -> None:
        def call(_: Any) -> bool:
            time.sleep(0.01)
            Path("mine").write_text(f"{number} {os.environ['N']} {os.getcwd()}")
            return True

        if number % 2:
            subject: Any = Bare(tmp_path / str(number), call)
            done = execute_model(subject, "local", env_vars={"N": str(number)})
            folder = tmp_path / str(number) / "bare"
        else:
            run = ModelRun(run_id="m", output_dir=tmp_path / str(number), command=f'printf "{number} $N $PWD" > mine')
            done = run.execute("local", env_vars={"N": str(number)})
            folder = tmp_path / str(number) / "m"
        results[number] = (done.success, (folder / "mine").read_text() == f"{number} {number} {folder}", done.error)

    results: dict[int, Any] = {}
    before, environment = os.getcwd(), dict(os.environ)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(12), (True, True, None))
    assert (os.getcwd(), dict(os.environ)) == (before, environment)
