"""`osiris run --model-run`, `pipeline` and `postprocess`: outcomes as exit codes, one JSON document, nothing left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from osiris_core.earlier_run import EarlierRun

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]
MODEL = """\
run_id: tides
output_dir: out
parameters: {grid: coarse}
command: "cp INPUT outputs/result.txt; echo printed; echo said >&2"
expected_outputs: [outputs/result.txt]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(MODEL)
    (tmp_path / "zip.yaml").write_text("type: archive\nformat: zip\n")
    (tmp_path / "odd.yaml").write_text("config: !include model.yaml\nsettings: {run_kwarg: 1}\n")
    (tmp_path / "empty.yaml").write_text("config:\nbackend: {type: local}\n")
    (tmp_path / "local.yaml").write_text("type: local\ncommand: 'echo $GREETING > outputs/result.txt'\n")
    return tmp_path


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


def test_a_model_runs(folder: Path) -> None:
    """Success is visible on stdout, progress on stderr; what the command printed is in files, not in between."""
    done = osiris(folder, "run", "--model-run", "model.yaml")
    assert done.returncode == 0
    assert done.stdout.startswith("completed  tides  on local")
    assert "outputs/result.txt" in done.stdout
    assert "printed" not in done.stdout + done.stderr
    assert "run  completed" in done.stderr
    found = document(folder, "run", "--model-run", "model.yaml", "--adapter", "process")
    assert (found["success"], found["backend"], found["missing_outputs"]) == (True, "process", [])
    assert Path(found["stdout_log"]).read_text() == "printed\n"
    assert (folder / "out" / "tides" / "outputs" / "result.txt").read_text() == "run_id = tides\ngrid = coarse\n"


def test_logs_instead_of_progress(folder: Path) -> None:
    """Every event is a line of JSON on standard error."""
    done = osiris(folder, "run", "--model-run", "model.yaml", "--log-format", "json", "--json")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert {"run.start", "step.start", "step.complete", "run.complete"} <= set(events)
    assert json.loads(done.stdout)["success"]


@pytest.mark.parametrize("adapter", ["local", "process"])
def test_a_secret_of_a_configuration_file_travels_by_name(folder: Path, adapter: str) -> None:
    """The command sees it; the value is in nothing that is written or printed, and the name is in the file alone."""
    digest = hashlib.sha256(b"ab secret-4711").hexdigest()
    (folder / "secret.yaml").write_text(
        f"type: {adapter}\nenv_vars: {{TOKEN: 'ab ${{MY_TOKEN}}'}}\n"
        f'command: \'test $(printf %s "$TOKEN" | sha256sum | cut -d" " -f1) = {digest} && echo $TOKEN\'\n'
    )
    (folder / "model.yaml").write_text("run_id: tides\noutput_dir: out\n")
    done = osiris(
        folder, "run", "--model-run", "model.yaml", "--config", "secret.yaml", "--json", MY_TOKEN="secret-4711"
    )
    assert done.returncode == 0, done.stdout
    assert "secret-4711" not in done.stdout + done.stderr
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secret.yaml":
            assert b"secret-4711" not in path.read_bytes(), path
    assert "***" in Path(json.loads(done.stdout)["stdout_log"]).read_text()


def test_a_configuration_and_variables(folder: Path) -> None:
    """The backend's file goes before the model's command; a variable given by name is a secret, in no file."""
    done = osiris(
        folder, "run", "--model-run", "model.yaml", "--config", "local.yaml", "--env", "GREETING", GREETING="ahoy-4711"
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "tides" / "outputs" / "result.txt").read_text() == "ahoy-4711\n"
    sessions = [path for path in (folder / "out" / ".osiris").rglob("*") if path.is_file()]
    assert sessions
    kept = [path for path in sessions if b"ahoy-4711" in path.read_bytes() and path.name != "result.txt"]
    assert kept == [], "what the model writes into its outputs is its own; everything else is ours"
    assert "ahoy-4711" not in done.stdout + done.stderr


def test_exit_codes_are_the_outcome(folder: Path) -> None:
    """1 for a failure with its reason, 2 for what cannot start, 124 for a timeout; the report is the one document."""
    (folder / "model.yaml").write_text(MODEL.replace("echo printed;", "echo printed; exit 3;"))
    failed = document(folder, "run", "--model-run", "model.yaml", code=1)
    assert (failed["status"], failed["return_code"], failed["failure_class"]) == ("failed", 3, "user_error")
    text = osiris(folder, "run", "--model-run", "model.yaml").stdout
    assert "user_error: the command exited with code 3" in text
    (folder / "model.yaml").write_text(MODEL.replace("cp INPUT outputs/result.txt;", "") + "delete_existing: true\n")
    left = document(folder, "run", "--model-run", "model.yaml", code=1)
    assert (left["phase"], left["missing_outputs"]) == ("collect", ["outputs/result.txt"])
    (listed,) = json.loads(osiris(folder, "runs", "list", "--root", "out/.osiris/sessions", "--json").stdout)
    assert listed["status"] == "failed"
    (folder / "none.yaml").write_text("run_id: none\n")
    nothing = osiris(folder, "run", "--model-run", "none.yaml")
    assert nothing.returncode == 2
    assert "the model run has no command" in nothing.stdout
    assert "Traceback" not in nothing.stdout + nothing.stderr
    (folder / "model.yaml").write_text(MODEL.replace("echo printed;", "sleep 30;"))
    late = document(folder, "run", "--model-run", "model.yaml", "--timeout", "1", code=124)
    assert late["status"] == "timeout"


@pytest.mark.parametrize("how", ["run", "pipeline"])
def test_a_stop_is_a_stop(folder: Path, how: str) -> None:
    """SIGTERM ends the model's whole process tree, and the exit code is 130."""
    (folder / "model.yaml").write_text(MODEL.replace("echo printed;", "echo $$ > pid; setsid sleep 61 & sleep 62;"))
    arguments = ["run", "--model-run", "model.yaml"] if how == "run" else ["pipeline", "model.yaml"]
    process = subprocess.Popen(
        [*OSIRIS, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid_file = folder / "out" / "tides" / "pid"
    deadline_s = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(0.2)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) >= 3
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "cancelled" in out
    assert [child for child in tree if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_stop_while_postprocessing_is_a_stop(folder: Path) -> None:
    """Of `pipeline` as of `postprocess`: the exit code is 130, and what the processor started is gone."""
    info = folder / "site" / "slow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[osiris.postprocessors]\nslow = slow_processor:Slow\n")
    (folder / "site" / "slow_processor.py").write_text(
        "import subprocess\nclass Slow:\n    def process(self, model_run, **kwargs):\n"
        "        child = subprocess.Popen(['setsid', 'sleep', '61'])\n"
        "        open('pid', 'w').write(str(child.pid))\n        child.wait()\n"
    )
    assert osiris(folder, "run", "--model-run", "model.yaml").returncode == 0
    for command in ("pipeline", "postprocess"):
        process = subprocess.Popen(
            [*OSIRIS, command, "model.yaml", "--processor", "slow"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "site")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        deadline_s = time.monotonic() + 20
        while not ((folder / "pid").exists() and (folder / "pid").read_text()):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        child = psutil.Process(int((folder / "pid").read_text()))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        (folder / "pid").unlink()


def test_dry_run_and_skip_generate(folder: Path) -> None:
    """One only generates; the other runs in what is there, and never deletes it, whatever the file says."""
    found = document(folder, "run", "--model-run", "model.yaml", "--dry-run")
    assert [item["path"] for item in found["files"]] == ["INPUT"]
    assert not (folder / "out" / "tides" / "outputs" / "result.txt").exists()
    (folder / "model.yaml").write_text(MODEL + "delete_existing: true\n")
    (folder / "out" / "tides" / "INPUT").write_text("edited by hand\n")
    done = osiris(folder, "run", "--model-run", "model.yaml", "--skip-generate")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "tides" / "outputs" / "result.txt").read_text() == "edited by hand\n"
    both = osiris(folder, "run", "--model-run", "model.yaml", "--skip-generate", "--dry-run")
    assert both.returncode == 2
    assert "exclude each other" in both.stderr


@pytest.mark.parametrize("adapter", ["local", "process"])
def test_attaching_brings_a_model_run_home(folder: Path, adapter: str) -> None:
    """After a kill -9 of the controller: what the run left is in the workspace, and expected outputs are expected."""
    command = "touch begun; for i in 1 2 3 4; do sleep 0.2; done; echo 1 > outputs/made"
    for expected, verdict in (("outputs/made", "completed"), ("outputs/other", "failed")):
        text = f"run_id: dead\noutput_dir: out\nexpected_outputs: [{expected}]\ncommand: '{command}'\n"
        (folder / "dead.yaml").write_text(text)
        process = subprocess.Popen(
            [*OSIRIS, "run", "--model-run", "dead.yaml", "--adapter", adapter], cwd=folder, stderr=subprocess.DEVNULL
        )
        journal = folder / "out" / ".osiris" / "sessions" / "dead" / "events.jsonl"
        deadline_s = time.monotonic() + 20
        while not (journal.exists() and "step.start" in journal.read_text()):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        process.kill()
        process.wait()
        attached = osiris(folder, "runs", "attach", "dead", "--root", "out/.osiris/sessions")
        assert attached.returncode == 0, attached.stderr
        assert (folder / "out" / "dead" / "outputs" / "made").read_text() == "1\n"
        (listed,) = json.loads(osiris(folder, "runs", "list", "--root", "out/.osiris/sessions", "--json").stdout)
        assert listed["status"] == verdict
        assert osiris(folder, "postprocess", "dead.yaml").returncode == (0 if verdict == "completed" else 1)
        shutil.rmtree(folder / "out")


def test_what_to_do_with_a_model_run_that_is_gone(folder: Path) -> None:
    """What is advised is for models: there is no manifest to resume."""
    (folder / "dead.yaml").write_text("run_id: dead\noutput_dir: out\ncommand: sleep 20\n")
    process = subprocess.Popen(
        [*OSIRIS, "run", "--model-run", "dead.yaml", "--adapter", "process"], cwd=folder, stderr=subprocess.DEVNULL
    )
    journal = folder / "out" / ".osiris" / "sessions" / "dead" / "events.jsonl"
    deadline_s = time.monotonic() + 20
    while not (journal.exists() and "step.start" in journal.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.kill()
    process.wait()
    cancelled = osiris(folder, "runs", "cancel", "dead", "--root", "out/.osiris/sessions")
    again = osiris(folder, "runs", "attach", "dead", "--root", "out/.osiris/sessions")
    assert again.returncode == 130, (again.stderr, cancelled.stderr)
    assert "MANIFEST" not in again.stdout
    assert EarlierRun.read(journal.parent).again == "osiris run --model-run FILE --adapter process"


def test_a_dry_run_spares_the_run_of_another(folder: Path) -> None:
    """Not even a dry run touches the workspace that a run has, though the model says that it is emptied."""
    command = 'command: "touch begun; for i in $(seq 200); do [ -e enough ] || sleep 0.05; done"\n'
    (folder / "busy.yaml").write_text(f"run_id: busy\noutput_dir: out\ndelete_existing: true\n{command}")
    process = subprocess.Popen([*OSIRIS, "run", "--model-run", "busy.yaml"], cwd=folder, stderr=subprocess.PIPE)
    workspace = folder / "out" / "busy"
    deadline_s = time.monotonic() + 20
    while not (workspace / "begun").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    dry = osiris(folder, "run", "--model-run", "busy.yaml", "--dry-run")
    assert dry.returncode == 2
    assert "a run of 'busy' is under way" in dry.stderr
    assert (workspace / "begun").exists()
    (workspace / "enough").touch()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err


def test_skip_generate_needs_a_workspace(folder: Path) -> None:
    """A workspace that is missing or empty is an error that makes nothing."""
    done = osiris(folder, "run", "--model-run", "model.yaml", "--skip-generate")
    assert done.returncode == 2
    assert "there is no workspace" in done.stderr
    assert not (folder / "out").exists()
    (folder / "out" / "tides").mkdir(parents=True)
    assert "is empty" in osiris(folder, "run", "--model-run", "model.yaml", "--skip-generate").stderr


@pytest.mark.parametrize("how", ["", "--dry-run"])
def test_inputs_that_cannot_be_generated(folder: Path, how: str) -> None:
    """A template that is not there and a folder that cannot be made are bad input: exit code 2, and no traceback."""
    for line, words in (("template: nowhere", "there is no folder"), ("output_dir: model.yaml/x", "Not a directory")):
        (folder / "model.yaml").write_text(f"run_id: tides\ncommand: 'true'\n{line}\n")
        done = osiris(folder, "run", "--model-run", "model.yaml", *([how] if how else []))
        assert done.returncode == 2, done.stdout
        assert words in done.stdout + done.stderr


def test_everything_wrong_at_once(folder: Path) -> None:
    """Problems of the model's file, the backend's and the options come together, and nothing is started."""
    (folder / "model.yaml").write_text("run_id: tides\ncomand: x\noutput_dir: out\n")
    (folder / "local.yaml").write_text("type: local\n\ntimeout: 5\n")
    arguments = ("run", "--model-run", "model.yaml", "--config", "local.yaml")
    done = osiris(folder, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "model.yaml:2: comand: there is no such key (did you mean 'command'?)",
        "local.yaml:3: timeout: Input should be greater than or equal to 60",
        "osiris: 2 problems; nothing was started",
    ]
    assert not (folder / "out").exists()
    problems = document(folder, *arguments, code=2)["problems"]
    assert [(item["file"], item["line"]) for item in problems] == [("model.yaml", 2), ("local.yaml", 3)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "give a MANIFEST, or a model"),
        (("run", "model.yaml"), "this is a model run, not a manifest (osiris run --model-run model.yaml)"),
        (("run", "odd.yaml"), "this is a pipeline of a model run, not a manifest (osiris pipeline odd.yaml)"),
        (("pipeline", "empty.yaml"), "empty.yaml:1: config: is missing: it is the model run"),
        (("run", "--model-run", "empty.yaml"), "empty.yaml:1: config: is missing: it is the model run"),
        (("run", "manifest.yaml", "--model-run", "model.yaml"), "not both"),
        (("run", "--model-run", "model.yaml", "--resume", "--out", "x"), "--out, --resume: for manifests only"),
        (("run", "--model-run", "model.yaml", "--config-from-env"), "one of them"),
        (("run", "manifest.yaml", "--dry-run"), "see osiris plan"),
        (("run", "--model-run", "gone.yaml"), "gone.yaml: there is no such file"),
        (("run", "--model-run", "model.yaml", "--adapter", "lokal"), "did you mean 'local'?"),
        (("run", "--model-run", "model.yaml", "--env", "NOT_SET_HERE"), "the variable NOT_SET_HERE is not set"),
        (("pipeline",), "give a FILE"),
        (("pipeline", "model.yaml", "--processor", "nop"), "did you mean 'noop'?"),
        (("pipeline", "model.yaml", "--processor-config", "local.yaml"), "'local' is no postprocessor"),
        (("pipeline", "model.yaml", "--pipeline-backend", "lokal"), "Unknown pipeline backend"),
        (("postprocess", "--config-from-env"), "OSIRIS_CONFIG is not set"),
        (("postprocess", "model.yaml", "--processor-config", "zip.yaml", "--output-dir", "x"), "has no such setting"),
        (
            ("pipeline", "odd.yaml"),
            "odd.yaml: settings.run_kwarg: pipeline backend 'local' has no such setting (did you",
        ),
    ],
)
def test_bad_input(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    """Each ends with exit code 2 and says what to do; nothing is started."""
    done = osiris(folder, *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert not (folder / "out").exists()


def test_a_model_from_the_environment(folder: Path) -> None:
    """`--config-from-env` reads the same from a variable, where no file can be put."""
    found = document(folder, "run", "--config-from-env", OSIRIS_CONFIG=MODEL)
    assert found["success"]
    wrong = osiris(folder, "run", "--config-from-env", OSIRIS_CONFIG="run_id: a\nx: 1")
    assert "$OSIRIS_CONFIG:2: x: there is no such key" in wrong.stderr


def test_a_pipeline(folder: Path) -> None:
    """Sections of a file, options that go before them, and a second call that repeats nothing unless it is forced."""
    (folder / "pipeline.yaml").write_text(
        "config: !include model.yaml\nbackend: {type: local, timeout: 60}\npostprocessor: {type: report}\n"
    )
    found = document(folder, "pipeline", "pipeline.yaml")
    assert found["success"]
    assert found["stages_completed"] == ["generate", "run", "postprocess"]
    assert (found["processor"], found["run_backend"]) == ("report", "local")
    again = osiris(folder, "pipeline", "pipeline.yaml")
    assert "done before" in again.stdout
    assert document(folder, "pipeline", "pipeline.yaml", "--force")["skipped"] == []
    (folder / "zip.yaml").write_text("type: archive\nformat: zip\narchive: packed/all.zip\n")
    other = document(folder, "pipeline", "model.yaml", "--run-backend", "local", "--processor-config", "zip.yaml")
    assert other["processor"] == "archive"
    assert (folder / "packed" / "all.zip").is_file(), "relative to the configuration's own file"


def test_a_pipelines_file_says_where_it_runs(folder: Path) -> None:
    """To `run` as to `pipeline`, unless an option says otherwise; a variable is added to what the file says."""
    (folder / "pipeline.yaml").write_text(
        "config: {run_id: tides, output_dir: out, command: 'echo $WHERE $WHAT > outputs/result.txt'}\n"
        "backend: {type: process, env_vars: {WHERE: file}}\n"
    )
    result = folder / "out" / "tides" / "outputs" / "result.txt"
    found = document(folder, "run", "--model-run", "pipeline.yaml")
    assert (found["backend"], result.read_text()) == ("process", "file\n")
    found = document(folder, "run", "--model-run", "pipeline.yaml", "--env", "WHAT=x")
    assert (found["backend"], result.read_text()) == ("process", "file x\n")
    found = document(folder, "pipeline", "pipeline.yaml", "--env", "WHAT=y")
    assert (found["run_backend"], result.read_text()) == ("process", "file y\n")
    assert document(folder, "run", "--model-run", "pipeline.yaml", "--adapter", "local")["backend"] == "local"
    found = document(
        folder, "run", "--model-run", "pipeline.yaml", "--backend-config", "local.yaml", "--env", "GREETING=z"
    )
    assert (found["backend"], result.read_text()) == ("local", "z\n")


def test_a_short_limit_for_a_pipeline(folder: Path) -> None:
    """`--timeout` is the run's, and may be under the minute of a configuration."""
    (folder / "model.yaml").write_text(MODEL.replace("echo printed;", "sleep 30;"))
    late = document(folder, "pipeline", "model.yaml", "--timeout", "1", code=124)
    assert (late["stage"], "longer than 1 s" in late["error"]) == ("run", True)


def test_a_pipeline_that_fails(folder: Path) -> None:
    """The stage and the reason are told; an unset flag does not go before what the file says."""
    text = MODEL.replace("cp INPUT", "exit 5; cp INPUT")
    (folder / "model.yaml").write_text(text)
    found = document(folder, "pipeline", "model.yaml", code=1)
    assert (found["stage"], found["stages_completed"], found["cleaned_up"]) == ("run", ["generate"], False)
    assert (folder / "out" / "tides").exists()
    assert document(folder, "pipeline", "model.yaml", "--cleanup-on-failure", code=1)["cleaned_up"] is True
    assert not (folder / "out" / "tides").exists()
    (folder / "pipeline.yaml").write_text("config: !include model.yaml\ncleanup_on_failure: true\n")
    assert document(folder, "pipeline", "pipeline.yaml", code=1)["cleaned_up"] is True


def test_postprocess(folder: Path) -> None:
    """The exit code is the outcome; flags that are not given leave the configuration alone."""
    (folder / "noop.yaml").write_text("type: noop\nvalidate_outputs: false\n")
    missing = document(folder, "postprocess", "model.yaml", code=1)
    assert missing["success"] is False
    assert "not found" in missing["message"]
    assert document(folder, "postprocess", "model.yaml", "--processor-config", "noop.yaml")["validated"] is False
    checked = ("postprocess", "model.yaml", "--processor-config", "noop.yaml", "--validate-outputs")
    assert document(folder, *checked, code=1)["success"] is False
    osiris(folder, "run", "--model-run", "model.yaml")
    assert osiris(folder, "postprocess", "model.yaml").stdout.startswith("completed  tides")
    (folder / "model.yaml").write_text(MODEL.replace("cp INPUT", "exit 5; cp INPUT"))
    osiris(folder, "run", "--model-run", "model.yaml")
    assert document(folder, "postprocess", "model.yaml", code=1)["success"] is False, "its run had failed"
    assert "file_count" not in document(folder, "postprocess", "model.yaml", code=1)
    forced = document(folder, "postprocess", "model.yaml", "--force", code=1)
    assert (forced["success"], forced["file_count"] > 0) == (False, True)
