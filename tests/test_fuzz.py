"""
Random manifests, and garbage for every reader of what comes from elsewhere: refused in words, or harmless.

OSIRIS_FAULTS=full tries 10,000 of each; without it there are enough to notice a mistake.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osiris_core import AdapterFactory, ExecutionContext, PreparationError, PreparedRun, read_events
from osiris_core.arrival import unpack_stream
from osiris_core.driver import DriverRegistry
from osiris_core.errors import CollectError
from osiris_core.testing.parity_compare import journal_faults
from remote.framing import Frame, FrameDecoder, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = os.environ.get("OSIRIS_FAULTS") == "full"


def examples(quick: int) -> Callable[[Any], Any]:
    """As many as this run wants, with no limit on the time of one."""
    return settings(
        max_examples=10_000 if FULL else quick, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


pytestmark = pytest.mark.timeout(3_000 if FULL else 60)


class Answers:
    """Gives back what it is told to, or fails in some way."""

    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> Any:
        if isinstance(config.get("raises"), str):
            raise ValueError(config["raises"])
        return config.get("gives")


@pytest.fixture(scope="module", autouse=True)
def drivers() -> Iterator[None]:
    DriverRegistry.register("fuzz.answers", Answers)
    yield
    DriverRegistry.unregister("fuzz.answers")


# Manifests.

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just("${NOT_SET}")
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
IDS = st.sampled_from(["a", "b", "c", "d", "e.1", "F-2"])
CONFIGS = st.dictionaries(st.sampled_from(["gives", "raises", "other"]), VALUES, max_size=2)
GOOD_STEP = {
    "driver": st.just("fuzz.answers"),
    "config": CONFIGS,
    "needs": st.lists(IDS, max_size=2),
}
ODD_KEYS = st.sampled_from(["id", "driver", "drivr", "config", "inputs", "needs", "retry", "timeout_s", "", "\0"])


@st.composite
def manifests(draw: Any) -> dict[str, Any]:
    """Most are nearly right: steps in a row, each of which may need earlier ones, and now and then something odd."""
    steps: list[dict[str, Any]] = []
    for step_id in draw(st.lists(IDS, min_size=1, max_size=5, unique=draw(st.integers(0, 9)) > 0)):
        step = {"id": step_id, **{key: draw(value) for key, value in GOOD_STEP.items()}}
        earlier = [other["id"] for other in steps]
        if draw(st.integers(0, 4)):
            step["needs"] = [other for other in step["needs"] if other in earlier]
        if not draw(st.integers(0, 5)):
            step["retry"] = {"attempts": draw(st.integers(0, 3)), "backoff_s": 0, "jitter_s": 0}
        if not draw(st.integers(0, 9)):
            step[draw(ODD_KEYS)] = draw(VALUES)
        steps.append(step)
    found: dict[str, Any] = {"pipeline": "fuzz", "steps": draw(st.permutations(steps))}
    if not draw(st.integers(0, 9)):
        found[draw(st.sampled_from(["steps", "pipeline", "params", "parms"]))] = draw(VALUES)
    return found


def prepared_or_refused(what: Any, there: ExecutionContext) -> PreparedRun | None:
    """It says at least one thing for people, and nothing was made; or it can be written down and read again."""
    folder = Path(there.session_dir)
    with AdapterFactory.create("local") as adapter:
        try:
            prepared = adapter.prepare(what, there)
        except PreparationError as exc:
            prepared, problems = None, exc.problems
        else:
            problems = []
        assert not folder.exists()
        assert all(str(problem).strip() for problem in problems)
        if prepared is None:
            assert problems
            return None
        text = json.dumps(prepared.to_json())
        assert PreparedRun.from_json(json.loads(text)).fingerprint == prepared.fingerprint
        return prepared


@given(what=manifests(), on_failure=st.sampled_from(["stop", "continue"]))
@examples(150)
def test_random_manifests(tmp_path_factory: pytest.TempPathFactory, what: dict[str, Any], on_failure: Any) -> None:
    """Each is refused before anything is made, or runs to a true end: every step told of, no gap, no double."""
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    there = ExecutionContext(session_dir=str(folder / "session"), checkpoint="never", on_failure=on_failure)
    if prepared_or_refused(what, there) is None:
        return
    with AdapterFactory.create("local") as adapter:
        report = adapter.run(what, there)
    assert report.status in ("completed", "failed")
    status = json.loads((folder / "session/status.json").read_text(encoding="utf-8"))
    assert status == report.to_json()
    events = list(read_events(folder / "session/events.jsonl"))
    assert list(journal_faults(events)) == []
    ends = [event["step_id"] for event in events if event["event"] in ("step.complete", "step.error", "step.skipped")]
    assert sorted(ends) == sorted(step["id"] for step in what["steps"])
    completed = all(step["status"] == "completed" for step in report["steps"])
    assert (report.status == "completed") is completed
    assert (report["error"] is None) is completed


YAML = yaml.safe_dump({"pipeline": "p", "steps": [{"id": "a", "driver": "fuzz.answers", "config": {"gives": [1]}}]})
PIECES = st.sampled_from(
    ["&a ", "*a", "!!python/object:os.system ", "? ", "- ", "\t", "\0", "\ufeff", "<<: ", "|", "%Y"]
)


@given(
    cuts=st.lists(st.tuples(st.integers(0, len(YAML)), st.integers(0, 9), PIECES | st.text(max_size=6)), max_size=5),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
@examples(150)
def test_damaged_manifest_files(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int, str]], encoding: str
) -> None:
    """A file with anything in it anywhere: a problem with a place, or a manifest; nothing else is raised."""
    text = YAML
    for where, length, piece in cuts:
        text = text[:where] + piece + text[where + length :]
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    (folder / "m.yaml").write_bytes(text.encode(encoding, "backslashreplace"))
    prepared_or_refused(str(folder / "m.yaml"), ExecutionContext(session_dir=str(folder / "session")))


# What comes over a wire, and what comes home.


@given(
    texts=st.lists(VALUES.map(lambda value: json.dumps(value).encode()), min_size=1, max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
    size=st.integers(1, 40),
)
@examples(200)
def test_damaged_frames(texts: list[bytes], flips: list[tuple[int, int]], size: int) -> None:
    """Bytes that changed on the way: what was not touched comes out all the same."""
    pieces = [bytearray(encode_frame(text)) for text in texts]
    starts = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
    data = bytearray(b"".join(pieces))
    touched = set()
    for where, value in flips:
        where %= len(data)
        if data[where] != value:
            data[where] = value
            touched.add(max(number for number, start in enumerate(starts) if start <= where))
    decoder = FrameDecoder()
    found = [item for start in range(0, len(data), size) for item in decoder.feed(bytes(data[start : start + size]))]
    whole = [item.text for item in found + decoder.finish() if isinstance(item, Frame)]
    last_but_touched = {number + 1 for number in touched}  # a frame that lost its end may take the next one's beginning
    for number, text in enumerate(texts):
        if number not in touched | last_but_touched:
            assert text in whole


def _archive() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in (
            *(("d", tarfile.DIRTYPE, ""), ("d/a", tarfile.REGTYPE, ""), ("d/b", tarfile.SYMTYPE, "a")),
            *(("é" * 80, tarfile.REGTYPE, ""), ("h", tarfile.LNKTYPE, "d/a")),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 700 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return target.getvalue()


ARCHIVE = _archive()
HEADERS = [start for start in range(0, len(ARCHIVE), 512) if ARCHIVE[start + 257 : start + 262] == b"ustar"]
WORDS = st.sampled_from(
    [b"../../out", b"/tmp/osiris-fuzz", b"\xff" * 12, b"7" * 11, b"3", b"6", b"L", b"x", b"S", b"\0"]
)


@given(
    changes=st.lists(
        st.tuples(st.sampled_from(HEADERS), st.sampled_from([0, 100, 124, 156, 157, 345]), WORDS), max_size=3
    ),
    flips=st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), max_size=2),
    cut=st.integers(0, len(ARCHIVE)) | st.just(len(ARCHIVE)),
)
@examples(200)
def test_damaged_archives(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, int, bytes]],
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    """Names, sizes, types and links of anybody's choice, with checksums that fit: nothing outside, no other error."""
    data = bytearray(ARCHIVE)
    for where, value in flips:
        data[where] = value
    for start, at, word in changes:
        data[start + at : start + at + len(word)] = word
    for start in {start for start, _, _ in changes}:
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = f"{sum(data[start : start + 512]):06o}\0 ".encode()
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    home = folder / "deep" / "home"
    with suppress(CollectError):
        unpack_stream([bytes(data[:cut])], home, max_bytes=1 << 20)
    assert [path.name for path in folder.iterdir()] in ([], ["deep"])
    assert not Path("/tmp/osiris-fuzz").exists()
    for path in folder.rglob("*"):
        assert path.is_file() or path.is_dir() or path.is_symlink()
        if path.is_symlink():
            assert folder / "deep" in Path(os.path.normpath(path.parent / path.readlink())).parents
