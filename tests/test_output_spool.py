"""Prints of user code: every line is an event, masked wherever a read cuts it, each once whoever goes on reading."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from osiris_core.journal import Journal, read_events
from osiris_core.redaction import Redactor
from remote import output_spool
from remote.output_spool import STREAMS, OutputSpool, PrintedOutput
from tests.worker_process import files_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "correct-horse-battery"


class Spool:
    """What a process prints, with its spool and journal."""

    def __init__(self, folder: Path, secret: str = SECRET) -> None:
        self.printed = PrintedOutput(str(folder))
        self.journal = Journal(folder / "events.jsonl", "s")
        self.redactor = Redactor([secret])
        self.origin = self.journal.origin("engine", self.redactor)

    def spool(self) -> OutputSpool:
        return OutputSpool(self.printed, self.origin, self.redactor)

    def write(self, data: bytes, stream: str = "stdout") -> None:
        os.write(self.printed._fds[STREAMS.index(stream)], data)

    def close(self) -> None:
        self.journal.close()
        for fd in self.printed._fds:
            os.close(fd)

    def lines(self, stream: str = "stdout") -> list[str]:
        return [event["message"] for event in read_events(self.journal.path) if event["stream"] == stream]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path)
    yield spool
    spool.close()


def test_lines_become_events(made: Spool) -> None:
    """Of both streams, with and without an end, empty ones and what is no text."""
    made.write(b"one\n\nthree\r\n\xff\xfe\nno end")
    made.write("chyba ž\n".encode(), "stderr")
    made.spool().drain()
    assert made.lines() == ["one", "", "three", "\ufffd\ufffd", "no end"]
    assert made.lines("stderr") == ["chyba ž"]


def test_nothing_was_printed(made: Spool) -> None:
    """No file is no line."""
    made.spool().drain()
    assert list(read_events(made.journal.path)) == []
    assert made.printed.tail() == ""


def test_who_goes_on_begins_where_the_other_one_stopped(made: Spool) -> None:
    """No line is logged twice or not at all, also when another process printed and logged the first ones."""
    pid = os.fork()
    if pid == 0:
        made.printed.take_over()
        os.write(1, b"one\ntwo\nhal")
        os.write(2, b"chyba\n")
        made.printed.put("stdout", 4)
        os._exit(0)
    os.waitpid(pid, 0)
    first = made.spool()
    first._take(last=False)
    made.write(b"f\nthree\n")
    made.spool().drain()
    assert made.lines() == ["two", "half", "three"]
    assert made.lines("stderr") == ["chyba"]


def test_what_is_printed_has_no_name(made: Spool, tmp_path: Path) -> None:
    """It is not masked: no other process can find it."""
    made.write(SECRET.encode())
    assert files_with(tmp_path, SECRET) == []
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_file_system_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken away at once."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT)
    made = Spool(tmp_path)
    made.write(b"one\n")
    made.spool().drain()
    assert made.lines() == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
    made.close()


@pytest.mark.timeout(30)
def test_a_secret_longer_than_a_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is masked, and does not hold up anything."""
    monkeypatch.setattr(output_spool, "READ_BYTES", 256)
    secret = "".join(random.Random(1).choices("abcdefgh", k=1000))
    made = Spool(tmp_path, secret)
    made.write(f"{'x' * 5000}{secret}{'y' * 9000}".encode())
    made.spool().drain()
    assert "".join(made.lines()) == f"{'x' * 5000}***{'y' * 9000}"
    made.close()


def test_a_secret_is_masked_wherever_it_is_cut(made: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In lines longer than a read, at the end of the file, and across two looks at it."""
    monkeypatch.setattr(output_spool, "READ_BYTES", 256)
    monkeypatch.setattr(output_spool, "MAX_LINE_BYTES", 100)
    spool = made.spool()
    generator = random.Random(5)
    written = b""
    for _ in range(60):
        piece = generator.choice([SECRET.encode(), b"x" * generator.randint(1, 90), SECRET.encode() * 3])
        written += piece
        for cut in (piece[:7], piece[7:]):
            made.write(cut)
            spool._take(last=False)
    spool.drain()
    text = "".join(made.lines())
    assert SECRET not in made.journal.path.read_text()
    assert text == written.decode().replace(SECRET, "***")


def test_long_lines_come_in_pieces(made: Spool) -> None:
    """All of them."""
    made.write(b"y" * 100_000 + b"\n" + b"z\n")
    made.spool().drain()
    assert "".join(made.lines()[:-1]) == "y" * 100_000
    assert max(map(len, made.lines())) <= output_spool.MAX_LINE_BYTES
    assert made.lines()[-1] == "z"


def test_too_much_output_is_left_out(made: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, saying so; the journal does not grow with it."""
    monkeypatch.setattr(output_spool, "MAX_LOGGED_BYTES", 1000)
    made.write(b"0123456789\n" * 5000)
    made.spool().drain()
    lines = made.lines()
    assert 80 <= len(lines) <= 100
    assert "left out" in lines[-1]
    assert lines[:-1] == ["0123456789"] * (len(lines) - 1)


def test_a_followed_stream_is_drained_once(made: Spool) -> None:
    """What the thread took is not taken again, and nothing follows the drain."""
    spool = made.spool()
    spool.start()
    for number in range(200):
        made.write(f"{number}\n".encode())
    spool.drain()
    made.write(b"too late\n")
    assert made.lines() == [str(number) for number in range(200)]


def test_the_tail_is_the_last_lines(made: Spool) -> None:
    """At most twenty, of at most 4 KB, from the end."""
    made.write(b"".join(b"line %d\n" % number for number in range(5000)), "stderr")
    found = made.printed.tail().splitlines()
    assert found == [f"line {number}" for number in range(4980, 5000)]
