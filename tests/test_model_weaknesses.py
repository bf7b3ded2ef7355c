"""
What went wrong in systems like this one, and cannot here: each test tries to make it happen again.

Those of batch schedulers, of the command line and of configuration files are tried where these are tested.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import psutil
import pytest

from osiris_core import AdapterFactory, ExecutionContext, ModelRun, PreparationError, execute_model, run_model
from osiris_core.backends import (
    BaseBackendConfig,
    BasePostprocessorConfig,
    DockerConfig,
    LocalConfig,
    NoopPostprocessorConfig,
)
from osiris_core.models.verdict import last_verdict
from osiris_core.secrets import substitute
from tests.conftest import DOCKER_BASE


def model(folder: Path, command: str | None = None, **settings: Any) -> ModelRun:
    return ModelRun(run_id="tides", output_dir=folder, command=command, **settings)


def alive(marker: str) -> list[str]:
    """The processes with this word in their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if marker in line and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
            found.append(line)
    return found


def wait_until(condition: Any, timeout_s: float = 15) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert condition()


def test_a_timeout_leaves_no_orphan(tmp_path: Path) -> None:
    """Background children and those in sessions of their own are gone when TimeoutError is raised."""
    run = model(tmp_path, "sleep 611.1 & setsid sleep 611.1 & sleep 611.1")
    with pytest.raises(TimeoutError, match=r"Command execution timed out after 0\.7 seconds"):
        run.run("local", timeout_s=0.7)
    assert alive("sleep 611.1") == []
    assert run.last_result is not None
    assert (run.last_result.status, run.last_result.failure_class) == ("timeout", "timeout")


def test_a_sigterm_of_the_caller_leaves_no_orphan(tmp_path: Path) -> None:
    """A program that is terminated in the middle of a run takes the whole command with it, and still dies of that."""
    script = f"""
        from osiris_core import ModelRun
        command = "sleep 612.2 & echo begun > begun; sleep 612.2"
        ModelRun(run_id="a", output_dir={str(tmp_path)!r}, command=command).run("local")
    """
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    wait_until((tmp_path / "a" / "begun").exists)
    caller.send_signal(signal.SIGTERM)
    assert caller.wait(20) == -signal.SIGTERM
    assert alive("sleep 612.2") == []


def test_a_timeout_while_streaming_is_a_timeout(tmp_path: Path) -> None:
    """It is no plain False, and the end of the program does not wait for an orphan's pipe."""
    script = f"""
        from osiris_core import ModelRun
        run = ModelRun(run_id="a", output_dir={str(tmp_path)!r}, command="echo x; sleep 613.3 & sleep 613.3")
        try:
            run.run("local", timeout_s=0.5, stream_output=True)
        except TimeoutError as exc:
            print(exc)
    """
    started_s = time.monotonic()
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "timed out after 0.5 seconds" in done.stdout
    assert time.monotonic() - started_s < 15
    assert alive("sleep 613.3") == []


def test_failures_can_be_told_apart(tmp_path: Path) -> None:
    """Not found, an exit code, a signal, a timeout, a bad setting: each says what it was."""
    run = model(tmp_path)
    found = [
        (result.phase, result.return_code, result.signal, result.failure_class)
        for result in (
            run.execute("local", command="no-such-program", shell=False),
            run.execute("local", command="exit 3"),
            run.execute("local", command="kill -KILL $$"),
            run.execute("local", command="sleep 9", timeout_s=0.3),
            run.execute("local", command="true", env_vars={"A": "${OSIRIS_TEST_NOT_SET}"}),
        )
    ]
    assert found == [
        ("execute", None, None, "user_error"),
        ("execute", 3, None, "user_error"),
        ("execute", None, "SIGKILL", "user_error"),
        ("execute", None, None, "timeout"),
        ("prepare", None, None, "user_error"),
    ]


def test_bytes_that_are_no_text_are_no_failure(tmp_path: Path) -> None:
    """A command that prints them succeeds, and they are kept as they are."""
    result = model(tmp_path, r"printf '\377\376'").execute("local", stream_output=True)
    assert result.success
    assert Path(result.stdout_log).read_bytes() == b"\xff\xfe"


def test_an_empty_command_is_no_success(tmp_path: Path) -> None:
    """Nothing is run under the name of success."""
    with pytest.raises(ValueError, match="the command is empty"):
        model(tmp_path).run("local", command="")


@pytest.mark.parametrize("streams", [False, True])
def test_much_output_is_not_held_in_memory(tmp_path: Path, streams: bool) -> None:
    """100 MB of it, of which half a MB may be events, stay on disk; this process grows by less than 60 MiB."""
    script = f"""
        import resource
        from osiris_core import ModelRun
        run = ModelRun(run_id="a", output_dir={str(tmp_path)!r})
        run.run("local", command="echo x", stream_output={streams})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        much = "head -c 100000000 /dev/zero | tr '\\\\0' x | fold -w 1000"
        assert run.run("local", command=much, stream_output={streams})
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, run.last_result.stdout_log)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    grown_kb, log = done.stdout.split()
    assert int(grown_kb) < 60 << 10
    assert Path(log).stat().st_size > 100_000_000


def test_the_callers_process_is_never_touched(tmp_path: Path) -> None:
    """A callable that changes directory, environment, umask, limits and globals changes its child's only."""
    box: list[int] = []

    def wild(_: Any) -> bool:
        os.chdir("/")
        os.environ["OSIRIS_TEST_WILD"] = "1"
        os.umask(0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        box.append(1)
        return True

    limit, mask = resource.getrlimit(resource.RLIMIT_CORE), os.umask(0o22)
    os.umask(mask)
    before = (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGTERM), threading.active_count())
    subject = SimpleNamespace(
        run_id="a", output_dir=tmp_path, config=SimpleNamespace(run=wild), generate=lambda: tmp_path
    )
    assert execute_model(subject, "local")
    after = (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGTERM), threading.active_count())
    assert after == before
    assert (box, resource.getrlimit(resource.RLIMIT_CORE)) == ([], limit)
    assert os.umask(mask) == mask


def test_docker_limits_hold(tmp_path: Path, docker_client: Any) -> None:
    """User, memory and processors are what was asked for, in the container itself."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("1")
    look = "id -u; cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us; cat /ro/in"
    config = DockerConfig(
        image=DOCKER_BASE,
        pull_policy="never",
        executable=f"sh -c '{look}; echo 2 > /ro/in || echo kept > outputs/kept'",
        user="1000",
        memory="64m",
        cpu=1,
        volumes=(f"{tmp_path}/data:/ro:ro",),
    )
    result = model(tmp_path).execute(config)
    assert result, result.error
    assert Path(result.stdout_log).read_text().split() == ["1000", str(64 << 20), "100000", "1"]
    assert (tmp_path / "tides/outputs/kept").read_text() == "kept\n"
    assert (tmp_path / "data" / "in").read_text() == "1"
    with pytest.raises(ValueError, match="ro or rw"):
        DockerConfig(image="a", volumes=(f"{tmp_path}/data:/ro:ro,Z",))


def test_a_docker_timeout_leaves_no_container(tmp_path: Path, docker_client: Any) -> None:
    """It is a TimeoutError after its seconds, not a success after eight."""
    config = DockerConfig(image=DOCKER_BASE, pull_policy="never", executable="sleep 614.4")
    started_s = time.monotonic()
    with pytest.raises(TimeoutError):
        run_model(model(tmp_path), config, timeout_s=1)
    assert time.monotonic() - started_s < 20
    assert alive("sleep 614.4") == []
    labels = {"label": f"osiris.session_dir={tmp_path}/.osiris/sessions/tides"}
    assert docker_client.api.containers(all=True, filters=labels) == []


def test_files_of_a_container_are_the_callers(tmp_path: Path, docker_client: Any) -> None:
    """Whoever the container's user is, what is left in the workspace belongs to who ran it; INPUT is as it was."""
    run = model(tmp_path)
    command = "sh -c 'id -u > outputs/uid; mkdir -p made/deep; touch made/deep/file; pwd > /app/run_id/where'"
    for user in (None, "root", "1234:1234"):
        config = DockerConfig(image=DOCKER_BASE, pull_policy="never", executable=command, user=user)
        result = run.execute(config)
        assert result, result.error
        workspace = tmp_path / "tides"
        assert {path.stat().st_uid for path in [workspace, *workspace.rglob("*")]} == {os.getuid()}
        expected = os.getuid() if user is None else 0 if user == "root" else 1234
        assert (workspace / "outputs/uid").read_text() == f"{expected}\n"
        assert (workspace / "where").read_text() == "/app/run_id\n"
        assert [artifact.path for artifact in result.artifacts] == ["made/deep/file", "outputs/uid", "where"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can lend files")
def test_files_are_the_callers_after_a_failure_too(tmp_path: Path, docker_client: Any) -> None:
    """They are taken back when the container is gone, and not while its command goes on making more of them."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    seen = tmp_path / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    watch = "while :; do stat -c %u . >> /seen/owners; done"
    endless = f"touch started; while [ ! -e go ]; do sleep 0.05; done; echo x; {watch}"
    config = {"argv": ["sh", "-c", endless], "workspace": str(workspace)}
    context = ExecutionContext(session_dir=str(tmp_path / "session"), timeout=60)
    plan = {"steps": [{"id": "a", "driver": "command", "config": config}]}
    settings = {
        "image": DOCKER_BASE,
        "pull_policy": "never",
        "engine": "host",
        "user": "1234:1234",
        "volumes": [f"{seen}:/seen"],
    }
    reports: list[Any] = []
    with AdapterFactory.create("docker", **settings) as adapter:
        running = threading.Thread(target=lambda: reports.append(adapter.run(plan, context)))
        running.start()
        wait_until((workspace / "started").exists)
        (tmp_path / "session/artifacts/a/stdout.log").mkdir(parents=True)  # so that the output cannot be written
        (workspace / "go").touch()
        running.join()
    assert "directory" in reports[0]["error"]["message"]
    assert set((seen / "owners").read_text().split()) == {"1234"}
    assert {path.stat().st_uid for path in [workspace, *workspace.rglob("*")]} == {os.getuid()}


def test_a_given_workspace_is_never_deleted(tmp_path: Path) -> None:
    """`delete_existing` is `generate`'s alone: a run in a workspace that is there finds what is in it."""
    run = model(tmp_path, "cat precious > copy", delete_existing=True)
    run.generate()
    (tmp_path / "tides" / "precious").write_text("1")
    assert run.run("local", workspace_dir=run.staging_dir)
    assert (tmp_path / "tides" / "copy").read_text() == "1"
    assert not run.run("local", command="exit 1", workspace_dir=run.staging_dir)
    assert (tmp_path / "tides" / "precious").exists()


def test_nothing_is_deleted_for_inputs_that_cannot_be_made(tmp_path: Path) -> None:
    """A template that is wrong leaves the workspace that is there as it was."""
    pytest.importorskip("jinja2")
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "INPUT").write_text("{{ nowhere }}")
    run = model(tmp_path / "out", delete_existing=True, template=tmp_path / "template")
    run.staging_dir.mkdir(parents=True)
    (run.staging_dir / "precious").write_text("1")
    with pytest.raises(PreparationError, match="nowhere"):
        run.generate()
    assert [path.name for path in run.staging_dir.iterdir()] == ["precious"]
    here = ModelRun(run_id="x", output_dir=Path.cwd(), run_id_subdir=False, delete_existing=True)
    with pytest.raises(PreparationError, match="in which more than this run lives"):
        here.generate()


def test_short_jobs_are_possible(tmp_path: Path) -> None:
    """A configuration's limit starts at a minute; one run's may be anything above nothing."""
    started_s = time.monotonic()
    result = model(tmp_path, "sleep 9").execute(LocalConfig(), timeout_s=0.2)
    assert result.status == "timeout"
    assert time.monotonic() - started_s < 5
    with pytest.raises(ValueError, match="timeout_s must be positive"):
        model(tmp_path, "true").execute(LocalConfig(), timeout_s=0)


def test_importing_touches_nothing(tmp_path: Path) -> None:
    """No log handler, level or environment is changed, and neither a `.env` nor anything heavy is read."""
    (tmp_path / ".env").write_text("OSIRIS_TEST_DOTENV=1\n")
    script = """
        import logging, os, sys
        root, environment = logging.getLogger(), dict(os.environ)
        root.addHandler(logging.NullHandler())
        before = (list(root.handlers), root.level, logging.getLoggerClass())
        from osiris_core import ModelRun, execute_model
        from osiris_core.backends import LocalConfig, LocalPipelineBackend, NoopPostprocessorConfig
        from osiris_core.backends import get_available_backends
        assert before == (list(root.handlers), root.level, logging.getLoggerClass())
        assert dict(os.environ) == environment
        heavy = {"docker", "jinja2", "structlog", "rich", "jsonrpcserver", "duckdb", "pandas", "click"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        print(list(get_available_backends()))
        assert not any(name.startswith("adapters.docker") for name in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert {"'docker'", "'local'", "'process'"} <= set(done.stdout.strip("[]\n").split(", "))


def test_no_secret_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a value of `env_vars` nor one that was inherited is in a file, the result or the log, printed or not."""
    monkeypatch.setenv("OSIRIS_TEST_PASSWORD", "inherited-4711-4711")
    run = model(tmp_path, "env; env >&2; exit 1")
    result = run.execute(
        "local", stream_output=True, env_vars={"API_TOKEN": "literal-4711-4711", "B": "${OSIRIS_TEST_PASSWORD}"}
    )
    assert "API_TOKEN=***" in Path(result.stdout_log).read_text()
    assert "OSIRIS_TEST_PASSWORD=***" in Path(result.stdout_log).read_text()
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in texts if b"4711-4711" in text]
    assert "4711-4711" not in str(result.to_json())


def test_a_configuration_shows_no_secret() -> None:
    """Neither repr nor str, of which a log is made, show a literal value; what is public is shown."""
    for config in (
        LocalConfig(env_vars={"API_TOKEN": "literal-4711-4711", "LOG_LEVEL": "DEBUG", "DB_PASSWORD": "${DB}"}),
        NoopPostprocessorConfig(env_vars={"API_TOKEN": "literal-4711-4711", "LOG_LEVEL": "DEBUG", "B": "${DB}"}),
    ):
        for text in (repr(config), str(config), f"{[config]}"):
            assert "4711" not in text
            assert "DEBUG" in text
            assert "${DB}" in text
        assert type(config)(**config.model_dump()) == config


def test_nor_one_that_a_plugin_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A postprocessor or run backend of somebody else's prints, logs and raises what it has: it is masked in files."""
    monkeypatch.setenv("OSIRIS_TEST_PASSWORD", "inherited-4711-4711")
    monkeypatch.setenv("OSIRIS_TEST_PLAIN", "referenced-4711-4711")

    class Talkative:
        def process(self, model_run: Any, **given: Any) -> dict[str, Any]:
            print(os.environ["OSIRIS_TEST_PASSWORD"], given)
            if given.get("fails"):
                raise RuntimeError(f"{os.environ['OSIRIS_TEST_PASSWORD']} {given}")
            return {"message": os.environ["OSIRIS_TEST_PASSWORD"]}

    class TalkativeConfig(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            return TalkativeBackend

    class TalkativeBackend:
        def run(self, model_run: Any, config: TalkativeConfig) -> bool:
            values = substitute(config.env_vars, os.environ)
            raise RuntimeError(f"{os.environ['OSIRIS_TEST_PASSWORD']} {values} {config!r}")

    run = model(tmp_path, "true")
    given = {"api_key": "literal-4711-4711", "nested": {"token": "deep${-4711-4711"}}
    for fails in (False, True):
        processed = run.pipeline(processor=Talkative, process_kwargs={"fails": fails, **given})
        assert processed.success is not fails
    assert "***" in (tmp_path / ".osiris/sessions/tides.postprocess/artifacts/run/stdout.log").read_text()
    config = TalkativeConfig(env_vars={"API_TOKEN": "variable-4711-4711", "B": "${OSIRIS_TEST_PLAIN}"})
    result = run.execute(config)
    assert result.status == "failed"
    assert "4711-4711" not in str(result.error)
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if b"4711-4711" in text]


def test_nor_what_a_processor_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pipeline keeps of a result has no value of the processor's settings and variables, written or named."""
    monkeypatch.setenv("OSIRIS_TEST_PLAIN", "referenced-4711-4711")

    class Tells:
        def process(self, model_run: Any, config: TellsConfig, **given: Any) -> dict[str, Any]:
            return {"success": True, "got": [dict(os.environ), config.password, given]}

    class TellsConfig(BasePostprocessorConfig):
        type: Literal["tells"] = "tells"
        password: str = ""

        def get_postprocessor_class(self) -> type[Any]:
            return Tells

    config = TellsConfig(
        env_vars={"API_TOKEN": "literal-4711-4711", "B": "x ${OSIRIS_TEST_PLAIN}"}, password="field-4711-4711"
    )
    run = model(tmp_path, "true")
    found = run.pipeline(processor=config, process_kwargs={"api_key": "setting-4711-4711"})
    assert found.success, found["error"]
    assert "setting-4711-4711" in str(found["postprocess_results"]), "who called has it"
    again = run.pipeline(processor=config, process_kwargs={"api_key": "setting-4711-4711"})
    assert "postprocess" in again["skipped"]
    assert "4711-4711" not in str(again)
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if b"4711-4711" in text]


def test_nor_what_generate_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the result nor in what is kept of it or logged, of `execute` and of a pipeline."""
    monkeypatch.setenv("OSIRIS_TEST_PASSWORD", "inherited-4711-4711")
    monkeypatch.setenv("OSIRIS_TEST_PLAIN", "referenced-4711-4711")

    class Fails(ModelRun):
        def generate(self) -> str:
            inherited, plain = os.environ["OSIRIS_TEST_PASSWORD"], os.environ["OSIRIS_TEST_PLAIN"]
            raise RuntimeError(f"no connection with {inherited}, {plain}, literal-4711-4711")

    run = Fails(run_id="tides", output_dir=tmp_path, command="true")
    variables = {"API_TOKEN": "literal-4711-4711", "B": "${OSIRIS_TEST_PLAIN}"}
    result = run.execute("local", env_vars=variables)
    assert "no connection with ***, ***, ***" in str(result.error)
    found = run.pipeline(run_kwargs={"env_vars": variables})
    assert found["message"] == "Input file generation failed: no connection with ***, ***, ***"
    assert "4711-4711" not in str(found) + caplog.text
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in texts if b"4711-4711" in text]


def test_two_runs_of_one_name_exclude_each_other(tmp_path: Path) -> None:
    """The second is refused with the reason, generates nothing, and does not spoil what the first comes to."""
    first, second = (
        model(tmp_path, "touch begun; sleep 2; cat INPUT > copy"),
        model(tmp_path, "true", parameters={"a": 1}),
    )
    thread = threading.Thread(target=first.run, args=("local",))
    thread.start()
    wait_until((tmp_path / "tides" / "begun").exists)
    refused = second.execute("local")
    assert (refused.success, refused.failure_class) == (False, "resource_denied")
    assert "under way" in str(refused.error)
    again = second.execute("local", workspace_dir=second.staging_dir)
    assert again.failure_class == "resource_denied"
    assert second.pipeline()["stage"] == "generate"
    thread.join()
    assert first.last_result is not None
    assert first.last_result.success
    assert "a = 1" not in (tmp_path / "tides" / "copy").read_text()
    assert last_verdict(model(tmp_path)).success  # type: ignore[union-attr]


def test_inputs_are_not_generated_twice_at_once(tmp_path: Path) -> None:
    """Who comes while another is still generating, before there is a session, is refused too, and touches nothing."""
    generated, go_on = threading.Event(), threading.Event()

    class Slow(ModelRun):
        def generate(self) -> str:
            folder = super().generate()
            generated.set()
            assert go_on.wait(20)
            return folder

    first = Slow(run_id="tides", output_dir=tmp_path, command="cat outputs/mark", delete_existing=True)
    thread = threading.Thread(target=first.run, args=("local",))
    thread.start()
    assert generated.wait(20)
    (tmp_path / "tides" / "outputs" / "mark").touch()
    second = model(tmp_path, "true", delete_existing=True)
    assert second.execute("local").failure_class == "resource_denied"
    assert second.execute("local", workspace_dir=second.staging_dir).failure_class == "resource_denied"
    assert second.pipeline(cleanup_on_failure=True)["stage"] == "generate"
    go_on.set()
    thread.join()
    assert first.last_result is not None
    assert first.last_result.success


def test_cleaning_up_spares_the_run_of_another(tmp_path: Path) -> None:
    """A pipeline that fails because another run has the workspace does not remove it, whatever it was told."""
    run = model(tmp_path, "touch begun; for i in $(seq 200); do [ -e enough ] || sleep 0.05; done; cat INPUT")
    (tmp_path / "tides").mkdir()
    (tmp_path / "tides" / "enough").touch()
    assert run.pipeline().success
    (tmp_path / "tides" / "enough").unlink()
    (tmp_path / "tides" / "begun").unlink()
    thread = threading.Thread(target=run.run, args=("local",))
    thread.start()
    wait_until((tmp_path / "tides" / "begun").exists)
    refused = model(tmp_path, run.command).pipeline(run_kwargs={"timeout": 60}, cleanup_on_failure=True)
    assert (refused["stage"], refused["cleaned_up"]) == ("generate", False)
    (tmp_path / "tides" / "enough").touch()
    thread.join()
    assert run.last_result is not None
    assert run.last_result.success


def test_rules_of_the_whole_are_checked_again(tmp_path: Path) -> None:
    """No field can be set afterwards to what would have been refused before."""
    config = DockerConfig(image="a")
    with pytest.raises(ValueError, match="frozen"):
        config.image = None  # type: ignore[misc]
