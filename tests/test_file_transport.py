"""The file transport: a worker followed, asked and ended through its folder, whoever was there before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.journal import Journal
from remote import folders
from remote.client import WorkerClient
from remote.control_file import ControlFile
from remote.file_transport import FileTransport
from remote.framing import Frame, FrameDecoder, encode_frame
from remote.pipe_transport import FolderFiles
from remote.protocol import encode, request
from remote.sandbox import TransportClosed
from tests.worker_process import WorkerProcess, step, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A worker's folder without a worker."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "session").mkdir()
    return tmp_path


def transport(folder: Path, *, alive: bool = True) -> FileTransport:
    return FileTransport(FolderFiles(folder), lambda: alive)


def ask(number: int, method: str = "heartbeat") -> bytes:
    return encode_frame(encode(request(number, method, {})))


def texts(data: bytes | None) -> list[Any]:
    return [json.loads(item.text) for item in FrameDecoder().feed(data or b"") if isinstance(item, Frame)]


def control(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / folders.CONTROL_FILE).read_text().splitlines() if line]


def worker_end(folder: Path) -> ControlFile:
    return ControlFile(str(folder / folders.CONTROL_FILE), str(folder / folders.REPLIES_FILE))


def event(seq: int, **more: Any) -> str:
    head = {"v": 1, "origin": "engine", "attempt": 1, "seq": seq, "session_id": "s", "event": "metric", **more}
    return json.dumps(head, separators=(",", ":")) + "\n"


def test_requests_are_numbered_and_read_once(folder: Path) -> None:
    """However they are cut when they are sent."""
    host, worker = transport(folder), worker_end(folder)
    data = ask(1) + ask(2)
    host.send(data[:30], 1)
    host.send(data[30:], 1)
    assert [item["n"] for item in control(folder)] == [1, 2]
    assert [(number, json.loads(text)["id"]) for number, text in worker.receive()] == [(1, 1), (2, 2)]
    assert worker.receive() == []


def test_a_line_that_is_not_whole_is_waited_for(folder: Path) -> None:
    """And one that is no request at all is passed over."""
    worker = worker_end(folder)
    path = folder / folders.CONTROL_FILE
    line = json.dumps({"n": 1, "message": {"id": 1}})
    path.write_text(line[:9])
    assert worker.receive() == []
    path.write_text(
        "".join([line, "\n", "garbage\n", "[]\n", '{"n": "x", "message": 1}\n', '{"n": 1, "message": 2}\n'])
    )
    assert worker.receive() == [(1, b'{"id": 1}')]
    with path.open("a") as file:
        file.write('{"n": 7, "message": {}}\n')
    assert worker.receive() == [(7, b"{}")]


def test_who_comes_later_takes_nobody_elses_answers(folder: Path) -> None:
    """Answers to an earlier host are passed over, also those that come after its end; `hello` is given again."""
    worker = worker_end(folder)
    worker.send(0, b'{"method":"hello"}')
    first = transport(folder)
    first.send(ask(1), 1)
    worker.send(1, b'{"id":1,"result":"first"}')
    first.send(ask(2), 1)
    second = transport(folder)
    second.send(ask(1), 1)
    worker.send(2, b'{"id":2,"result":"late"}')
    worker.send(3, b'{"id":1,"result":"second"}')
    assert [item["n"] for item in control(folder)] == [1, 2, 3]
    found = texts(second.receive(0)) + texts(second.receive(0))
    assert found == [{"method": "hello"}, {"id": 1, "result": "second"}]


def test_a_host_that_died_in_the_middle_of_a_line(folder: Path) -> None:
    """Its half line is not the head of the next host's."""
    (folder / folders.CONTROL_FILE).write_text('{"n": 1, "message": {}}\n{"n": 2, "mess')
    transport(folder).send(ask(1), 1)
    assert [number for number, _ in worker_end(folder).receive()] == [1, 2]


def test_events_come_before_the_answers_that_know_of_them(folder: Path) -> None:
    """In their order, the engine's alone."""
    worker = worker_end(folder)
    host = transport(folder)
    (folder / "session/events.jsonl").write_text(event(1) + event(1, origin="host") + event(2) + '{"v":1,"origin"')
    worker.send(1, b'{"id":1,"result":{"last_seq":2}}')
    found = texts(host.receive(0))
    assert [item["params"]["seq"] for item in found[:2]] == [1, 2]
    assert found[2]["id"] == 1
    assert host.receive(0) is None


def test_lines_and_files_of_any_length(folder: Path) -> None:
    """An event of many megabytes comes through, and so do answers behind megabytes of others."""
    host = transport(folder)
    (folder / "session/events.jsonl").write_text(event(1, name="x" * (9 << 20)) + event(2))
    found: list[Any] = []
    data = b""
    while piece := host.receive(0):
        data += piece
    found = texts(data)
    assert [item["params"]["seq"] for item in found] == [1, 2]
    worker = worker_end(folder)
    worker.send(0, b'{"method":"hello"}')
    for number in range(1, 4):
        worker.send(number, encode({"id": 1, "result": "y" * (2 << 20)}))
    (folder / folders.CONTROL_FILE).write_text("".join(f'{{"n": {n}, "message": {{}}}}\n' for n in range(1, 4)))
    later = transport(folder)
    later.send(ask(1), 1)
    worker.send(4, b'{"id":1,"result":"mine"}')
    data = b""
    while piece := later.receive(0.5):
        data += piece
    assert [item for item in texts(data) if item.get("method") != "event"] == [
        {"method": "hello"}, {"id": 1, "result": "mine"},
    ]  # fmt: skip


def test_a_worker_that_ended(folder: Path) -> None:
    """What it left is given first; then the connection is closed."""
    (folder / "session/events.jsonl").write_text(event(1))
    host = transport(folder, alive=False)
    assert texts(host.receive(5))[0]["params"]["seq"] == 1
    with pytest.raises(TransportClosed):
        host.receive(5)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Sending says so; nothing is there to be read."""
    host = transport(tmp_path / "nowhere")
    with pytest.raises(TransportClosed, match="cannot be written"):
        host.send(ask(1), 1)
    assert host.receive(0) is None
    assert host.stderr_tail() == ""


def test_a_disk_that_takes_no_answer(folder: Path) -> None:
    """The worker lives on."""
    (folder / folders.REPLIES_FILE).mkdir()
    worker_end(folder).send(1, b"{}")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path, [step("Sleep", "a", config={"seconds": 2}), step("Write", "b", needs=["a"])])
    yield worker
    worker.close()


def test_host_after_host_follows_a_real_worker(worker: WorkerProcess, tmp_path: Path) -> None:
    """Each sees every event once; the last one gets the summary and ends the worker."""
    worker.start()
    worker.hang_up()
    for number in range(3):
        host = FileTransport(FolderFiles(worker.folder), lambda: worker.process.poll() is None)
        seen: list[int] = []
        with Journal(tmp_path / f"host-{number}.jsonl", "session") as journal:
            copies = journal.copies("engine")
            client = WorkerClient(host, copies, on_event=lambda event, seen=seen: seen.append(event["seq"]))  # type: ignore[misc]
            assert client.hello(5)["pid"] == worker.pid
            assert client.call("heartbeat")["state"] == "running" or number
            if number == 2:
                wait_for(lambda client=client: client.call("heartbeat")["state"] == "over")  # type: ignore[misc]
                last = client.call("get_summary")["last_seq"]
                assert client.wait(lambda copies=copies, last=last: copies.last_seq == last, 10)  # type: ignore[misc]
                assert client.call("shutdown") == {}
        assert seen == list(range(1, len(seen) + 1))
    assert worker.ended() == 0
    assert (tmp_path / "host-2.jsonl").read_bytes() == (worker.folder / "session/events.jsonl").read_bytes()
