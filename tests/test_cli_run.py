"""`osiris run` as a user meets it: a process with arguments, two streams and an exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECRET = "hunter2-correct-horse"

NUMBERS = """
pipeline: numbers
params: {count: 1000}
steps:
  - id: make
    driver: duckdb.processor
    config: {query: "SELECT i FROM range(${params.count}) t(i) ORDER BY i", threads: 1}
  - id: write
    driver: filesystem.parquet_writer
    inputs: {df: make}
    config: {path: out/numbers.parquet}
"""

PLUGINS = """
import time


class Failing:
    def run(self, step_id, config, inputs, ctx):
        raise ValueError("the service said no to " + ctx.environment["API_TOKEN"])


class Slow:
    def run(self, step_id, config, inputs, ctx):
        ctx.progress(3, 12)
        time.sleep(0.5)


class Crashing:
    def __init__(self, **settings):
        pass

    def prepare(self, manifest, context):
        raise RuntimeError("out of order: " + context.environment["API_TOKEN"])

    run = prepare

    def execute(self, prepared, context): ...
    def collect(self, prepared, context): ...
    def cancel(self, reason=""): ...
"""


def osiris(
    *args: str, cwd: Path, env: dict[str, str] | None = None, python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, *python, "-m", "osiris_core.cli.main", *args]
    clean = {name: value for name, value in os.environ.items() if name not in ("OSIRIS_HOME", "PYTHONUNBUFFERED")}
    return subprocess.run(
        command, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.yaml").write_text(NUMBERS)
    return tmp_path


@pytest.fixture
def plugins(folder: Path) -> dict[str, str]:
    """An environment in which a distribution with drivers and an adapter is installed."""
    info = folder / "site" / "fake-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[osiris.drivers]\nfailing = fake_plugins:Failing\nslow = fake_plugins:Slow\n"
        "[osiris.adapters]\ncrashing = fake_plugins:Crashing\n"
    )
    (folder / "site" / "fake_plugins.py").write_text(PLUGINS)
    return {"PYTHONPATH": str(folder / "site")}


def one_step(folder: Path, driver: str) -> str:
    (folder / f"{driver}.yaml").write_text(f"{{pipeline: {driver}, steps: [{{id: only-step, driver: {driver}}}]}}")
    return f"{driver}.yaml"


def test_completed_run_prints_summary_and_exits_zero(folder: Path) -> None:
    """The summary on stdout names steps, rows, the artifact, the published file and the session."""
    done = osiris("run", "manifest.yaml", "--out", "results", "--session-dir", "session", cwd=folder)
    assert done.returncode == 0
    for text in (
        "completed",
        "numbers",
        "make",
        "write",
        "1,000",
        "write/out/numbers.parquet",
        str(folder / "session"),
    ):
        assert text in done.stdout
    assert str(folder / "results/out/numbers.parquet") in done.stdout
    assert (folder / "results/out/numbers.parquet").stat().st_size > 0


def test_redirected_progress_is_plain_lines_on_stderr(folder: Path) -> None:
    """Without a terminal each step has a line when it starts and one when it ends, with no control characters."""
    done = osiris("run", "manifest.yaml", cwd=folder)
    lines = done.stderr.splitlines()
    assert any("make  completed  1,000 rows" in line for line in lines)
    assert any(line.endswith("write  started") for line in lines)
    assert "\x1b" not in done.stderr


def test_json_is_exactly_one_document(folder: Path) -> None:
    """Stdout of --json is the report as it stands in status.json."""
    done = osiris("run", "manifest.yaml", "--json", "--param", "count=7", cwd=folder)
    report = json.loads(done.stdout)
    assert report["status"] == "completed"
    assert report["metrics"]["rows_written"] == 7
    assert report == json.loads(Path(report["session_dir"], "status.json").read_text())


def test_failed_run_says_what_and_what_next_without_the_secret(folder: Path, plugins: dict[str, str]) -> None:
    """A failure exits 1 with step, class, message, the user's traceback and the next commands; no secret anywhere."""
    arguments = ("run", one_step(folder, "failing"), "--env", "API_TOKEN")
    done = osiris(*arguments, cwd=folder, env={**plugins, "API_TOKEN": SECRET})
    assert done.returncode == 1
    for text in ("failed", "only-step", "user_error", "ValueError", "fake_plugins.py", "osiris runs show", "--resume"):
        assert text in done.stdout
    assert SECRET not in done.stdout + done.stderr
    for file in (folder / ".osiris").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_env_with_a_value_is_public_unless_named_like_a_secret(folder: Path) -> None:
    """`--env REGION=x` is written down, `--env API_TOKEN=x` is not."""
    given = ("--env", "REGION=eu-central-7", "--env", f"API_TOKEN={SECRET}")
    report = json.loads(osiris("run", "manifest.yaml", "--json", *given, cwd=folder).stdout)
    assert report["secret_names"] == ["API_TOKEN"]
    written = Path(report["session_dir"], "run.json").read_text()
    assert "eu-central-7" in written
    assert SECRET not in written


def test_every_problem_is_listed_with_file_and_line(folder: Path) -> None:
    """Options, manifest and steps are all checked before anything is said, and nothing is written."""
    (folder / "bad.yaml").write_text(
        "pipeline: bad\nsteps:\n  - id: a\n    driver: duckdb.procesor\n  - id: b\n"
        "    driver: filesystem.parquet_writer\n    inputs: {df: c}\n    config: {pathh: x}\n"
    )
    (folder / "adapter.yaml").write_text("type: local\nallow_sql_filez: true\n")
    arguments = ("run", "bad.yaml", "--env", "NOT_SET_ANYWHERE")
    done = osiris(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert any(line.startswith("bad.yaml:4: ") and "did you mean 'duckdb.processor'?" in line for line in lines)
    assert any(line.startswith("bad.yaml:7: ") and "no step 'c'" in line for line in lines)
    assert any(line.startswith("bad.yaml:8: ") and "did you mean 'path'?" in line for line in lines)
    assert any("NOT_SET_ANYWHERE" in line for line in lines)
    as_json = osiris(*arguments, "--config", "adapter.yaml", "--json", cwd=folder)
    document = json.loads(as_json.stdout)
    assert document["status"] == "invalid"
    assert {"file": "adapter.yaml", "line": 2, "key": "allow_sql_filez"}.items() <= document["problems"][1].items()
    assert as_json.returncode == 2
    assert not (folder / ".osiris").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["run", "manifest.yaml", "--adapter", "lokal"], "did you mean 'local'?"),
        (["run", "manifest.yaml", "--timeout", "soon"], "is not a duration"),
        (["run", "manifest.yaml", "--memory-budget", "lots"], "is not a size"),
        (["run", "manifest.yaml", "--param", "count"], "has no value"),
        (["run", "manifest.yaml", "--config", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["run", "manifest.yaml", "--session-dir", "/proc/nowhere"], "the session directory cannot be used"),
        (["run"], "give a MANIFEST"),
        (["rum"], "did you mean 'run'?"),
    ],
)
def test_bad_input_exits_two_with_one_document(folder: Path, arguments: list[str], said: str) -> None:
    """Whatever is wrong, the exit code is 2 with a clear message and no traceback, and --json is one document."""
    done = osiris(*arguments, "--json", cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "invalid"
    assert any(said in problem["message"] or problem.get("file") for problem in document["problems"])


def test_timeout_exits_124(folder: Path) -> None:
    """A run that takes longer than --timeout ends with 124 and a report that says so."""
    (folder / "long.yaml").write_text(
        "{pipeline: long, steps: [{id: nap, driver: command, config: {shell: sleep 50}}]}"
    )
    done = osiris("run", "long.yaml", "--timeout", "0.5s", "--json", cwd=folder)
    assert done.returncode == 124
    assert json.loads(done.stdout)["status"] == "timeout"


def test_config_file_selects_and_configures_the_adapter(folder: Path) -> None:
    """`type` names the adapter and the other keys reach it; a type that contradicts --adapter is refused."""
    (folder / "adapter.yaml").write_text("type: local\ncompress_artifacts: true\n")
    report = json.loads(osiris("run", "manifest.yaml", "--config", "adapter.yaml", "--json", cwd=folder).stdout)
    assert Path(report["session_dir"], "artifacts.tar.gz").exists()
    (folder / "adapter.yaml").write_text("type: elsewhere\n")
    done = osiris("run", "manifest.yaml", "--config", "adapter.yaml", "--adapter", "local", cwd=folder)
    assert (done.returncode, done.stderr.startswith("adapter.yaml:1: ")) == (2, True)


def test_resume_goes_on_with_the_newest_session_of_the_manifest(folder: Path, plugins: dict[str, str]) -> None:
    """--resume alone finds the manifest's session and reuses its steps; for another manifest it starts anew."""
    first = json.loads(osiris("run", "manifest.yaml", "--checkpoint", "always", "--json", cwd=folder).stdout)
    osiris("run", one_step(folder, "slow"), cwd=folder, env=plugins)
    done = osiris("run", "manifest.yaml", "--resume", "--json", cwd=folder)
    again = json.loads(done.stdout)
    assert again["session_dir"] == first["session_dir"]
    assert [step["status"] for step in again["steps"]] == ["reused", "reused"]
    assert f"resuming session {first['session_id']}" in done.stderr
    (folder / "other.yaml").write_text(NUMBERS)
    fresh = osiris("run", "other.yaml", "--resume", "--json", cwd=folder)
    assert "starting anew" in fresh.stderr
    assert [step["status"] for step in json.loads(fresh.stdout)["steps"]] == ["completed", "completed"]


def test_osiris_home_holds_the_sessions(folder: Path) -> None:
    """With OSIRIS_HOME set, sessions are below it and not in the working directory."""
    report = json.loads(
        osiris("run", "manifest.yaml", "--json", cwd=folder, env={"OSIRIS_HOME": str(folder / "home")}).stdout
    )
    assert Path(report["session_dir"]).parent == folder / "home" / "sessions"
    assert not (folder / ".osiris").exists()


@pytest.mark.parametrize("arguments", [["-v"], ["--log-format", "text"], ["--log-format", "json"]])
def test_logs_replace_progress(folder: Path, arguments: list[str]) -> None:
    """-v and --log-format log events on stderr with session and step; the JSON lines are JSON with an ISO timestamp."""
    done = osiris("run", "manifest.yaml", *arguments, cwd=folder)
    assert "step.complete" in done.stderr
    assert "make  completed" not in done.stderr
    if "json" in arguments:
        events = [json.loads(line) for line in done.stderr.splitlines()]
        complete = next(event for event in events if event["event"] == "step.complete")
        assert complete["step_id"] == "make"
        assert complete["run_id"].startswith(complete["session_id"])
        assert "T" in complete["timestamp"]


def test_happy_run_imports_no_logging_and_drawing_libraries(folder: Path) -> None:
    """A run without a terminal imports neither structlog nor rich nor tenacity; help imports nothing of ours either."""
    done = osiris("run", "manifest.yaml", cwd=folder, python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "duckdb" in imported
    assert not {"structlog", "rich", "tenacity", "psutil", "asyncio"} & imported
    shown = osiris("--help", cwd=folder, python=("-X", "importtime"))
    imported = {
        line.rpartition("|")[2].strip() for line in shown.stderr.splitlines() if line.startswith("import time:")
    }
    assert not {"pydantic", "yaml", "pyarrow", "duckdb", "osiris_core.errors"} & imported


def test_bug_is_called_one_without_the_secret(folder: Path, plugins: dict[str, str]) -> None:
    """An unexpected exception shows its traceback, masked, says that it is a bug, and --json stays one document."""
    arguments = ("run", "manifest.yaml", "--adapter", "crashing", "--env", "API_TOKEN", "--json")
    done = osiris(*arguments, cwd=folder, env={**plugins, "API_TOKEN": SECRET})
    assert done.returncode == 1
    assert "this is a bug" in done.stderr
    assert "fake_plugins.py" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "RuntimeError"


def test_help_lists_every_command(folder: Path) -> None:
    """The help of the whole says of each command what the command says of itself."""
    from osiris_core.cli.main import COMMANDS, cli

    shown = osiris("--help", cwd=folder)
    assert shown.returncode == 0
    for name, (_, line, hidden) in COMMANDS.items():
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert hidden or f"  {name} " in shown.stdout
        assert hidden or line in shown.stdout
        assert osiris(name, "--help", cwd=folder).stdout.startswith("Usage: osiris")


HANGS_ONCE = """
pipeline: hangs
steps:
  - id: first
    driver: duckdb.processor
    config: {query: "SELECT 1 AS n"}
  - id: second
    driver: command
    needs: [first]
    config: {shell: "test -e HERE/pid || { echo $$ > HERE/pid; exec sleep 60; }"}
"""


def test_a_manifest_named_relatively_is_the_same_from_everywhere(folder: Path, tmp_path: Path) -> None:
    """The run of a killed controller is attached to, explained and shown from another folder."""
    (folder / "m.yaml").write_text(HANGS_ONCE.replace("HERE", str(folder)))
    session = tmp_path / "session"
    command = [sys.executable, "-m", "osiris_core.cli.main", "run", "m.yaml", "--session-dir", str(session)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
        while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():
            time.sleep(0.02)
        controller.kill()
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    attached = osiris("runs", "attach", str(session), "--json", cwd=elsewhere)
    assert json.loads(attached.stdout)["status"] == "completed", attached.stderr
    explained = json.loads(osiris("explain", "--session", str(session), "--json", cwd=elsewhere).stdout)
    assert explained["manifest"] == str(folder / "m.yaml")
    assert f"manifest   {folder / 'm.yaml'}" in osiris("runs", "show", str(session), cwd=elsewhere).stdout


def test_resume_takes_no_session_of_a_namesake_in_another_folder(folder: Path, tmp_path: Path) -> None:
    """Two folders share OSIRIS_HOME and have a manifest of one name: each goes on with its own runs only."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.yaml").write_text(NUMBERS)
    env = {"OSIRIS_HOME": str(tmp_path / "home")}
    first = json.loads(osiris("run", "manifest.yaml", "--json", cwd=folder, env=env).stdout)
    second = osiris("run", "manifest.yaml", "--resume", "--json", cwd=other, env=env)
    assert "starting anew" in second.stderr
    assert json.loads(second.stdout)["session_dir"] != first["session_dir"]


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_damaged_journal_is_named(folder: Path, resume: tuple[str, ...]) -> None:
    """A run in that session directory says which line it is, and writes nothing behind it."""
    journal = folder / "session" / "events.jsonl"
    assert osiris("run", "manifest.yaml", "--session-dir", "session", cwd=folder).returncode == 0
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"oops\n", *lines[1:]]))
    before = journal.read_bytes()
    done = osiris("run", "manifest.yaml", "--session-dir", "session", *resume, cwd=folder)
    assert f"{journal}:2: the line is no event" in done.stderr
    assert "bug in Osiris" not in done.stderr
    assert (done.returncode, journal.read_bytes()) == (2, before)
    for look in (["explain", "--session-dir", "session"], ["runs", "show", "session/"]):
        assert "bug in Osiris" not in osiris(*look, cwd=folder).stderr


def test_a_working_directory_that_is_gone(folder: Path, tmp_path: Path) -> None:
    """That is said, whatever was asked for."""
    gone = tmp_path / "gone"
    for command in (["run", str(folder / "manifest.yaml")], ["run", "manifest.yaml"], ["runs", "list"]):
        gone.mkdir()
        script = 'rmdir "$PWD"; exec "$@"'
        argv = ["sh", "-c", script, "sh", sys.executable, "-m", "osiris_core.cli.main", *command]
        done = subprocess.run(argv, cwd=gone, capture_output=True, text=True)
        assert (done.returncode, "the working directory is gone" in done.stderr) == (2, True), done.stderr
