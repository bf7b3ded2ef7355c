"""The pure parts of the Docker adapter: its stream, its archive, the way by which secrets reach a command."""

from __future__ import annotations

import io
import itertools
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.docker_engine.archive import owned_archive
from adapters.docker_engine.handshake import RECEIVER, handshake
from adapters.docker_engine.stream import STDERR, STDOUT, StreamBroken, StreamDemultiplexer

if TYPE_CHECKING:
    from pathlib import Path


def encoded(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in pieces)


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_streams_are_told_apart_however_they_are_cut(pieces: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """Every byte comes out, on its stream and in order, wherever the reads ended."""
    data = encoded(pieces)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    demultiplexer = StreamDemultiplexer()
    found = [item for start, end in itertools.pairwise(bounds) for item in demultiplexer.feed(data[start:end])]
    for stream in (STDOUT, STDERR):
        sent = b"".join(piece for name, piece in pieces if name == stream)
        assert b"".join(piece for name, piece in found if name == stream) == sent


def test_a_piece_is_not_held_back() -> None:
    """What came of a long piece is given out before its end."""
    demultiplexer = StreamDemultiplexer()
    assert demultiplexer.feed(encoded([(STDOUT, b"x" * 100)])[:20]) == [(STDOUT, b"x" * 12)]


def test_another_stream_is_noticed() -> None:
    """Plain text, as a container with a terminal gives it, is an error and no garbage."""
    with pytest.raises(StreamBroken):
        StreamDemultiplexer().feed(b"hello, world\r\n")


def test_an_archive_gets_its_owner_and_its_place(tmp_path: Path) -> None:
    """Everything lies below the work directory and belongs to the run's user, with long names, links and bytes kept."""
    archive = tmp_path / "a.tar"
    long_name = "deep/" + "x" * 150 + "/naïve.txt"
    contents = {"code.zip": bytes(range(256)) * 1000, long_name: b"abc", "empty": b""}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as made:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.mode = len(data), 12345, 0o640
            made.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.LNKTYPE, "code.zip"
        made.addfile(link)
    with tarfile.open(fileobj=io.BytesIO(b"".join(owned_archive(archive, 10001, 10002)))) as found:
        members = {member.name: member for member in found}
        for name, data in contents.items():
            file = found.extractfile(f"run/{name}")
            assert file is not None
            assert file.read() == data
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(10001, 10002, "")}
    assert members["run/link"].linkname == "run/code.zip"
    assert members["run/code.zip"].mode == 0o640
    folders = [name for name, member in members.items() if member.isdir()]
    assert set(folders) == {"run", "home", "tmp", "run/deep", "run/deep/" + "x" * 150}


def test_an_archive_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    """Half a file is not sent as a whole one."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as made:
        member = tarfile.TarInfo("big")
        member.size = 5000
        made.addfile(member, io.BytesIO(b"x" * 5000))
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(tarfile.TarError):
        list(owned_archive(archive, 1, 1))


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@given(values=st.lists(texts, min_size=1, max_size=4))
def test_arguments_and_variables_arrive_as_they_are(shell: str, values: list[str]) -> None:
    """Whatever is in a value (quotes, line ends, dollar signs), the command gets it, and nothing is evaluated."""
    script = "import os, sys; sys.stdout.write('\\0'.join([os.environ['A_1'], *sys.argv[1:]]) + '|' + sys.stdin.read())"
    argv = ["/usr/bin/env", "python3", "-c", script, *values]
    sent = handshake(argv, {"A_1": values[0], "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, stdin=True) + b"its input"
    done = subprocess.run([shell, *RECEIVER[1:]], input=sent, capture_output=True, check=True, env={})
    assert done.stdout.decode() == "\0".join([values[0], *values]) + "|its input"


def test_a_name_that_no_shell_can_set_is_refused() -> None:
    """A variable is not silently left out."""
    with pytest.raises(ValueError, match=r"A\.B"):
        handshake(["true"], {"A.B": "1"}, stdin=False)
