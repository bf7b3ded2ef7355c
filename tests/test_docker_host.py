"""`engine: host`: commands in containers of any image, with the engine here; the same results and errors as locally."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparationError, RunReport

BASE = "osiris-base:bookworm"
SECRET = 'it\'s a "secret" of $HOME\nand two lines'


def context(folder: Path, **settings: Any) -> ExecutionContext:
    return ExecutionContext(session_dir=str(folder), session_id=f"host-{os.urandom(6).hex()}", **settings)


def run(folder: Path, config: dict[str, Any], *, settings: dict[str, Any] | None = None, **about: Any) -> RunReport:
    """One command in a container of the base image; nothing of it is left."""
    there = context(folder, **about)
    adapter = AdapterFactory.create("docker", engine="host", image=BASE, pull_policy="never", **(settings or {}))
    manifest = {"pipeline": "host", "steps": [{"id": "c", "driver": "command", "config": config}]}
    report = adapter.run(manifest, there)
    from adapters.docker_engine.client import connect

    client = connect()
    try:
        wanted = {"label": f"osiris.session={there.session_id}"}
        assert client.api.containers(all=True, filters=wanted) == []
        assert not client.api.volumes(filters=wanted)["Volumes"]
    finally:
        client.close()
    return report


@pytest.fixture(autouse=True)
def _engine(docker_client: Any) -> None:
    """Every test here needs the real engine."""


def test_tables_go_in_and_artifacts_come_out(tmp_path: Path) -> None:
    """Steps hand tables to each other as ever; files belong to who runs this; both logs are kept."""
    steps = [
        {
            "id": "make",
            "driver": "command",
            "config": {
                "shell": "printf 'a\\n1\\n2\\n' > t.csv; id -u; cat /etc/os-release; echo oops >&2",
                "outputs": {"df": {"path": "t.csv"}},
            },
        },
        {
            "id": "use",
            "driver": "command",
            "inputs": {"df": "make.df"},
            "config": {
                "shell": 'cp "$OSIRIS_INPUT_DF" "$OSIRIS_ARTIFACTS_DIR/copy.csv"; mkdir d; echo deep > d/x.txt',
                "artifacts": ["d/*.txt"],
            },
        },
    ]
    adapter = AdapterFactory.create("docker", engine="host", image=BASE, pull_policy="never")
    report = adapter.run({"pipeline": "host", "steps": steps}, context(tmp_path / "s"))
    assert report["status"] == "completed", report["error"]
    artifacts = tmp_path / "s/artifacts"
    assert (artifacts / "use/copy.csv").read_text().split() == ["a", "1", "2"]
    assert (artifacts / "use/d/x.txt").read_text() == "deep\n"
    assert (artifacts / "make/stdout.log").read_text().startswith(f"{os.getuid()}\nPRETTY_NAME=")
    assert (artifacts / "make/stderr.log").read_text() == "oops\n"
    assert {path.stat().st_uid for path in artifacts.rglob("*")} == {os.getuid()}
    assert {item["path"] for item in report["artifacts"]} >= {"use/copy.csv", "use/d/x.txt", "make/stdout.log"}


def test_a_command_may_start_where_the_image_has_its_program(tmp_path: Path) -> None:
    """With `working_dir` a command starts there; the step's own directory is in OSIRIS_WORK_DIR."""
    config = {
        "shell": 'pwd; echo 1 > "$OSIRIS_WORK_DIR/r.txt"; cd "$OSIRIS_WORK_DIR" && pwd',
        "artifacts": ["r.txt"],
    }
    report = run(tmp_path / "s", config, settings={"working_dir": "/usr/share"})
    assert report.succeeded, report.error
    lines = (tmp_path / "s/artifacts/c/stdout.log").read_text().splitlines()
    assert lines[0] == "/usr/share"
    assert lines[1].startswith(str(tmp_path))
    assert (tmp_path / "s/artifacts/c/r.txt").read_text() == "1\n"


def test_only_what_was_declared_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sees declared variables, the image's PATH, UTC and a writable /tmp; the image is read-only."""
    monkeypatch.setenv("OSIRIS_TEST_CANARY", "must-not-travel")
    report = run(
        tmp_path / "s",
        {
            "shell": "env; touch /tmp/x $HOME/y; touch /z || echo read-only; ls /sys/class/net; pwd",
            "env": {"MINE": "1"},
        },
    )
    said = (tmp_path / "s/artifacts/c/stdout.log").read_text().splitlines()
    assert report["status"] == "completed", report["error"]
    assert {"MINE=1", "TZ=UTC", "LC_ALL=C.UTF-8", "OSIRIS_STEP_ID=c", "read-only", "lo"} <= set(said)
    assert not any("must-not-travel" in line or line.startswith("eth") for line in said)
    assert next(line for line in said if line.startswith("PATH=")) != f"PATH={os.environ['PATH']}"


def test_secrets_reach_the_command_and_nothing_else(tmp_path: Path, docker_client: Any) -> None:
    """A secret with every awkward sign arrives as it is, and `docker inspect` does not show it while it runs."""
    seen: list[str] = []

    def look() -> None:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s and not seen:
            for item in docker_client.api.containers(filters={"label": "osiris.session"}):
                inspected = docker_client.api.inspect_container(item["Id"])
                if inspected["Config"]["Labels"]["osiris.session_dir"] == str(tmp_path / "s"):
                    seen.append(json.dumps(inspected))

    looking = threading.Thread(target=look)
    looking.start()
    script = (
        "import os, sys, time, pathlib; time.sleep(0.7); "
        "pathlib.Path(os.environ['OSIRIS_ARTIFACTS_DIR'], 'n').write_text(repr((len(os.environ['TOKEN']), "
        "sys.argv[1] == os.environ['TOKEN'], sys.stdin.read())))"
    )
    report = run(
        tmp_path / "s",
        {"argv": ["python3", "-c", script, "${TOKEN}"], "stdin": "given\ninput"},
        environment={"TOKEN": SECRET},
    )
    looking.join(60)
    assert report["status"] == "completed", report["error"]
    assert (tmp_path / "s/artifacts/c/n").read_text() == repr((len(SECRET), True, "given\ninput"))
    for line in SECRET.splitlines():
        assert json.dumps(line)[1:-1] not in seen[0]


@pytest.mark.parametrize("environment", [{}, {"TOKEN": "abcdefgh-secret"}])
def test_a_program_that_is_not_there_is_named(tmp_path: Path, environment: dict[str, str]) -> None:
    """Whether or not a shell is in between, the error names program and image."""
    report = run(tmp_path / "s", {"argv": ["osiris-nosuch"]}, environment=environment)
    assert report["status"] == "failed"
    assert report["error"]["failure_class"] == "user_error"
    assert "'osiris-nosuch' was not found in image osiris-base:bookworm" in report["error"]["message"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"shell": "echo why >&2; exit 7"}, "exited with code 7: why"),
        ({"shell": "kill -SEGV $$"}, "killed by SIGSEGV"),
        ({"shell": "kill -9 $$"}, "killed by SIGKILL"),
        ({"shell": "true", "outputs": {"df": {"path": "no.csv"}}}, "did not write the output"),
    ],
)
def test_failures_read_as_they_do_locally(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    """Exit codes, signals and missing outputs give the same words and class as in a child process."""
    there = run(tmp_path / "there", config)
    manifest = {"pipeline": "host", "steps": [{"id": "c", "driver": "command", "config": config}]}
    here = AdapterFactory.create("local").run(manifest, context(tmp_path / "here"))
    assert says in there["error"]["message"]
    assert there["error"]["message"] == here["error"]["message"]
    assert there["error"]["failure_class"] == here["error"]["failure_class"]


def test_declared_exit_codes_are_success(tmp_path: Path) -> None:
    """A code above 128 that was declared is no signal."""
    report = run(tmp_path / "s", {"shell": "exit 143", "success_exit_codes": [143]})
    assert report["status"] == "completed", report["error"]


def test_lack_of_memory_is_told_as_such(tmp_path: Path) -> None:
    """The limit holds, and a command that it killed ran out of memory."""
    script = "a = bytearray(200 << 20)"
    report = run(tmp_path / "s", {"argv": ["python3", "-c", script]}, settings={"memory": "64m"})
    assert report["error"]["failure_class"] == "out_of_memory"
    assert (
        run(tmp_path / "t", {"argv": ["python3", "-c", script]}, settings={"memory": "400m"})["status"] == "completed"
    )


def test_peak_memory_is_reported(tmp_path: Path) -> None:
    """What the command used at its highest is in the report, as in a child process."""
    script = "import time; a = bytearray(150 << 20); time.sleep(1)"
    report = run(tmp_path / "s", {"argv": ["python3", "-c", script]})
    assert 150 <= report["steps"][0]["memory_usage_mb"] < 250


def test_a_timeout_kills_all_of_it(tmp_path: Path, docker_client: Any) -> None:
    """What ignores TERM, and what it started in the background, is dead when the run is over."""
    pids: list[int] = []

    def look() -> None:
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s and not pids:
            for item in docker_client.api.containers(filters={"label": "osiris.session"}):
                inspected = docker_client.api.inspect_container(item["Id"])
                if inspected["Config"]["Labels"]["osiris.session_dir"] == str(tmp_path / "s"):
                    time.sleep(0.5)
                    table = docker_client.api.top(item["Id"])
                    pids.extend(int(row[table["Titles"].index("PID")]) for row in table["Processes"])

    looking = threading.Thread(target=look)
    looking.start()
    report = run(tmp_path / "s", {"shell": "trap '' TERM; setsid sleep 600 & echo begun; sleep 600"}, timeout=2)
    looking.join(40)
    assert report["status"] == "timeout"
    assert (tmp_path / "s/artifacts/c/stdout.log").read_text() == "begun\n"
    assert len(pids) >= 3
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_much_output_and_much_input(tmp_path: Path) -> None:
    """Tens of megabytes go in and come out at the same time, whole."""
    text = "0123456789abcdef" * (1 << 20)
    report = run(tmp_path / "s", {"argv": ["cat"], "stdin": text, "log_output": False})
    assert report["status"] == "completed", report["error"]
    assert (tmp_path / "s/artifacts/c/stdout.log").read_text() == text


def test_other_drivers_are_refused(tmp_path: Path) -> None:
    """A step that needs Python is named in prepare, each of them."""
    steps = [
        {"id": "one", "driver": "duckdb.processor", "config": {"query": "SELECT 1"}},
        {"id": "two", "driver": "command", "config": {"argv": ["true"]}},
        {"id": "three", "driver": "duckdb.processor", "config": {"query": "SELECT 1"}},
    ]
    adapter = AdapterFactory.create("docker", engine="host", image=BASE)
    with pytest.raises(PreparationError) as caught:
        adapter.prepare({"pipeline": "host", "steps": steps}, context(tmp_path / "s"))
    assert [(problem.step_id, problem.key) for problem in caught.value.problems] == [
        ("one", "driver"),
        ("three", "driver"),
    ]


def test_an_image_without_a_shell(tmp_path: Path, docker_client: Any) -> None:
    """Without secrets an image needs no shell; with secrets it is refused rather than shown."""
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("etc")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    made = json.loads(docker_client.api.import_image_from_data(data.getvalue(), repository="osiris-test-bare", tag="1"))
    try:
        adapter = AdapterFactory.create("docker", engine="host", image="osiris-test-bare:1", pull_policy="never")
        manifest = {
            "pipeline": "h",
            "steps": [{"id": "c", "driver": "command", "config": {"argv": ["/sbin/docker-init", "--version"]}}],
        }
        report = adapter.run(manifest, context(tmp_path / "plain"))
        assert report["status"] == "completed", report["error"]
        assert "tini version" in (tmp_path / "plain/artifacts/c/stdout.log").read_text()
        report = adapter.run(manifest, context(tmp_path / "secret", environment={"TOKEN": "abcdefgh-secret"}))
        assert report["status"] == "failed"
        assert "/bin/sh" in report["error"]["message"]
        assert "docker inspect" in report["error"]["message"]
    finally:
        docker_client.api.remove_image(made["status"], force=True)
