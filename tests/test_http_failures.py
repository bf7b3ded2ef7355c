"""What goes wrong on the wire, really: each failure with its class, what is asked again, an end at once on cancel."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from osiris_core import DriverRegistry, StepError
from osiris_core.cancellation import CancelToken
from osiris_core.errors import FailureClass, RunCancelled, RunTimeout
from osiris_core.testing import run_driver
from tests.api_server import ApiServer, Seen, Wire, api_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("httpx")
HTTP = DriverRegistry.get("http.extractor")
LOST, USER, PROTOCOL = FailureClass.INFRA_LOST, FailureClass.USER_ERROR, FailureClass.PROTOCOL


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def read(folder: Path, config: dict[str, Any], **more: Any) -> Any:
    own = Path(tempfile.mkdtemp(dir=folder))
    return run_driver(HTTP, {"retry_delay_s": 0.01, **config}, own, **more)


def failure(folder: Path, config: dict[str, Any], **more: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        read(folder, config, **more)
    return caught.value


def in_turn(*routes: Any) -> Any:
    """The first route the first time, the next the next time, the last from then on."""
    left = list(routes)
    return lambda seen, wire: (left.pop(0) if len(left) > 1 else left[0])(seen, wire)


def good(seen: Seen, wire: Wire) -> None:
    wire.json([{"a": 1}])


def status(code: int, **headers: str) -> Any:
    return lambda seen, wire: wire.json({"message": "no", "token": "shown-never"}, code, **headers)


def reset_in_body(seen: Seen, wire: Wire) -> None:
    wire.head(200, {"Content-Length": "1000"})
    wire.raw(b'[{"a": 1}, ')
    time.sleep(0.02)
    wire.reset()


def reset_before_answer(seen: Seen, wire: Wire) -> None:
    wire.reset()


def close_before_answer(seen: Seen, wire: Wire) -> None:
    wire.close()


def short_body(seen: Seen, wire: Wire) -> None:
    wire.head(200, {"Content-Length": "100"})
    wire.raw(b'[{"a": 1}]')
    wire.close()


def broken_chunk(seen: Seen, wire: Wire) -> None:
    wire.head(200, {"Transfer-Encoding": "chunked"})
    wire.raw(b'a\r\n[{"a": 1},\r\n')
    wire.close()


@pytest.mark.parametrize(
    "fault",
    [
        reset_in_body,
        reset_before_answer,
        close_before_answer,
        short_body,
        broken_chunk,
        status(429, Retry_After="0"),
        status(500),
        status(502),
        status(503),
        status(504),
        status(408),
    ],
)
def test_a_fault_that_passes_is_asked_again(server: ApiServer, tmp_path: Path, fault: Any) -> None:
    """Once broken and once whole is one result, told as a warning; always broken is infra_lost after all tries."""
    done = read(tmp_path, {"url": server.on("/once", in_turn(fault, good))})
    assert done.outputs["df"].to_pylist() == [{"a": 1}]
    warnings = [event["message"] for event in done.events if event["event"] == "log"]
    assert len(warnings) == 1
    assert "try 2 in" in warnings[0]
    requests = {event["name"]: event["value"] for event in done.events if event["event"] == "metric"}
    assert requests["http_requests"] == 2
    server.seen.clear()
    error = failure(tmp_path, {"url": server.on("/always", fault), "max_retries": 2})
    assert error.failure_class is LOST
    assert len(server.seen) == 3
    assert "shown-never" not in str(error)


@pytest.mark.parametrize(
    ("code", "failure_class", "says"),
    [
        (400, USER, "check the request"),
        (401, USER, "check the credentials"),
        (403, USER, "may not do that"),
        (404, USER, "check base_url and url"),
        (410, USER, "410 Gone"),
        (422, USER, "check params and body"),
        (501, LOST, "501 Not Implemented"),
        (599, LOST, "answered 599"),
        (300, USER, "300 Multiple Choices"),
    ],
)
def test_a_status_that_stays_is_asked_once(
    server: ApiServer, tmp_path: Path, code: int, failure_class: FailureClass, says: str
) -> None:
    """With its class and remedy, the address, and what the server says, masked by its fields."""
    error = failure(tmp_path, {"url": server.on("/x", status(code)), "params": {"api_key": "in-the-query", "page": 7}})
    assert error.failure_class is failure_class
    assert says in str(error)
    assert "/x?api_key=***&page=7" in str(error)
    assert '{"message": "no", "token": "***"}' in str(error)
    assert "in-the-query" not in str(error)
    assert error.details["status"] == code
    assert len(server.seen) == 1


def test_a_secret_in_any_part_of_an_address(server: ApiServer, tmp_path: Path) -> None:
    """In the path, a parameter or its name, encoded as it must be: the error has none of it."""
    secret = "p:w&x/y*z, ž"
    params = {"note": f"a{secret}b", secret: "1"}
    url = server.url + "/" + quote(secret, safe="")
    error = failure(tmp_path, {"url": url, "params": params}, secrets=(secret,))
    assert "/***?note=a***b&***=1: the server answered 404" in str(error)


def test_retry_after_is_waited_for(server: ApiServer, tmp_path: Path) -> None:
    """The pause is what the server asks for, in seconds or as a date; one longer than allowed is not waited for."""
    started_s = time.monotonic()
    read(tmp_path, {"url": server.on("/x", in_turn(status(429, Retry_After="1"), good))})
    assert 1.0 <= time.monotonic() - started_s < 15
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    started_s = time.monotonic()
    read(tmp_path, {"url": server.on("/x", in_turn(status(503, Retry_After=soon), good))})
    assert 0.8 <= time.monotonic() - started_s < 15
    server.seen.clear()
    error = failure(tmp_path, {"url": server.on("/x", status(429, Retry_After="900"))})
    assert error.failure_class is LOST
    assert "429 Too Many Requests and asks to wait 900 s" in str(error)
    assert len(server.seen) == 1


def test_what_may_have_been_done_is_not_asked_again(server: ApiServer, tmp_path: Path) -> None:
    """A POST whose answer was lost is asked once, unless it is said to be idempotent; one not begun is asked again."""
    post = {"method": "POST", "body": {"q": 1}, "retry_delay_s": 0.01}
    failure(tmp_path, {"url": server.on("/lost", reset_before_answer), **post})
    failure(tmp_path, {"url": server.on("/500", status(500)), **post})
    assert len(server.seen) == 2
    read(tmp_path, {"url": server.on("/429", in_turn(status(429), good)), **post})
    assert len(server.seen) == 4
    read(tmp_path, {"url": server.on("/say", in_turn(reset_before_answer, good)), **post, "idempotent": True})
    assert len(server.seen) == 6
    assert server.seen[-1].json == {"q": 1}
    assert server.seen[-1].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>502 bad gateway</html>", "is no JSON: Expecting value at character 0; it begins: <html>502"),
        (b"", "is no JSON"),
        (b'[{"a": NaN}]', "holds NaN"),
        (b'[{"a": 1e999}]', "1e999 does not fit a float; decimals: true"),
        (b'[{"a": "\xff"}]', "no text in UTF-8 at byte 8"),
        (b'[{"a": "\\ud800"}]', "column 'a': a text in it is broken"),
        (b"[" * 100_000, "nested too deeply"),
        (b'[{"a": ' + b"9" * 5000 + b"}]", "limit"),
    ],
)
def test_what_is_no_json(server: ApiServer, tmp_path: Path, body: bytes, says: str) -> None:
    """An answer that cannot be read is a protocol error that shows what came, and is not asked again."""
    error = failure(tmp_path, {"url": server.on("/x", lambda seen, wire: wire.answer(body))})
    assert says in str(error)
    assert error.failure_class is (USER if "column" in says else PROTOCOL)
    assert len(server.seen) == 1


def test_a_wrong_content_length_is_no_short_result(server: ApiServer, tmp_path: Path) -> None:
    """A length that is too small cuts the JSON: an error, and never fewer records."""

    def cut(seen: Seen, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "10"})
        wire.raw(b'[{"a": 1},{"a": 2}]')
        wire.close()

    assert failure(tmp_path, {"url": server.on("/x", cut)}).failure_class is PROTOCOL


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 200 + b"\r\n\r\n"])
def test_another_protocol(server: ApiServer, tmp_path: Path, answer: bytes) -> None:
    """What speaks no HTTP is a protocol error."""

    def speak(seen: Seen, wire: Wire) -> None:
        wire.raw(answer)
        wire.close()

    error = failure(tmp_path, {"url": server.on("/x", speak)})
    assert error.failure_class is PROTOCOL, str(error)
    assert "does not speak HTTP as it should" in str(error)


def test_headers_without_end(server: ApiServer, tmp_path: Path) -> None:
    """A server that sends headers for ever is cut off."""

    def endless(seen: Seen, wire: Wire) -> None:
        wire.raw(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            wire.raw(f"X-{number}: {'y' * 1000}\r\n".encode())

    assert failure(tmp_path, {"url": server.on("/x", endless), "max_retries": 0}).failure_class is PROTOCOL


@pytest.mark.parametrize("packer", ["gzip", "deflate"])
def test_a_packed_bomb_is_never_unpacked(server: ApiServer, tmp_path: Path, packer: str) -> None:
    """256 MiB of nothing in 256 KiB stop at the limit; within the limit packed answers are read, in pieces too."""
    pack = gzip.compress if packer == "gzip" else zlib.compress
    bomb = pack(b" " * (256 << 20))
    assert len(bomb) < 1 << 19
    url = server.on("/bomb", lambda seen, wire: wire.answer(bomb, Content_Encoding=packer))
    before = _peak_mb()
    error = failure(tmp_path, {"url": url, "max_response_bytes": 1 << 20})
    assert "larger than 1048576 bytes" in str(error)
    assert error.failure_class is USER
    assert _peak_mb() - before < 30
    body = pack(json.dumps([{"a": number} for number in range(1000)]).encode())
    url = server.on("/good", lambda seen, wire: wire.answer(body, Content_Encoding=packer))
    assert read(tmp_path, {"url": url}).outputs["df"].num_rows == 1000
    cut = server.on("/cut", lambda seen, wire: wire.answer(body[:-20], Content_Encoding=packer))
    assert "ends in the middle" in str(failure(tmp_path, {"url": cut}))
    other = server.on("/br", lambda seen, wire: wire.answer(body, Content_Encoding="br"))
    assert "was not asked for" in str(failure(tmp_path, {"url": other}))


def _peak_mb() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def test_an_answer_that_is_too_large(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that never ends is cut off at the limit, and nothing of its reading is left to complain."""

    def endless(seen: Seen, wire: Wire) -> None:
        wire.head(200, {"Transfer-Encoding": "chunked"})
        while True:
            wire.raw(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

    error = failure(tmp_path, {"url": server.on("/x", endless), "max_response_bytes": 1 << 20})
    assert error.failure_class is USER
    del error
    gc.collect()
    assert "destroyed" not in caplog.text + capfd.readouterr().err


def drip(seen: Seen, wire: Wire) -> None:
    """Never silent for long, and never done."""
    wire.head(200, {"Content-Length": "100000"})
    while True:
        wire.raw(b" ")
        time.sleep(0.05)


def silent(seen: Seen, wire: Wire) -> None:
    time.sleep(30)


@pytest.mark.parametrize(
    ("fault", "limits", "says"),
    [
        (silent, {"read_timeout_s": 0.2}, "was silent for 0.2 s"),
        (drip, {"request_timeout_s": 0.4}, "no whole answer within 0.4 s"),
    ],
)
def test_slow_servers(server: ApiServer, tmp_path: Path, fault: Any, limits: dict[str, Any], says: str) -> None:
    """Silence has its limit, and so has a drip that is never silent."""
    started_s = time.monotonic()
    error = failure(tmp_path, {"url": server.on("/x", fault), "max_retries": 1, **limits})
    assert says in str(error)
    assert error.failure_class is LOST
    assert len(server.seen) == 2
    assert time.monotonic() - started_s < 10


def test_nobody_there(tmp_path: Path) -> None:
    """A closed port is infra_lost after all tries; a name that does not exist is the user's at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = failure(tmp_path, {"url": f"http://127.0.0.1:{taken.getsockname()[1]}/x", "max_retries": 1})
    assert "nobody answers at 127.0.0.1:" in str(error)
    assert error.failure_class is LOST


def test_a_full_backlog(tmp_path: Path) -> None:
    """A connection that is never taken ends after connect_timeout_s."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        clients = []
        for _ in range(4):  # the kernel takes a few by itself
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            clients.append(client)
        config = {"url": f"http://127.0.0.1:{address[1]}/x", "max_retries": 0, "connect_timeout_s": 0.3}
        error = failure(tmp_path, {**config, "read_timeout_s": 0.3})
        assert error.failure_class is LOST
        for client in clients:
            client.close()


def half_headers(seen: Seen, wire: Wire) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\nContent-")
    time.sleep(30)


@pytest.mark.parametrize("fault", [silent, drip, half_headers, status(503, Retry_After="60")])
@pytest.mark.parametrize("reason", [FailureClass.CANCELLED, FailureClass.TIMEOUT])
def test_a_cancel_ends_the_request_at_once(server: ApiServer, tmp_path: Path, fault: Any, reason: FailureClass) -> None:
    """Wherever it waits, for headers, for a body, between two tries: the step is over, and the server sees it go."""
    token = CancelToken()
    caught: list[Exception] = []

    def work() -> None:
        try:
            read(tmp_path, {"url": server.on("/x", fault)}, token=token)
        except Exception as exc:  # noqa: BLE001 - looked at below
            caught.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    deadline_s = time.monotonic() + 10
    while not server.seen and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.1)
    started_s = time.monotonic()
    token.cancel(reason)
    thread.join(5)
    assert time.monotonic() - started_s < 2, "long before the grace is over"
    assert type(caught[0]) is (RunTimeout if reason is FailureClass.TIMEOUT else RunCancelled)


def test_a_cancel_before_the_first_request(server: ApiServer, tmp_path: Path) -> None:
    """Nothing is asked any more."""
    token = CancelToken()
    token.cancel(FailureClass.CANCELLED)
    with pytest.raises(RunCancelled):
        read(tmp_path, {"url": server.on("/x", good)}, token=token)
    assert server.seen == []


def test_a_cancel_while_a_connection_is_made(tmp_path: Path) -> None:
    """An address that takes no connection holds nobody up."""
    token = CancelToken()
    threading.Timer(0.2, token.cancel, [FailureClass.CANCELLED]).start()
    started_s = time.monotonic()
    with pytest.raises((RunCancelled, StepError)):
        # Of the net for documentation: routed nowhere, or refused at once.
        read(tmp_path, {"url": "http://192.0.2.1:9/x", "connect_timeout_s": 30, "max_retries": 0}, token=token)
    assert time.monotonic() - started_s < 10


def moved(to: str, code: int = 302) -> Any:
    return lambda seen, wire: wire.json({}, code, Location=to)


def test_redirects(server: ApiServer, tmp_path: Path) -> None:
    """Within a server they are followed; in a circle, or too many, they are an error and asked once."""
    server.on("/good", good)
    assert read(tmp_path, {"url": server.on("/a", moved("good"))}).outputs["df"].num_rows == 1
    server.on("/c1", moved("/c2"))
    error = failure(tmp_path, {"url": server.on("/c2", moved("/c1"))})
    assert "round in a circle" in str(error)
    assert error.failure_class is USER
    server.on("/n", lambda seen, wire: wire.json({}, 307, Location=f"/n?{len(server.seen)}"))
    server.seen.clear()
    assert "more than 5 redirects" in str(failure(tmp_path, {"url": server.url + "/n"}))
    assert len(server.seen) == 6
    assert "302 Found" in str(failure(tmp_path, {"url": server.on("/nowhere", status(302))}))
    assert "no address of HTTP" in str(failure(tmp_path, {"url": server.on("/file", moved("file:///etc/passwd"))}))


def test_a_redirect_keeps_the_method_that_it_says(server: ApiServer, tmp_path: Path) -> None:
    """307 sends the body again, 303 asks with GET and without it."""
    post = {"method": "POST", "body": {"q": 1}}
    server.on("/good", good)
    read(tmp_path, {"url": server.on("/307", moved("/good", 307)), **post})
    assert (server.seen[-1].method, server.seen[-1].json) == ("POST", {"q": 1})
    read(tmp_path, {"url": server.on("/303", moved("/good", 303)), **post})
    assert (server.seen[-1].method, server.seen[-1].body) == ("GET", b"")


@pytest.mark.parametrize(
    "auth",
    [
        {"auth_type": "bearer", "auth_token": "hunter2hunter2"},
        {"auth_type": "basic", "auth_username": "u", "auth_token": "hunter2hunter2"},
        {"auth_type": "api_key", "auth_token": "hunter2hunter2"},
        {"auth_type": "api_key", "auth_token": "hunter2hunter2", "auth_query_name": "k"},
        {"headers": {"X-Tenant": "t"}},
    ],
)
def test_credentials_go_to_no_other_server(server: ApiServer, tmp_path: Path, auth: dict[str, Any]) -> None:
    """A redirect, link or address in a body that leads elsewhere is refused, naming where; nothing is sent there."""
    with api_server() as other:
        other.on("/x", good)
        connection = {"base_url": server.url, **auth}
        server.on("/moved", moved(other.url + "/x", 307))
        server.on("/link", lambda seen, wire: wire.json([{"a": 1}], Link=f'<{other.url}/x>; rel="next"'))
        server.on("/body", lambda seen, wire: wire.json({"items": [{"a": 1}], "next": other.url + "/x"}))
        for config in (
            {"url": "moved"},
            {"url": "link", "pagination": {"type": "link"}},
            {"url": "body", "data_path": "items", "pagination": {"type": "next_url", "path": "next"}},
            {"url": other.url + "/x"},
        ):
            error = failure(tmp_path, {"connection": connection, **config})
            assert f"leads to another server, {other.url}/x" in str(error)
            assert error.failure_class is USER
            assert "hunter2" not in str(error)
        assert other.seen == []
        # Without credentials there is nothing to lose.
        assert read(tmp_path, {"url": server.url + "/moved"}).outputs["df"].num_rows == 1
