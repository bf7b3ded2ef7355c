"""Runs elsewhere as callers live with them: threads, processes, links, leftovers, places that take long."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from osiris_core import AdapterFactory, ExecutionContext, PreparedRun
from osiris_core.errors import PhaseError

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]


def command(**config: Any) -> dict[str, Any]:
    return {"pipeline": "p", "steps": [{"id": "a", "driver": "command", "config": config}]}


def context(folder: Path, **more: Any) -> ExecutionContext:
    return ExecutionContext(session_dir=str(folder), **more)


@pytest.mark.parametrize("name", ["local", "process"])
def test_a_run_under_way_is_not_collected(tmp_path: Path, name: str) -> None:
    """Another thread that collects too early is told so, and the run completes all the same."""
    adapter = AdapterFactory.create(name)
    there = context(tmp_path / "s")
    prepared = adapter.prepare(command(argv=["sleep", "1.5"]), there)
    running = threading.Thread(target=adapter.execute, args=(prepared, there))
    running.start()
    time.sleep(0.5)
    with pytest.raises(PhaseError, match="executing"):
        adapter.collect(prepared, there)
    running.join()
    assert adapter.collect(prepared, there)["status"] == "completed"


@pytest.mark.parametrize("name", ["local", "process"])
def test_closing_ends_what_runs_in_other_threads(tmp_path: Path, name: str) -> None:
    """`close` cancels, waits and collects; the thread that ran it still gets its report."""
    adapter = AdapterFactory.create(name)
    reports: list[Any] = []
    running = threading.Thread(
        target=lambda: reports.append(adapter.run(command(argv=["sleep", "60"]), context(tmp_path / "s")))
    )
    running.start()
    time.sleep(1)
    adapter.close()
    running.join(20)
    assert [report["status"] for report in reports] == ["cancelled"]
    assert json.loads((tmp_path / "s/status.json").read_text())["status"] == "cancelled"


def test_a_caller_that_ignores_its_children_gets_its_report(tmp_path: Path) -> None:
    """SIGCHLD ignored, as by some shells and servers: the run ends as ever, and nothing is left."""
    code = "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    (tmp_path / "m.json").write_text(json.dumps(command(argv=["echo", "hello"])))
    line = [*OSIRIS, "run", "m.json", "--adapter", "process", "--json", "--session-dir", "s"]
    done = subprocess.run(
        [sys.executable, "-c", code, *line], cwd=tmp_path, capture_output=True, text=True, timeout=40, check=False
    )
    report = json.loads(done.stdout)
    assert not list((tmp_path / "s").glob("process-*"))
    assert (report["status"], report["error"]) == ("completed", None)


def test_waiting_for_a_place_can_be_cancelled_and_is_limited(tmp_path: Path) -> None:
    """An interpreter that takes its time to start holds up neither a cancel nor the run's limit."""
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\nsleep 12\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    adapter = AdapterFactory.create("process", python=str(slow))
    started_s = time.monotonic()
    report = adapter.run(command(argv=["true"]), context(tmp_path / "a", timeout=1))
    assert report["status"] == "timeout"
    threading.Timer(0.5, adapter.cancel).start()
    report = adapter.run(command(argv=["true"]), context(tmp_path / "b"))
    assert report["status"] == "cancelled"
    assert time.monotonic() - started_s < 10


def test_a_prepared_run_finds_its_code_in_another_process(tmp_path: Path) -> None:
    """A run that comes as JSON is executed by an adapter whose configuration names the code."""
    (tmp_path / "drv.py").write_text(
        "class D:\n    def run(self, step_id, config, inputs, ctx):\n        return {'n': 1}\n"
    )
    manifest = {"pipeline": "p", "steps": [{"id": "a", "driver": "drv:D"}]}
    code = [str(tmp_path / "drv.py")]
    prepared = AdapterFactory.create("process", code=code).prepare(manifest, context(tmp_path / "s"))
    (tmp_path / "prepared.json").write_text(json.dumps(prepared.to_json()))
    script = f"""
import json
from osiris_core import AdapterFactory, ExecutionContext, PreparedRun
prepared = PreparedRun.from_json(json.load(open({str(tmp_path / "prepared.json")!r})))
adapter = AdapterFactory.create("process", code={code!r})
there = ExecutionContext(session_dir={str(tmp_path / "s")!r})
adapter.execute(prepared, there)
print(adapter.collect(prepared, there)["status"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout == "completed\n", done.stderr
    assert PreparedRun.from_json(prepared.to_json()).fingerprint == prepared.fingerprint


def test_a_driver_may_need_what_only_the_place_has(tmp_path: Path) -> None:
    """A package that is missing here is the place's business; the error there names it."""
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n\nclass D:\n    pass\n")
    manifest = {"pipeline": "p", "steps": [{"id": "a", "driver": "needy:D"}]}
    adapter = AdapterFactory.create("process", code=[str(tmp_path / "needy.py")])
    report = adapter.run(manifest, context(tmp_path / "s"))
    assert report["error"]["failure_class"] == "user_error"
    assert "No module named 'not_installed_anywhere'" in report["error"]["message"]


def test_sessions_beside_the_code_do_not_travel(tmp_path: Path) -> None:
    """A session directory inside a `code` folder is no code."""
    (tmp_path / "runs/old").mkdir(parents=True)
    (tmp_path / "runs/old/session.lock").touch()
    (tmp_path / "runs/old/big.bin").write_bytes(bytes(30_000_000))
    (tmp_path / "drv.py").write_text("X = 1\n")
    adapter = AdapterFactory.create("process", code=[str(tmp_path)])
    report = adapter.run(command(argv=["true"]), context(tmp_path / "runs/new"))
    assert report["transfer"]["up_bytes"] < 10_000_000


def test_what_did_not_come_home_is_not_listed(tmp_path: Path) -> None:
    """A result over its limit is `resource_denied`, names the setting, and lists no artifact that is not there."""
    adapter = AdapterFactory.create("process", max_result_bytes=1000)
    report = adapter.run(command(shell='head -c 5000 /dev/zero > "$OSIRIS_ARTIFACTS_DIR/x"'), context(tmp_path / "s"))
    assert report["error"]["failure_class"] == "resource_denied"
    assert "max_result_bytes" in report["error"]["message"]
    assert report.artifacts == []
    assert not (tmp_path / "s/artifacts").exists()


def test_links_and_modes_come_home(tmp_path: Path) -> None:
    """Hard links are files of their own, and a folder keeps its mode."""
    shell = 'cd "$OSIRIS_ARTIFACTS_DIR"; echo 1 > x; ln x y; mkdir d; echo 2 > d/z; chmod 555 d'
    report = AdapterFactory.create("process").run(command(shell=shell), context(tmp_path / "s"))
    assert report.succeeded, report.error
    folder = tmp_path / "s/artifacts/a"
    assert (folder / "x").read_bytes() == (folder / "y").read_bytes() == b"1\n"
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o555
    (folder / "d").chmod(0o755)


def test_gc_finds_a_worker_wherever_its_session_is(tmp_path: Path) -> None:
    """Also one in a session directory of the user's own, and one whose session was taken over."""
    (tmp_path / "m.json").write_text(json.dumps(command(argv=["sleep", "307"])))
    line = [*OSIRIS, "run", "m.json", "--adapter", "process", "--session-dir", "elsewhere"]
    controller = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 30
    while not (running := sleepers()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    assert running
    done = subprocess.run(
        [*OSIRIS, "runs", "gc", "--adapter", "process", "--json"], cwd="/", capture_output=True, text=True, check=False
    )
    mine = [item for item in json.loads(done.stdout)["leftovers"] if item["session_dir"] == str(tmp_path / "elsewhere")]
    assert [item["state"] for item in mine] == ["removed"]
    assert not sleepers()
    assert not list((tmp_path / "elsewhere").glob("process-*"))


def test_a_run_ends_the_worker_that_its_session_had(tmp_path: Path) -> None:
    """Whoever takes over the session of a killed controller does not start beside its worker."""
    (tmp_path / "m.json").write_text(json.dumps(command(argv=["sleep", "307"])))
    line = [*OSIRIS, "run", "m.json", "--adapter", "process", "--session-dir", "s"]
    controller = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 30
    while not (first := sleepers()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    controller.kill()
    controller.wait()
    done = subprocess.run([*line, "--timeout", "1"], cwd=tmp_path, capture_output=True, timeout=50, check=False)
    assert done.returncode == 124
    assert first
    assert not sleepers()


def sleepers() -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if line == b"sleep\x00307\x00":
            found.append(name)
    return found


def test_what_was_kept_outlives_the_next_attempt(tmp_path: Path) -> None:
    """It was kept to be looked at; a sweep finds it, and nothing else removes it."""
    there = context(tmp_path / "s")
    with AdapterFactory.create("process", keep=True) as adapter:
        assert adapter.run(command(argv=["true"]), there)["status"] == "completed"
    (kept,) = (tmp_path / "s").glob("process-*")
    with AdapterFactory.create("process") as adapter:
        report = adapter.run(command(argv=["true"]), there)
        assert (report["status"], report["attempt"]) == ("completed", 2)
        assert kept.is_dir()
        (item,) = adapter.leftovers([tmp_path / "s"])
        item.remove()
    assert not kept.exists()
