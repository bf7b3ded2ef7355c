"""A place where each message to the worker is a request: few messages, whatever the run is; here over plain pipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adapters.process import ProcessAdapter, ProcessConfig, ProcessSandbox
from osiris_core import ExecutionContext
from remote import folders
from remote.bundle import IN_BAND_BYTES
from remote.sandbox import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DRIVERS = Path(__file__).parent / "data" / "worker_drivers.py"


class CountedTransport:
    """Passes a transport on; notes what is sent, and breaks when it is told to."""

    def __init__(self, inner: Any, sent: list[bytes], breaks: list[int]) -> None:
        self._inner, self._sent, self._breaks = inner, sent, breaks
        self._received = 0
        self._broken = False

    def send(self, data: bytes, timeout_s: float) -> None:
        self._sent.append(data)
        self._inner.send(data, timeout_s)

    def receive(self, timeout_s: float) -> bytes | None:
        if self._broken:
            raise TransportClosed("broken by the test")
        data: bytes | None = self._inner.receive(timeout_s)
        self._received += len(data or b"")
        if data and self._breaks and self._received >= self._breaks[0]:
            self._broken = True
            return data[: len(data) - (self._received - self._breaks.pop(0))]
        return data

    def stderr_tail(self) -> str:
        return str(self._inner.stderr_tail())

    def close(self) -> None:
        """The pipes are the process's only ones: they stay."""


class FrugalSandbox(ProcessSandbox):
    frugal = True

    def __init__(self, *args: Any, sent: list[bytes], breaks: list[int]) -> None:
        super().__init__(*args)
        self.sent, self.breaks, self.puts, self.reconnects = sent, breaks, 0, 0

    def put(self, archive: Path) -> None:
        self.puts += 1
        super().put(archive)

    def open(self, argv: Sequence[str]) -> Any:
        self._pipes = super().open(argv)
        return CountedTransport(self._pipes, self.sent, self.breaks)

    def reconnect(self) -> Any:
        self.reconnects += 1
        return CountedTransport(self._pipes, self.sent, self.breaks)

    def stop(self, *, keep: bool = False) -> str:
        self._pipes.close()
        return super().stop(keep=keep)

    def get(self, folder: str) -> Iterator[bytes]:
        assert folder == folders.SESSION_FOLDER
        yield (self._folder / folders.RESULT_FILE).read_bytes()


class FrugalAdapter(ProcessAdapter):
    name = "frugal"

    def __init__(self, config: ProcessConfig | None = None, breaks: Sequence[int] = ()) -> None:
        super().__init__(config)
        self.sent: list[bytes] = []
        self.breaks = list(breaks)
        self.sandbox: FrugalSandbox

    def make_sandbox(self, run: Any, context: ExecutionContext, token: str) -> FrugalSandbox:
        made = super().make_sandbox(run, context, token)
        assert isinstance(made, ProcessSandbox)
        self.sandbox = FrugalSandbox(made.python, made._folder, token, sent=self.sent, breaks=self.breaks)
        return self.sandbox


def words(sent: list[bytes]) -> list[str]:
    """The methods that were asked for, in order."""
    return [json.loads(data.rpartition(b"\x1e")[2])["method"] for data in sent]


def steps(count: int) -> dict[str, Any]:
    return {
        "pipeline": "p",
        "steps": [
            {"id": f"s{number}", "driver": "duckdb.processor", "config": {"query": "SELECT * FROM range(9) t(i)"}}
            for number in range(count)
        ],
    }


@pytest.mark.parametrize("count", [1, 12])
def test_one_message_runs_it(tmp_path: Path, count: int) -> None:
    """The package, the order and the secrets are one message; nothing else is said, for any number of steps."""
    with FrugalAdapter() as adapter:
        report = adapter.run(steps(count), ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert words(adapter.sent) == ["start"]
    assert adapter.sandbox.puts == 0
    assert report["worker"]["packages"]["duckdb"]
    assert not list((tmp_path / "s").glob("process-*"))


def test_what_it_came_to_is_in_the_files_too(tmp_path: Path) -> None:
    """Whoever comes later finds `hello` and one `summary` there, and no sign of life."""
    command = {"id": "wait", "driver": "command", "config": {"argv": ["sleep", "1.5"]}}
    with FrugalAdapter(ProcessConfig(keep=True)) as adapter:
        report = adapter.run({"pipeline": "p", "steps": [command]}, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    (folder,) = (tmp_path / "s").glob("process-*")
    said = [json.loads(line) for line in (folder / folders.REPLIES_FILE).read_text().splitlines()]
    assert [(line["n"], line["message"]["method"]) for line in said] == [(0, "hello"), (0, "summary")]
    told = said[1]["message"]["params"]
    assert (told["summary"]["status"], told["ended_by"]) == ("completed", None)
    assert told["last_seq"] == len((folder / "session/events.jsonl").read_text().splitlines())


def test_a_large_package_is_put_there(tmp_path: Path) -> None:
    """Above the limit the package goes the other way, and there is still one message."""
    large = tmp_path / "large.csv"
    large.write_bytes(b"a\n" + b"1234567\n" * (IN_BAND_BYTES // 8))
    manifest = {
        "pipeline": "p",
        "steps": [{"id": "read", "driver": "filesystem.csv_extractor", "config": {"path": str(large)}}],
    }
    with FrugalAdapter() as adapter:
        report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert (adapter.sandbox.puts, words(adapter.sent)) == (1, ["start"])


def test_a_long_run_is_not_silent(tmp_path: Path) -> None:
    """A worker that is not asked for a sign of life gives them: a step longer than the limit of silence is no loss."""
    command = {"id": "wait", "driver": "command", "config": {"argv": ["sleep", "6"]}}
    with FrugalAdapter() as adapter:
        report = adapter.run({"pipeline": "p", "steps": [command]}, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert words(adapter.sent) == ["start"]


def test_breaks_lose_nothing(tmp_path: Path) -> None:
    """More breaks than a row may have, each after some progress: every event is there once, and the summary too."""
    manifest = steps(30)
    with FrugalAdapter(breaks=[100, 3_000, 2_500, 2_500, 2_500, 2_500, 2_500]) as adapter:
        report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s"), max_parallel_steps=1))
    assert report.succeeded, report.error
    assert adapter.sandbox.reconnects >= 5
    events = [json.loads(line) for line in (tmp_path / "s" / "events.jsonl").read_text().splitlines()]
    engine = [event["seq"] for event in events if event["origin"] == "engine"]
    assert engine == list(range(1, len(engine) + 1))
    assert [event["event"] for event in events].count("step.complete") == 30
    assert not [event for event in events if event["event"] == "log"]
    assert set(words(adapter.sent)) <= {"start", "replay"}


def test_a_crash_comes_home_too(tmp_path: Path) -> None:
    """An engine that dies leaves its journal and what was made before in the one file."""
    manifest = steps(1)
    manifest["steps"].append({"id": "die", "driver": "worker_drivers:Segfault", "config": {}, "needs": ["s0"]})
    with FrugalAdapter(ProcessConfig(code=(str(DRIVERS),))) as adapter:
        report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.status == "failed"
    assert report.error is not None
    assert words(adapter.sent) == ["start"]
    assert [step["status"] for step in report.steps] == ["completed", "failed"]
