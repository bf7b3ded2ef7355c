"""The words of the protocol: what they look like, that the page says the same, and that a recorded run still holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_core.rooms import load
from remote import folders, protocol
from remote.methods import PARAMS
from tests.worker_process import WorkerProcess, step

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "protocol.md"
TRANSCRIPT = Path(__file__).parent / "data" / "protocol_transcript.jsonl"


@given(st.text() | st.characters())
def test_any_text_is_one_line_of_utf_8(text: str) -> None:
    """A message is UTF-8 without RS or LF whatever it holds, also half a surrogate, and JSON again."""
    data = protocol.encode(protocol.request(1, "cancel", {"reason": text}))
    assert b"\n" not in data
    assert b"\x1e" not in data
    assert json.loads(data.decode("utf-8"))["params"]["reason"].encode("utf-16", "surrogatepass") == text.encode(
        "utf-16", "surrogatepass"
    )


def test_the_messages_of_json_rpc() -> None:
    """Requests, errors and notifications have the members that JSON-RPC 2.0 wants, and no others."""
    assert protocol.request(3, "start", {"a": 1}) == {"jsonrpc": "2.0", "id": 3, "method": "start", "params": {"a": 1}}
    assert protocol.error(None, -32700, "bad") == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32700, "message": "bad"},
    }
    assert protocol.error(1, -32602, "bad", "why")["error"]["data"] == "why"
    assert protocol.notification("event", {}) == {"jsonrpc": "2.0", "method": "event", "params": {}}


@pytest.mark.parametrize(
    ("version", "fits"), [("1.0", True), ("1.7", True), ("2.0", False), ("0.9", False), ("", False)]
)
def test_only_another_major_version_is_refused(version: str, fits: bool) -> None:
    """A minor version only adds."""
    assert protocol.is_compatible(version) is fits


# What the page says.


def table(title: str) -> list[list[str]]:
    """The rows of the first table behind a heading of the page, without their heads."""
    text = PAGE.read_text().partition(f"{title}\n")[2]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows is not None, title
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows[0].splitlines()[2:]]


def code(cell: str) -> str:
    return cell.strip("`")


def test_the_page_has_every_error_code() -> None:
    """Its table is the table of the code."""
    rows = {int(code(row[0])): code(row[1]) for row in table("## Errors")}
    assert rows == {int(item): item.name for item in protocol.ErrorCode}


@pytest.mark.parametrize("method", PARAMS)
def test_the_page_has_every_parameter(method: str) -> None:
    """Name, need, default and meaning of each parameter stand there as the models of the code have them."""
    model = PARAMS[method]
    if not model.model_fields:
        text = PAGE.read_text().partition(f"### `{method}`\n")[2].partition("\n#")[0]
        assert "no parameters" in text
        return
    rows = {code(row[0]): row for row in table(f"### `{method}`")}
    assert rows.keys() == model.model_fields.keys()
    for name, field in model.model_fields.items():
        _, kind, default, meaning = rows[name]
        shown = "needed" if field.is_required() else f"`{json.dumps(field.default)}`"
        found = model.model_json_schema()["properties"][name]["type"]
        assert (kind, default, meaning) == (found, shown, field.description), name


def test_the_page_has_every_word() -> None:
    """Methods, notifications, limits, files and packages are all there."""
    text = PAGE.read_text()
    for word in (*PARAMS, *protocol.NOTIFICATIONS, *protocol.WORKER_PACKAGES):
        assert f"`{word}`" in text, word
    assert f"`{protocol.PROTOCOL_VERSION}`" in text
    assert f"{protocol.HEARTBEAT_INTERVAL_S:g} s" in text
    assert f"{protocol.SILENCE_LIMIT_S:g} s" in text
    for name, value in vars(folders).items():
        if name.isupper():
            assert f"`{value}" in text, value


@pytest.mark.parametrize(
    "name",
    ["RPCClient.call", "receive_event", "create_request", "create_response", "create_error", "E2BTransparentProxy"],
)
def test_the_page_maps_the_names_of_the_seed(name: str) -> None:
    """Each has a counterpart that exists."""
    row = next(row for row in table("## Names of the first sketch") if name in row[0])
    for place in re.findall(r"`((?:remote|adapters|osiris_core)\.[\w.]+)`", row[1]):
        module, _, attribute = place.rpartition(".")
        while not (ROOT / f"{module.replace('.', '/')}.py").exists():
            module, _, more = module.rpartition(".")
            attribute = f"{more}.{attribute}"
        found: Any = load(module)
        for part in attribute.split("."):
            found = getattr(found, part)


# The transcript.


def shape(value: Any) -> Any:
    """A value with its types in place of what differs from run to run."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path, [step("Write")], environment={"TOKEN": "s3cr3t-of-the-transcript"})
    yield worker
    worker.close()


def test_a_recorded_run_still_holds(worker: WorkerProcess) -> None:
    """A real worker, sent what was recorded, answers in the recorded shapes, codes and order of events."""
    lines = [json.loads(line) for line in TRANSCRIPT.read_text().splitlines()]
    recorded_events = [line["message"]["params"] for line in lines if line["message"].get("method") == "event"]
    for line in lines:
        message = line["message"]
        if line["direction"] == "to worker":
            if message["method"] == "start" and "package_sha256" in message["params"]:
                message["params"]["package_sha256"] = worker.bundle.package_sha256
                message["params"]["secrets"] = {"TOKEN": "s3cr3t-of-the-transcript"}
            if line.get("when") == "over":
                worker.until("steps.complete")
                worker.summary()
            while message["method"] == "shutdown" and len(worker.events) < len(recorded_events):
                assert worker.take(5)  # what is not sent yet is not sent any more
            worker.send(message)
        elif message.get("method") != "event":
            answer = worker.message()
            assert shape(answer) == shape(message)
            assert answer.get("id") == message.get("id")
            for name in ("code", "message"):
                assert answer.get("error", {}).get(name) == message.get("error", {}).get(name)
    worker.take_all()
    assert worker.ended() == 0
    assert [shape(event) for event in worker.events] == [shape(event) for event in recorded_events]
    assert worker.names() == [event["event"] for event in recorded_events]


def test_the_transcript_uses_every_word() -> None:
    """Every method, notification and JSON-RPC error that a host can meet is in it, and no secret."""
    told = set(protocol.NOTIFICATIONS) - set(protocol.UNASKED)
    text = TRANSCRIPT.read_text()
    methods = {json.loads(line)["message"].get("method") for line in text.splitlines()}
    assert {*PARAMS, *told} <= methods
    assert "s3cr3t" not in text
