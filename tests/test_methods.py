"""The dispatcher: every wrong request has its JSON-RPC code, no answer shows a value, and nothing stops it."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from osiris_core.redaction import Redactor
from remote.methods import PARAMS, Dispatcher, Refused
from remote.protocol import ErrorCode, encode, request

SECRET = "hunter2-and-more"


class Recorder:
    """A worker that writes down what it is asked, and fails as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in PARAMS:
            raise AttributeError(name)

        def method(params: Any) -> dict[str, Any]:
            self.asked.append((name, params))
            if self.error is not None:
                raise self.error
            return {"asked": name}

        return method


@pytest.fixture
def worker() -> Recorder:
    return Recorder()


@pytest.fixture
def dispatch(worker: Recorder) -> Any:
    dispatcher = Dispatcher(worker, Redactor([SECRET]).text)

    def ask(message: Any) -> Any:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        answer = dispatcher(text)
        assert SECRET.encode() not in answer
        return json.loads(answer) if answer else None

    return ask


START = {"session_id": "s", "attempt": 1, "package_sha256": "0" * 64}


def call(method: str, params: Any = None, **more: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, **more}
    return message if params is None else {**message, "params": params}


@pytest.mark.parametrize("method", PARAMS)
def test_each_method_is_reached_with_its_own_parameters(dispatch: Any, worker: Recorder, method: str) -> None:
    """By name, validated, with the defaults that its model says."""
    needed = {"start": START, "replay": {"after_seq": 0}}.get(method, {})
    assert dispatch(call(method, needed)) == {"jsonrpc": "2.0", "id": 1, "result": {"asked": method}}
    assert worker.asked == [(method, PARAMS[method](**needed))]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("start", {}),
        ("start", {**START, "attempt": 0}),
        ("start", {**START, "attempt": "x"}),
        ("start", {**START, "package_sha256": SECRET}),
        ("start", {**START, "secrets": [SECRET]}),
        ("start", {**START, "secrets": {"TOKEN": 7}}),
        ("start", {**START, "secrets": {"TOKEN": {"value": SECRET}}}),
        ("start", {**START, "unattended_timeout_s": 0}),
        ("start", {**START, "unattended_timeout_s": -1}),
        ("start", {**START, "more": SECRET}),
        ("replay", {}),
        ("replay", {"after_seq": -1}),
        ("replay", {"after_seq": None}),
        ("replay", {"after_seq": 1.5}),
        ("cancel", {"reason": 5}),
        ("heartbeat", {"a": 1}),
        ("get_summary", {"a": 1}),
        ("shutdown", {"now": True}),
        ("cancel", ["by position"]),
        ("replay", [0]),
    ],
)
def test_wrong_parameters_are_refused_without_their_values(
    dispatch: Any, worker: Recorder, method: str, params: Any
) -> None:
    """-32602, naming the parameter; the method is not called."""
    answer = dispatch(call(method, params))
    assert answer["error"]["code"] == ErrorCode.INVALID_PARAMS
    assert answer["id"] == 1
    assert answer["error"]["data"]
    assert worker.asked == []


def test_an_unknown_method_is_refused(dispatch: Any) -> None:
    """-32601 with the id of the request."""
    answer = dispatch(call("run", id="seven"))
    assert (answer["error"]["code"], answer["id"]) == (ErrorCode.METHOD_NOT_FOUND, "seven")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"jsonrpc": "2.0", "method"',
        b"9" * 5_000 + b"x",
        b"\0" * 100,
        b"nul",
    ],
)
def test_what_is_no_json_is_a_parse_error(dispatch: Any, text: bytes) -> None:
    """-32700 with no id, for text of any kind."""
    answer = dispatch(text)
    assert (answer["error"]["code"], answer["id"]) == (ErrorCode.PARSE_ERROR, None)


@pytest.mark.parametrize(
    "message",
    [
        [],
        {},
        7,
        "start",
        None,
        [1, 2],
        {"jsonrpc": "1.0", "id": 1, "method": "heartbeat"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": 1, "method": ["heartbeat"]},
        {"jsonrpc": "2.0", "id": {}, "method": "heartbeat"},
        {"jsonrpc": "2.0", "id": 1, "method": "start", "params": SECRET},
        {"jsonrpc": "2.0", "id": 1, "method": "start", "secrets": SECRET},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    ],
)
def test_what_is_no_request_is_invalid(dispatch: Any, worker: Recorder, message: Any) -> None:
    """-32600 with no id; nothing is called."""
    answer = dispatch(message)
    assert (answer["error"]["code"], answer["id"]) == (ErrorCode.INVALID_REQUEST, None)
    assert worker.asked == []


def test_a_notification_is_obeyed_and_not_answered(dispatch: Any, worker: Recorder) -> None:
    """Whatever comes of it: not for a mistake in it either."""
    assert dispatch({"jsonrpc": "2.0", "method": "cancel"}) is None
    assert [name for name, _ in worker.asked] == ["cancel"]
    assert dispatch({"jsonrpc": "2.0", "method": "replay", "params": {}}) is None
    assert dispatch({"jsonrpc": "2.0", "method": "nothing"}) is None
    worker.error = RuntimeError("no")
    assert dispatch({"jsonrpc": "2.0", "method": "heartbeat"}) is None


def test_a_batch_is_answered_as_one(dispatch: Any) -> None:
    """One answer a request, each with its id; none for notifications; nothing at all for notifications alone."""
    answers = dispatch([call("heartbeat"), {"jsonrpc": "2.0", "method": "heartbeat"}, call("run", id=2)])
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["result"] == {"asked": "heartbeat"}
    assert answers[1]["error"]["code"] == ErrorCode.METHOD_NOT_FOUND
    assert dispatch([{"jsonrpc": "2.0", "method": "heartbeat"}]) is None
    assert dispatch([call("heartbeat"), 5])["error"]["code"] == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "error", [RuntimeError(f"no {SECRET}"), KeyError(SECRET), RecursionError(), Refused(ErrorCode.NOT_OVER, SECRET)]
)
def test_what_a_method_raises_comes_out_masked(dispatch: Any, worker: Recorder, error: Exception, caplog: Any) -> None:
    """As an error answer; neither it nor any log has the value, and the next request is answered."""
    worker.error = error
    with caplog.at_level(logging.DEBUG):
        answer = dispatch(call("heartbeat"))
    code = error.code if isinstance(error, Refused) else ErrorCode.INTERNAL_ERROR
    assert answer["error"]["code"] == code
    assert SECRET not in caplog.text
    worker.error = None
    assert dispatch(call("heartbeat"))["result"]


def test_the_library_never_logs_what_was_asked(dispatch: Any, caplog: Any, capfd: Any) -> None:
    """Not at any level, not to any stream."""
    with caplog.at_level(logging.DEBUG, logger="jsonrpcserver"):
        for message in (call("start", SECRET), call("start", {"secrets": {"a": SECRET}}), call(SECRET), SECRET):
            answer = Dispatcher(Recorder(), str)(json.dumps(message).encode())
            assert message == call(SECRET) or SECRET.encode() not in answer
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


def test_any_text_can_be_answered(dispatch: Any, worker: Recorder) -> None:
    """Half a surrogate in an error does not break the answer."""
    worker.error = RuntimeError("half \ud800 and 🎉")
    assert "🎉" in dispatch(call("heartbeat"))["error"]["message"]


def test_a_request_costs_little(dispatch: Any) -> None:
    """Without the library's own validation; the figure is printed, the bound is generous."""
    text = encode(request(1, "heartbeat", {}))
    dispatcher = Dispatcher(Recorder(), str)
    started_s = time.perf_counter()
    for _ in range(1000):
        dispatcher(text)
    each_us = (time.perf_counter() - started_s) * 1000
    print(f"dispatch: {each_us:.0f} us")
    assert each_us < 2000
