"""Runs on the real two-node cluster of the tests, and looks at what Slurm and this machine have of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.journal import read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from adapters.slurm import SlurmAdapter
    from osiris_core.report import RunReport


def shell(step_id: str, line: str, **keys: Any) -> dict[str, Any]:
    """A step that runs a line of shell."""
    config = {"shell": line, **keys.pop("config", {})}
    return {"id": step_id, "driver": "command", "config": config, **keys}


def manifest(*steps: dict[str, Any], name: str = "slurm-test") -> dict[str, Any]:
    return {"pipeline": name, "steps": list(steps)}


def slurm(*argv: str) -> str:
    """What a command of Slurm's says."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def state_of(job_id: str) -> str:
    """A job's state; empty when Slurm does not know it."""
    argv = ["squeue", "-h", "-r", "-t", "all", "-j", job_id, "-o", "%T"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def is_gone(job_id: str) -> bool:
    return state_of(job_id) not in ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")


def wait_until(true: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """What `true` gave, once it was something."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
    return found


def living(words: str) -> list[int]:
    """Processes of this machine, which all nodes are on, with these words in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and words.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wrapper(folder: Path, monkeypatch: pytest.MonkeyPatch, tool: str, text: str) -> Path:
    """Puts a script before one of Slurm's commands: the network between us and the controller, as it may be."""
    real = shutil.which(tool)
    path = folder / "bin" / tool
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\nreal={shlex.quote(str(real))}\nlog={shlex.quote(str(folder / tool))}.log\n{text}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return folder / f"{tool}.log"


def nothing_is_left(run: SlurmRun, job_id: str) -> None:
    """Neither the job nor the run's folder, nor the link to it."""
    assert is_gone(job_id), state_of(job_id)
    assert list(run.shared_dir.glob("runs/*")) == []
    assert [path.name for path in run.session_dir.glob("slurm-*")] == []


def create(shared_dir: str, **settings: Any) -> SlurmAdapter:
    """The adapter, with a folder that every node sees."""
    return AdapterFactory.create("slurm", shared_dir=shared_dir, **settings)  # type: ignore[return-value]


def contexts(folder: Path, count: int, **more: Any) -> list[ExecutionContext]:
    """Each with a session of its own: s0, s1, …"""
    return [ExecutionContext(session_dir=str(folder / f"s{number}"), **more) for number in range(count)]


def counted(folder: Path, monkeypatch: pytest.MonkeyPatch, *tools: str) -> Path:
    """A log with a line for each call of these commands."""
    (folder / "bin").mkdir()
    log = folder / "calls.log"
    log.touch()
    for tool in tools:
        path = folder / "bin" / tool
        real = shlex.quote(str(shutil.which(tool)))
        path.write_text(f'#!/bin/bash\necho {tool} "$@" >>{shlex.quote(str(log))}\nexec {real} "$@"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return log


def cluster_is_clean(shared_dir: str) -> None:
    """No job and no folder of ours is there any more."""
    assert list(Path(shared_dir).glob("*/osiris-*")) == []
    ours = [line for line in slurm("squeue", "-h", "-o", "%i %T %k").splitlines() if "osiris:" in line]
    assert [line for line in ours if "COMPLETING" not in line] == []


class SlurmRun:
    """One run, in a thread of its own; `report` waits for its end."""

    def __init__(self, folder: Path, shared_dir: str, steps: list[dict[str, Any]], **settings: Any) -> None:
        context = settings.pop("context", {})
        self.session_dir = folder / "session"
        self.adapter = AdapterFactory.create("slurm", shared_dir=shared_dir, **settings)
        self.context = ExecutionContext(session_dir=str(self.session_dir), **context)
        self.shared_dir = Path(shared_dir)
        self._steps = steps
        self._result: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self.adapter.run(manifest(*self._steps), self.context))
        except Exception as exc:  # noqa: BLE001 - it is looked at by the test
            self._result.append(exc)
        finally:
            self.adapter.close()

    def report(self, timeout_s: float = 50.0) -> RunReport:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the run is not over"
        (result,) = self._result
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def events(self, name: str = "") -> list[dict[str, Any]]:
        path = self.session_dir / "events.jsonl"
        return [event for event in (read_events(path) if path.exists() else ()) if name in ("", event["event"])]

    def wait_for(self, name: str, step_id: str | None = None, timeout_s: float = 40.0) -> dict[str, Any]:
        def found() -> Any:
            assert self._thread.is_alive() or self._result, "the run ended"
            return [e for e in self.events(name) if step_id in (None, e.get("step_id"))]

        return wait_until(found, timeout_s)[-1]  # type: ignore[no-any-return]

    def wait_for_job(self) -> str:
        """The job's id, once it was submitted."""
        import json

        def found() -> Any:
            path = self.session_dir / "run.json"
            return path.exists() and json.loads(path.read_text()).get("native_id")

        return str(wait_until(found))

    def files(self) -> Iterator[Path]:
        """Everything that lies on the shared file system and in the session directory."""
        for root in (self.shared_dir, self.session_dir):
            yield from (path for path in root.rglob("*") if path.is_file())
