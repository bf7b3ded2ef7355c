"""The journal: numbered without a gap, whole lines only, strict JSON whatever is put in."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osiris_core.errors import JournalDamaged
from osiris_core.journal import ENVELOPE, Journal, JournalReader, read_events
from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from pathlib import Path


def strict(text: str) -> Any:
    """Parse as a reader that is not Python would: no NaN, no Infinity, no key twice."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(items)) == len(items), items
        return dict(items)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=pairs)


def lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [strict(line) for line in content.decode().split("\n")[:-1]]


def test_the_envelope(tmp_path: Path) -> None:
    """Every event carries version, origin, attempt, number, UTC time, session and name; the step where there is one."""
    before = datetime.now(UTC)
    with Journal(tmp_path / "e", 's"1', 3) as journal:
        journal.origin("host").emit("run.start")
        journal.origin("engine").emit("log", "a.b", message="hello")
    first, second = lines(tmp_path / "e")
    assert list(first) == ["v", "origin", "attempt", "seq", "ts", "session_id", "event"]
    assert (first["v"], first["origin"], first["attempt"], first["seq"]) == (1, "host", 3, 1)
    assert (first["session_id"], first["event"]) == ('s"1', "run.start")
    assert (second["step_id"], second["message"], second["seq"]) == ("a.b", "hello", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["ts"])
    assert abs((datetime.fromisoformat(first["ts"]) - before).total_seconds()) < 60
    assert first["ts"] <= second["ts"]


def test_numbers_have_no_gap_under_threads(tmp_path: Path) -> None:
    """Eight threads of two origins: every line is whole, and each origin counts 1, 2, 3 … in file order."""
    journal = Journal(tmp_path / "e", "s")
    origins = [journal.origin("host"), journal.origin("engine")]

    def work(index: int) -> None:
        for number in range(500):
            origins[index % 2].emit("log", f"step-{index}", number=number, text="x" * number)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    events = lines(tmp_path / "e")
    for name in ("host", "engine"):
        assert [event["seq"] for event in events if event["origin"] == name] == list(range(1, 2001))
    for index in range(8):
        mine = [event["number"] for event in events if event["step_id"] == f"step-{index}"]
        assert mine == list(range(500))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(st.characters()).filter(lambda name: name not in ENVELOPE), JSON, max_size=4))
def test_whatever_is_put_in_comes_out_as_one_line_of_json(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Line separators, NULs, lone surrogates and numbers that JSON lacks: always one line, always strict JSON."""
    path = tmp_path / "e"
    path.unlink(missing_ok=True)
    with Journal(path, "s") as journal:
        origin = journal.origin("engine")
        origin.emit("log", "a", **fields)
        origin.emit("log", "b")
    first, second = read_events(path)
    assert lines(path) == [first, second]
    assert second["seq"] == 2
    plain = json.loads(json.dumps(Redactor().value(fields)), parse_constant=lambda name: name)
    assert {key: value for key, value in first.items() if key not in ENVELOPE} == plain


def test_an_event_has_a_greatest_length(tmp_path: Path) -> None:
    """Longer texts are cut in their middle; what is still too long says only how long it was."""
    with Journal(tmp_path / "e", "s") as journal:
        origin = journal.origin("engine")
        origin.emit("log", "a", message="x" * 70_000_000)
        origin.emit("log", "b", messages=["y" * 1_000_000] * 20)
    cut, left_out = read_events(tmp_path / "e")
    assert len(cut["message"]) < 2_000_000
    assert "characters left out" in cut["message"]
    assert "characters" in left_out["left_out"]


@pytest.mark.parametrize(
    "text", ["\u2028\u2029\x85\r\n\x0b\x0c\x1c\0", "\ud800 lone", "\udcff", "\\\udcff", "x" * 5_000_000]
)
def test_odd_texts_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    """No character splits a line, and a name of bytes that are not UTF-8 can be used again after reading."""
    with Journal(tmp_path / "e", "s") as journal:
        journal.origin("engine").emit("log", text[:100], message=text)
    (event,) = read_events(tmp_path / "e")
    assert event["message"] == text
    assert event["step_id"] == text[:100]


def test_values_that_are_no_json(tmp_path: Path) -> None:
    """Not-a-number, the infinities and objects are written as text, masked like any text."""
    with Journal(tmp_path / "e", "s") as journal:
        journal.origin("engine", Redactor(["hunter2"])).emit(
            "metric", value=math.nan, values=[math.inf, {"x": -math.inf}], error=ValueError("hunter2"), path=b"hunter2"
        )
    (event,) = lines(tmp_path / "e")
    assert (event["value"], event["values"]) == ("NaN", ["Infinity", {"x": "-Infinity"}])
    assert (event["error"], event["path"]) == ("***", "***")


@pytest.mark.parametrize("name", sorted(ENVELOPE))
def test_a_field_cannot_pass_for_the_envelope(tmp_path: Path, name: str) -> None:
    """A field named like one of the envelope is refused, writes nothing, and takes no number."""
    with Journal(tmp_path / "e", "s") as journal:
        origin = journal.origin("engine")
        with pytest.raises(ValueError, match=name):
            origin.emit("log", "a", **{name: 1})
        origin.emit("log", "a")
    (event,) = lines(tmp_path / "e")
    assert event["seq"] == 1


def test_secrets_are_masked_and_names_are_not(tmp_path: Path) -> None:
    """Strings in fields are masked; the step's id and the session's are facts and stay."""
    with Journal(tmp_path / "e", "session-hunter2") as journal:
        journal.origin("engine", Redactor(["hunter2"])).emit("log", "step-hunter2", message="hunter2", password="1")
    (event,) = lines(tmp_path / "e")
    assert (event["session_id"], event["step_id"]) == ("session-hunter2", "step-hunter2")
    assert (event["message"], event["password"]) == ("***", "***")


def test_an_output_may_be_called_token(tmp_path: Path) -> None:
    """What users name is not taken for a secret's field; values inside of an output, and searched ones, still are."""
    outputs = {"token": {"rows": 1}, "secret": {"json": {"password": "1", "x": "hunter2"}}}
    with Journal(tmp_path / "e", "s") as journal:
        journal.origin("engine", Redactor(["hunter2"])).emit(
            "step.complete", "a", outputs=outputs, resume={"secrets": "abc", "inputs": {"token": ["k", "hunter2"]}}
        )
    (event,) = lines(tmp_path / "e")
    assert event["outputs"] == {"token": {"rows": 1}, "secret": {"json": {"password": "***", "x": "***"}}}
    assert event["resume"] == {"secrets": "abc", "inputs": {"token": ["k", "***"]}}


@pytest.mark.parametrize(
    "torn", [b"{", b'{"v":1,"origin":"engine","attempt":1,"seq":3', b"\0" * 5000, b"x" * 200_000, b'{"a":"\xc3']
)
def test_a_torn_line_is_never_shown_and_healed_on_opening(tmp_path: Path, torn: bytes) -> None:
    """A crash in mid-write costs that line only: a reader leaves it out, the next owner cuts it off."""
    path = tmp_path / "e"
    with Journal(path, "s", 1) as journal:
        journal.origin("engine").emit("log")
        journal.origin("host").emit("log")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert len(list(read_events(path))) == 2
    with Journal(path, "s", 2) as journal:
        assert path.read_bytes() == whole
        journal.origin("engine").emit("log")
    assert [(event["attempt"], event["seq"]) for event in lines(path)] == [(1, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("damage", [b"{half of it\n", b"12\n", b"{}\n", b"\xff\xfe\n", b"\n"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    """Whatever stands in place of an event: the file and the line of it, wherever reading began."""
    path = tmp_path / "e"
    with Journal(path, "s", 1) as journal:
        for _ in range(3):
            journal.origin("engine").emit("log")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([whole[0], whole[1], damage, whole[2]]))
    with pytest.raises(JournalDamaged, match=rf"{path}:3: the line is no event"):
        list(read_events(path))
    with pytest.raises(JournalDamaged, match=rf"{path}:3: "):
        JournalReader(path, len(whole[0])).read()


def test_a_file_of_nothing_but_a_torn_line(tmp_path: Path) -> None:
    """A journal whose first line was torn is an empty one."""
    (tmp_path / "e").write_bytes(b'{"v":1')
    assert list(read_events(tmp_path / "e")) == []
    Journal(tmp_path / "e", "s").close()
    assert (tmp_path / "e").read_bytes() == b""


FULL_DISK = """
import resource, sys
from osiris_core.journal import Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
journal = Journal(sys.argv[1], "s")
origin = journal.origin("engine")
refused = 0
for size in [100, 300, 5000, 100, 900, 5, 700, 1, 5000, 1]:
    try:
        origin.emit("log", "a", text="x" * size)
    except OSError:
        refused += 1
print(refused)
"""


def test_a_full_disk_leaves_whole_lines_and_no_gap(tmp_path: Path) -> None:
    """A line that does not fit is not there at all; a shorter one still fits, and takes its number."""
    path = tmp_path / "e"
    run = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    events = lines(path)
    assert int(run.stdout) >= 3
    assert len(events) + int(run.stdout) == 10
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    """The journal is made for its owner alone."""
    Journal(tmp_path / "e", "s").close()
    assert (tmp_path / "e").stat().st_mode & 0o777 == 0o600


def test_closing_twice_is_harmless_and_writing_then_is_not(tmp_path: Path) -> None:
    """After `close` an event raises instead of vanishing."""
    journal = Journal(tmp_path / "e", "s")
    journal.close()
    journal.close()
    journal.sync()
    with pytest.raises(ValueError, match="closed"):
        journal.origin("host").emit("log")


def test_an_event_is_in_the_file_before_emit_returns(tmp_path: Path) -> None:
    """A reader that looks after each `emit` sees each event, also through another process's eyes."""
    reader = JournalReader(tmp_path / "e")
    assert reader.read() == []
    with Journal(tmp_path / "e", "s") as journal:
        origin = journal.origin("engine")
        for number in range(1, 50):
            origin.emit("log", number=number)
            assert [event["number"] for event in reader.read()] == [number]
            assert reader.read() == []
        assert reader.offset == os.path.getsize(tmp_path / "e")


@pytest.mark.parametrize("max_bytes", [1, 7, 200, 1 << 22])
def test_a_reader_in_small_pieces_sees_the_same(tmp_path: Path, max_bytes: int) -> None:
    """However little is read at a time, also less than a line, every event comes once and in order."""
    with Journal(tmp_path / "e", "s") as journal:
        origin = journal.origin("engine")
        for size in (1, 5000, 3, 100_000, 0):
            origin.emit("log", text="x" * size)
    with (tmp_path / "e").open("ab") as file:
        file.write(b'{"torn":' + b" " * 1000)
    reader = JournalReader(tmp_path / "e")
    found = []
    while events := reader.read(max_bytes):
        found += events
    assert [event["seq"] for event in found] == [1, 2, 3, 4, 5]


def test_a_reader_goes_on_from_an_offset(tmp_path: Path) -> None:
    """A cursor that was kept goes on where it was."""
    with Journal(tmp_path / "e", "s") as journal:
        origin = journal.origin("engine")
        origin.emit("log")
        reader = JournalReader(tmp_path / "e")
        reader.read()
        origin.emit("log")
        (event,) = JournalReader(tmp_path / "e", reader.offset).read()
    assert event["seq"] == 2


def test_reading_while_writing(tmp_path: Path) -> None:
    """A reader beside a fast writer never sees half an event, and loses none."""
    journal = Journal(tmp_path / "e", "s")
    origin = journal.origin("engine")
    writer = threading.Thread(target=lambda: [origin.emit("log", text="ž" * (n % 97)) for n in range(5000)])
    writer.start()
    reader = JournalReader(tmp_path / "e")
    seen: list[int] = []
    while writer.is_alive() or len(seen) < 5000:
        seen += [event["seq"] for event in reader.read(1000)]
    writer.join()
    journal.close()
    assert seen == list(range(1, 5001))
