"""The host's end of the wire: each event once and in order over bad connections, silence and death noticed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.errors import FailureClass
from osiris_core.journal import Journal, read_events
from osiris_core.redaction import Redactor
from remote.client import ProtocolError, RpcError, WorkerClient, WorkerLost
from remote.framing import Frame, FrameDecoder, encode_frame
from remote.pipe_transport import PipeTransport
from remote.protocol import ErrorCode, encode, notification, request
from remote.rpc_trace import RpcTrace
from remote.sandbox import TransportClosed
from tests.worker_process import WorkerProcess, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "correct-horse-battery"


def response(request_id: int | str, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


class Host:
    """A client with its journal, for a worker's pipes or any other transport."""

    def __init__(self, folder: Path, transport: Any, trace: RpcTrace | None = None) -> None:
        self.seen: list[int] = []
        self.strays: list[str] = []
        self.journal = Journal(folder / "host.jsonl", "session")
        self.copies = self.journal.copies("engine")
        self.transport = transport
        self.client = WorkerClient(
            transport, self.copies, lambda event: self.seen.append(event["seq"]), self.strays.append, trace
        )

    def run(self, worker: WorkerProcess) -> dict[str, Any]:
        """`start`, all events, and the summary."""
        self.client.hello(20)
        self.client.call("start", worker.start_params(), 30)
        assert self.client.wait(lambda: self.is_over, 60)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        while True:
            try:
                answer: dict[str, Any] = self.client.call("get_summary", timeout_s=20)
                break
            except RpcError as exc:
                if exc.code != ErrorCode.NOT_OVER:
                    raise
                self.client.wait(lambda: False, 0.05)
        assert self.client.wait(lambda: self.copies.last_seq >= answer["last_seq"], 30)
        return answer

    @property
    def is_over(self) -> bool:
        events = list(read_events(self.journal.path))
        return bool(events) and events[-1]["event"].startswith("steps.")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    made: list[WorkerProcess] = []

    def make(*steps: dict[str, Any], **more: Any) -> WorkerProcess:
        worker = WorkerProcess(tmp_path / f"w{len(made)}", list(steps) or [step("Write")], start=False, **more)
        made.append(worker)
        worker.launch(with_stderr=True)
        return worker

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(transport: Any, trace: RpcTrace | None = None) -> Host:
        hosts.append(Host(tmp_path, transport, trace))
        return hosts[-1]

    yield make
    for host in hosts:
        host.journal.close()


# Over a good connection and over bad ones.


def test_a_run_over_pipes(launch: Callable[..., WorkerProcess], connect: Callable[..., Host]) -> None:
    """Every event is written down as the engine wrote it, and the summary comes."""
    worker = launch(step("Emit", config={"count": 500}))
    host = connect(PipeTransport(worker.process))
    answer = host.run(worker)
    assert answer["summary"]["status"] == "completed"
    assert host.seen == list(range(1, answer["last_seq"] + 1))
    assert host.journal.path.read_bytes() == (worker.folder / "session/events.jsonl").read_bytes()
    assert host.client.call("shutdown") == {}


class BadConnection:
    """Passes a transport on, but for frames of events: some are lost, doubled, cut, held back or come with garbage."""

    def __init__(self, inner: Any, seed: int) -> None:
        self._inner = inner
        self._random = random.Random(seed)
        self._decoder = FrameDecoder()
        self._held = b""
        self.done: set[str] = set()

    def receive(self, timeout_s: float) -> bytes | None:
        data = self._inner.receive(timeout_s)
        if not data:
            return data  # type: ignore[no-any-return]
        return b"".join(self._spoil(item.text) for item in self._decoder.feed(data) if isinstance(item, Frame))

    def _spoil(self, text: bytes) -> bytes:
        frame = encode_frame(text)
        if b'"method":"event"' not in text:
            return frame
        kinds = ["lose", "double", "cut", "hold", "garbage"]
        kind = self._random.choices([*kinds, "pass"], [1, 1, 1, 1, 1, 95])[0]
        self.done.add(kind)
        if kind == "hold":  # it comes behind the next one
            frame, self._held = b"", self._held + frame
            return frame
        held, self._held = self._held, b""
        spoilt = {"lose": b"", "double": frame * 2, "cut": frame[: len(frame) // 2], "garbage": b"\xff\x00{\n" + frame}
        return spoilt.get(kind, frame) + held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bad_connection_loses_and_doubles_nothing(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], seed: int
) -> None:
    """What is missing is asked for again; the host's journal is the engine's, byte for byte."""
    worker = launch(step("Emit", config={"count": 800}))
    host = connect(BadConnection(PipeTransport(worker.process), seed))
    answer = host.run(worker)
    assert host.transport.done == {"lose", "double", "cut", "hold", "garbage", "pass"}
    assert host.seen == list(range(1, answer["last_seq"] + 1))
    assert host.journal.path.read_bytes() == (worker.folder / "session/events.jsonl").read_bytes()


class LosesOnce:
    """Loses every frame that has a text, once for each: also those of a replay, as often as it is told."""

    def __init__(self, inner: Any, text: bytes, times: int) -> None:
        self._inner, self._text, self._times = inner, text, times
        self._decoder = FrameDecoder()

    def receive(self, timeout_s: float) -> bytes | None:
        passed = b""
        for item in self._decoder.feed(self._inner.receive(timeout_s) or b""):
            assert isinstance(item, Frame)
            if self._times and self._text in item.text:
                self._times -= 1
            else:
                passed += encode_frame(item.text)
        return passed or None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(("text", "times"), [(b'"event":"steps.complete"', 1), (b'"event":"metric"', 3)])
def test_what_was_lost_twice_or_at_the_end_comes_in_the_end(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], text: bytes, times: int
) -> None:
    """A loss that no later event shows is seen in the answers to heartbeats, a lost replay is asked for again."""
    worker = launch()
    host = connect(LosesOnce(PipeTransport(worker.process), text, times))
    answer = host.run(worker)
    assert host.seen == list(range(1, answer["last_seq"] + 1))


# Silence and death.


def test_a_silent_worker_is_noticed(launch: Callable[..., WorkerProcess], connect: Callable[..., Host]) -> None:
    """Within about 5 s without one byte, while a run lasts."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    host = connect(PipeTransport(worker.process))
    host.client.hello(20)
    host.client.call("start", worker.start_params(), 30)
    assert not host.client.wait(lambda: False, 1.5)
    os.kill(worker.pid, signal.SIGSTOP)
    started_s = time.monotonic()
    with pytest.raises(WorkerLost, match="silent for 5 s"):
        host.client.wait(lambda: False, 30)
    assert time.monotonic() - started_s < 9
    os.kill(worker.pid, signal.SIGCONT)
    assert host.client.call("heartbeat")["state"] == "running"
    assert not host.client.wait(lambda: False, 1.5)


def test_a_quiet_worker_is_not_silent(launch: Callable[..., WorkerProcess], connect: Callable[..., Host]) -> None:
    """One that has nothing to tell is asked, and answers."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    host = connect(PipeTransport(worker.process))
    host.client.hello(20)
    host.client.call("start", worker.start_params(), 30)
    assert not host.client.wait(lambda: False, 7)


def test_a_host_that_slept_has_not_heard_silence(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time in which the host itself did not run (a closed laptop, a debugger) is not held against the worker."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    host = connect(PipeTransport(worker.process))
    host.client.hello(20)
    host.client.call("start", worker.start_params(), 30)
    clock = time.monotonic
    slept: list[float] = []
    monkeypatch.setattr("remote.client.monotonic", lambda: clock() + sum(slept))
    receive = host.transport.receive

    def fall_asleep(timeout_s: float) -> bytes | None:
        if not slept:
            slept.append(3600.0)
        return receive(timeout_s)  # type: ignore[no-any-return]

    monkeypatch.setattr(host.transport, "receive", fall_asleep)
    host.client.wait(lambda: False, 3)
    monkeypatch.setattr(host.transport, "receive", receive)
    assert not host.client.wait(lambda: False, 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_dead_worker_is_noticed_at_once(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], number: signal.Signals
) -> None:
    """No limit is waited for."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    host = connect(PipeTransport(worker.process))
    host.client.hello(20)
    pid = host.client.call("start", worker.start_params(), 30)["pid"]
    os.kill(worker.pid, number)
    started_s = time.monotonic()
    with pytest.raises(WorkerLost, match="ended"):
        host.client.wait(lambda: False, 30)
    assert time.monotonic() - started_s < 2
    os.kill(pid, signal.SIGKILL)
    assert WorkerLost("x").failure_class is FailureClass.INFRA_LOST


def test_the_last_words_are_kept(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], tmp_path: Path
) -> None:
    """What a worker wrote to standard error before it died is there for the message."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare/bin/python")
    worker = launch(python=python, tamper=lambda folder: (folder / "code.zip").write_bytes(b"no zip"))
    host = connect(PipeTransport(worker.process))
    with pytest.raises(WorkerLost):
        host.client.hello(20)
    assert "ModuleNotFoundError" in host.transport.stderr_tail().splitlines()[-1]


def test_no_answer_in_time(launch: Callable[..., WorkerProcess], connect: Callable[..., Host]) -> None:
    """A request has its own limit; the answer that comes late is nobody else's."""
    worker = launch(step("Sleep", config={"seconds": 60}))
    host = connect(PipeTransport(worker.process))
    host.client.hello(20)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match=r"'heartbeat' within 0\.2 s"):
        host.client.call("heartbeat", timeout_s=0.2)
    os.kill(worker.pid, signal.SIGCONT)
    with pytest.raises(RpcError) as caught:
        host.client.call("get_summary")
    assert caught.value.code == ErrorCode.NOT_STARTED
    assert host.client.call("cancel") == {"accepted": False}


def test_nothing_said_in_time(connect: Callable[..., Host]) -> None:
    """A place where no worker answers at all."""
    with pytest.raises(WorkerLost, match=r"did not say hello within 0\.3 s"):
        connect(Script([])).client.hello(0.3)


# What a worker must not say.


class Script:
    """The other side as bytes: pieces that come one after another; then nothing, or the end."""

    def __init__(self, pieces: list[bytes], *, ends: bool = False) -> None:
        self.pieces, self.ends = pieces, ends
        self.sent: list[dict[str, Any]] = []

    def send(self, data: bytes, timeout_s: float) -> None:
        self.sent.append(json.loads(data[1:]))

    def receive(self, timeout_s: float) -> bytes | None:
        if self.pieces:
            return self.pieces.pop(0)
        if self.ends:
            raise TransportClosed("it ended")
        time.sleep(timeout_s)
        return None

    def stderr_tail(self) -> str:
        return ""


def frame(message: dict[str, Any]) -> bytes:
    return encode_frame(encode(message))


@pytest.mark.parametrize("version", ["2.0", "0.1", "", None])
def test_another_protocol_is_refused(connect: Callable[..., Host], version: str | None) -> None:
    """By its major version, with the class `protocol`."""
    hello = frame(notification("hello", {"protocol": version}))
    with pytest.raises(ProtocolError, match="protocol") as caught:
        connect(Script([hello])).client.hello(1)
    assert caught.value.failure_class is FailureClass.PROTOCOL


EVENT = {"v": 1, "origin": "engine", "attempt": 1, "session_id": "session", "seq": 1, "event": "log"}
OTHERS = [
    {"v": 2},
    {"origin": "host"},
    {"attempt": 2},
    {"session_id": "other"},
    {"seq": "1"},
    {"seq": None},
    {"event": 1},
]


@pytest.mark.parametrize("params", [None, [], "text", 5, {}, {"seq": 1}, *({**EVENT, **other} for other in OTHERS)])
def test_what_is_no_event_of_this_run_is_refused(connect: Callable[..., Host], params: Any) -> None:
    """Nothing of it is written down."""
    host = connect(Script([frame(notification("event", params))]))
    with pytest.raises(ProtocolError):
        host.client.wait(lambda: False, 0.2)
    assert host.journal.path.read_bytes() == b""


def test_what_is_no_message_is_a_stray(connect: Callable[..., Host]) -> None:
    """Prints, binary garbage, JSON that is no message, and methods nobody knows: told a hundred times, never fatal."""
    pieces = [b"hello there\n", b"\xff\x00\n", encode_frame(b"[1]"), encode_frame(b"{"), encode_frame(b"7"),
              frame(notification("shout", {})), b"x\n" * 500]  # fmt: skip
    host = connect(Script([*pieces, frame(notification("hello", {"protocol": "1.0"}))]))
    host.client.hello(1)
    assert host.strays[0] == "hello there"
    assert len(host.strays) == 100


@pytest.mark.parametrize(
    "answer",
    [
        response(99, {}),
        response("x", {}),
        {"id": 1},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "m"}},
    ],
)
def test_answers_to_nobody_are_passed_over(connect: Callable[..., Host], answer: dict[str, Any]) -> None:
    """The one that is waited for comes behind them."""
    script = Script([frame(answer) if answer != {"id": 1} else b"", frame(response(1, "mine"))])
    assert connect(script).client.call("heartbeat", timeout_s=1) == "mine"


def test_an_error_answer_is_raised_with_its_code(connect: Callable[..., Host]) -> None:
    """With the method, message and data; a malformed one too."""
    bad = [frame({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no", "data": "why"}}),
           frame({"jsonrpc": "2.0", "id": 2, "error": {}})]  # fmt: skip
    client = connect(Script(bad)).client
    with pytest.raises(RpcError, match="'start': no: why") as caught:
        client.call("start", timeout_s=1)
    assert (caught.value.code, caught.value.failure_class) == (-32602, FailureClass.PROTOCOL)
    with pytest.raises(RpcError, match="without a message"):
        client.call("start", timeout_s=1)


def test_ids_do_not_repeat(connect: Callable[..., Host]) -> None:
    """Each request has the next number."""
    script = Script([frame(response(number, {})) for number in range(1, 6)])
    client = connect(script).client
    for _ in range(5):
        client.call("heartbeat", timeout_s=1)
    assert [message["id"] for message in script.sent] == [1, 2, 3, 4, 5]


def test_many_late_answers_are_not_kept(connect: Callable[..., Host]) -> None:
    """A run of weeks has a heartbeat a second."""
    script = Script([frame(response(number, {"state": "running"})) for number in range(1000, 3000)])
    host = connect(script)
    assert not host.client.wait(lambda: False, 0.5)
    assert len(host.client._answers) <= 64


# The trace.


def test_a_trace_has_every_message_and_no_secret(
    launch: Callable[..., WorkerProcess], connect: Callable[..., Host], tmp_path: Path
) -> None:
    """Both directions, in order, with times; the values of `start` are left out, also short and common ones."""
    worker = launch(step("Raise"), environment={"TOKEN": SECRET, "SHORT": "abc"})
    trace = RpcTrace(str(tmp_path / "trace.jsonl"), Redactor([SECRET]))
    host = connect(PipeTransport(worker.process), trace)
    host.run(worker)
    trace.close()
    trace.close()
    text = (tmp_path / "trace.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert SECRET not in text
    assert lines[0]["direction"] == "received"
    assert lines[0]["message"]["method"] == "hello"
    start = lines[1]["message"]
    assert (lines[1]["direction"], start["method"]) == ("sent", "start")
    assert start["params"]["secrets"] == {"TOKEN": "***", "SHORT": "***"}
    assert [line["ts"] for line in lines] == sorted(line["ts"] for line in lines)
    events = [line["message"]["params"]["seq"] for line in lines if line["message"].get("method") == "event"]
    assert events == host.seen
    assert (tmp_path / "trace.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_trace_of_a_message_that_is_none() -> None:
    """A `start` without secrets does not break the trace."""
    trace = RpcTrace("/dev/null", Redactor([]))
    trace.note("received", {"method": "start"})
    trace.note("sent", request(1, "start", {}))
    trace.close()


def test_pipes_that_are_full_have_a_limit(launch: Callable[..., WorkerProcess]) -> None:
    """A worker that takes nothing is a closed connection after the limit, not a host that hangs."""
    worker = launch()
    transport = PipeTransport(worker.process)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(TransportClosed, match=r"took nothing for 0\.3 s"):
        transport.send(b"x" * (1 << 20), 0.3)
    os.kill(worker.pid, signal.SIGCONT)


def test_pipes_that_were_closed(launch: Callable[..., WorkerProcess]) -> None:
    """Both directions say so, and closing twice is harmless."""
    worker = launch()
    transport = PipeTransport(worker.process)
    transport.close()
    transport.close()
    for attempt in (lambda: transport.send(b"x", 1), lambda: transport.receive(1)):
        with pytest.raises(TransportClosed):
            attempt()
    wait_for(lambda: worker.process.poll() is not None)
