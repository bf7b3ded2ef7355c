"""docs/events.md is the truth: real runs write exactly the events and fields that its tables name."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import osiris_core.engine
from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parent.parent / "docs" / "events.md"
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
    "number or null": (int, float, type(None)),
    "number or string": (int, float, str),
}


def table(columns: int) -> list[list[str]]:
    """The rows of the table with that many columns."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line[:1] == "|"
    ]
    return [
        [cell.strip("`") if index < 3 else cell for index, cell in enumerate(row)]
        for row in rows
        if len(row) == columns and "`" in "".join(row)
    ]


ENVELOPE = {row[0]: row for row in table(4)}
EVENTS = {(row[0], row[2]): row for row in table(7)}


class Busy:
    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> Any:
        ctx.metric("score", math.nan, part="a")
        ctx.log_metric("speed", 1.5)
        ctx.log("hello")
        ctx.log("careful", level="warning", code=3)
        ctx.progress(1, 2)
        ctx.event("model.saved", size=1)
        (ctx.artifacts_dir / "sub").mkdir()
        (ctx.artifacts_dir / "sub" / "a.bin").write_bytes(b"\0")
        (ctx.artifacts_dir / "link").symlink_to("/etc/hostname")
        time.sleep(config.get("sleep_s", 0))
        return {"df": pa.table({"a": [1, 2]}), "count": 2, "long": "x" * 5000}


class Prints:
    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        print("printed by a step")


class Reader:
    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        assert inputs["df"].num_rows == 2


class Shaky:
    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        ctx.progress(1)
        if ctx.attempt < config["succeeds_at"]:
            raise ConnectionError("not yet")


class Stuck:
    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            time.sleep(0.05)
            if ctx.cancelled and config["stops"]:
                ctx.raise_if_cancelled()
            if ctx.cancelled and config.get("left_at") and time.monotonic() > config["left_at"]:
                return


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What a handful of runs, that end in every way, wrote."""
    drivers = {f"events.{driver.__name__.lower()}": driver for driver in (Busy, Prints, Reader, Shaky, Stuck)}
    for name, driver in drivers.items():
        DriverRegistry.register(name, driver)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(osiris_core.engine, "HEARTBEAT_INTERVAL_S", 0.05)
        patch.setattr(osiris_core.engine, "GRACE_S", 0.3)
        _run(root / "good", [_step("a", "busy", sleep_s=2.3), _step("b", "reader", inputs={"df": "a.df"})])
        _run(root / "good", [_step("a", "busy", sleep_s=2.3), _step("b", "reader", inputs={"df": "a.df"})], resume=True)
        retry = {"attempts": 3, "backoff_s": 0, "jitter_s": 0}
        shaky = [
            _step("a", "shaky", retry=retry, succeeds_at=2),
            _step("b", "shaky", retry=retry, needs=["a"], succeeds_at=9),
        ]
        _run(root / "bad", [*shaky, _step("c", "busy", needs=["b"])], status="failed")
        _run(root / "late", [_step("a", "stuck", timeout_s=0.2, stops=True)], status="timeout")
        left = {"stops": False, "left_at": time.monotonic() + 3}
        _run(root / "left", [_step("a", "stuck", timeout_s=0.2, **left)], status="timeout")
        _run(
            root / "run-late",
            [_step("a", "stuck", stops=True), _step("b", "reader", needs=["a"])],
            status="timeout",
            timeout=0.3,
        )
        _run(root / "elsewhere", [_step("a", "prints")], adapter="process", keep=True)
    yield [event for path in sorted(root.glob("*/events.jsonl")) for event in read_events(path)]
    for name in drivers:
        DriverRegistry.unregister(name)


def _step(step_id: str, driver: str, **fields: Any) -> dict[str, Any]:
    top = {key: fields.pop(key) for key in ("inputs", "needs", "retry", "timeout_s") if key in fields}
    return {"id": step_id, "driver": f"events.{driver}", "config": fields, **top}


def _run(
    session: Path,
    steps: list[dict[str, Any]],
    *,
    status: str = "completed",
    adapter: str = "local",
    keep: bool | None = None,
    **settings: Any,
) -> None:
    context = ExecutionContext(session_dir=str(session), environment={"PW": "hunter2"}, checkpoint="always", **settings)
    with AdapterFactory.create(adapter, **({} if keep is None else {"keep": keep})) as place:
        report = place.run({"steps": steps}, context)
    assert report.status == status, report.error


def test_the_tables_are_read() -> None:
    """The document has both tables, each event field once, with a type that this test knows."""
    assert len(ENVELOPE) == 8
    assert len(EVENTS) == len(table(7)) > 40
    assert {row[1] for row in ENVELOPE.values()} | {row[3] for row in EVENTS.values()} <= set(TYPES)


def test_every_event_is_documented(events: list[dict[str, Any]]) -> None:
    """No run writes an event, a field, a type or an origin that the tables do not name."""
    for event in events:
        for name, value in event.items():
            row = ENVELOPE.get(name)
            kind = row[1] if row else EVENTS[event["event"], name][3]
            expected = TYPES[kind.strip("`")]
            assert isinstance(value, expected), (event["event"], name, value)
            assert isinstance(value, bool) == (kind == "boolean"), (event["event"], name)
            if row is None:
                assert EVENTS[event["event"], name][1] in (event["origin"], "both")


def test_every_documented_field_is_written(events: list[dict[str, Any]]) -> None:
    """Each event of the table is seen, each of its fields at least once, and those marked `always` every time."""
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        seen[event["event"]].append(event)
        assert all(name in event for name, row in ENVELOPE.items() if row[2] == "yes")
    for (name, field), row in EVENTS.items():
        assert seen[name], f"{name} was never written"
        assert any(field in event for event in seen[name]), f"{name}.{field} was never written"
        if row[1] == "both":
            assert {event["origin"] for event in seen[name]} == {"host", "engine"}
        if row[5] == "yes":
            assert all(field in event for event in seen[name]), f"{name}.{field} is missing at times"


def test_the_named_values_are_all_there_are(events: list[dict[str, Any]]) -> None:
    """Statuses, reasons and levels are those that the document lists, and `-` runs show each kind of end."""
    text = DOCUMENT.read_text()
    for event in events:
        for field in ("status", "reason", "level", "origin"):
            if field in event:
                assert f"`{event[field]}`" in text, (event["event"], field, event[field])
        if isinstance(event.get("error"), dict):
            assert list(event["error"]) == re.findall(r"`(\w+)` \(", re.findall(r"`error` objects hold .*", text)[0])
    reasons = {event["reason"] for event in events if event["event"] == "step.skipped"}
    assert reasons == {"reused", "upstream_failed"} or reasons == {"reused", "upstream_failed", "run_stopped"}
    assert {event["status"] for event in events if event["event"] == "run.error"} == {"failed", "timeout"}
    assert {event["abandoned"] for event in events if event["event"] == "step.error"} == {True, False}


def test_attempts_are_numbered_and_framed(events: list[dict[str, Any]]) -> None:
    """Each attempt of each session begins with `run.start`, ends with `run.*`, and counts without a gap."""
    voices: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        voices[event["session_id"], event["attempt"], event["origin"]].append(event)
    assert len(voices) == 14
    for (_, _, origin), said in voices.items():
        assert [event["seq"] for event in said] == list(range(1, len(said) + 1))
        if origin == "host":
            assert [said[0]["event"], said[-1]["event"][:4]] == ["run.start", "run."]
        else:
            assert said[-1]["event"] in ("steps.complete", "steps.error")


def test_no_value_of_a_secret_is_in_any_event(events: list[dict[str, Any]]) -> None:
    """The names of secrets are told, their values are not."""
    assert any(event.get("secret_names") == ["PW"] for event in events)
    assert "hunter2" not in json.dumps(events)
