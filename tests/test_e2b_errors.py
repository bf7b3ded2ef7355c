"""Every way in which E2B says no, or says nothing: our error, our class, and what to do; nothing of the SDK's leaks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

import e2b
import httpx
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from adapters.e2b_cloud import errors, lifetime
from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.errors import RunCancelled
from osiris_core.redaction import Redactor
from remote.sandbox import SandboxError
from tests.worker_process import files_with

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer

SQL = {"pipeline": "p", "steps": [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS x"}}]}
KEY = "e2b_00112233445566778899"


def raised(error: Exception) -> SandboxError:
    """What becomes of an exception of the SDK's."""
    with pytest.raises(SandboxError) as caught, errors.translate("it failed", Redactor([KEY]), "https://api.x"):
        raise error
    return caught.value


def with_status(status: int, message: str) -> e2b.SandboxException:
    return e2b.SandboxException(f"{status}: {message}", status_code=status)


@pytest.mark.parametrize(
    ("error", "kind", "failure_class", "words"),
    [
        (e2b.AuthenticationException(f"401: bad key {KEY}"), SandboxError, "user_error", "refused the API key"),
        (e2b.RateLimitException("429: too many"), errors.NotNow, "resource_denied", "fewer runs at once"),
        (
            e2b.RateLimitException("429: maximum number of concurrent E2B sandboxes (20)"),
            errors.NotNow,
            "resource_denied",
            "osiris runs gc",
        ),
        (e2b.ServiceBusyException("503: busy"), errors.NotNow, "resource_denied", "no room"),
        (e2b.SandboxNotRunningException("gone"), errors.SandboxGone, "infra_lost", "the sandbox is gone"),
        (e2b.SandboxNotFoundException("gone"), errors.SandboxGone, "infra_lost", "the sandbox is gone"),
        (e2b.SandboxUnreachableException("where?"), errors.E2BUnreachable, "infra_lost", "did not answer"),
        (e2b.TimeoutException("late"), errors.E2BUnreachable, "infra_lost", "did not answer"),
        (e2b.NotEnoughSpaceException("full"), SandboxError, "resource_denied", "disk is full"),
        (e2b.FileNotFoundException("no file"), errors.NothingThere, "infra_lost", "no file"),
        (e2b.NotFoundException("no pid"), errors.NothingThere, "infra_lost", "no pid"),
        (e2b.TemplateException("old envd"), SandboxError, "user_error", "osiris adapters setup e2b"),
        (e2b.GuestUnresponsiveException("hm"), errors.SandboxGone, "infra_lost", "cannot be woken up"),
        (e2b.InvalidArgumentException("cwd '/x' does not exist"), SandboxError, "user_error", "cwd '/x'"),
        (
            with_status(400, "Timeout cannot be greater than 1 hours"),
            SandboxError,
            "resource_denied",
            "max_lifetime_s",
        ),
        (with_status(400, "invalid CIDR in denyOut"), SandboxError, "user_error", "network.allow_out"),
        (with_status(404, "template 'x' not found"), errors.TemplateUnknown, "user_error", "set template"),
        (with_status(404, "Template 'X' not found"), errors.TemplateUnknown, "user_error", "set template"),
        (
            with_status(404, "tag 'default' does not exist for template 'x'"),
            errors.TemplateUnknown,
            "user_error",
            "set template",
        ),
        (with_status(404, "page not found"), SandboxError, "protocol", "too old"),
        (with_status(520, "a timeout occurred"), errors.AnswerLost, "infra_lost", "status.e2b.dev"),
        (with_status(403, "no"), SandboxError, "user_error", "the account may not do this"),
        (with_status(402, "payment required"), SandboxError, "resource_denied", "billing"),
        (with_status(409, "idempotency_in_progress"), errors.AnswerLost, "infra_lost", "run it again"),
        (with_status(500, "oops"), errors.AnswerLost, "infra_lost", "status.e2b.dev"),
        (with_status(504, "upstream request timeout"), errors.AnswerLost, "infra_lost", "status.e2b.dev"),
        (e2b.SandboxException("Code.INTERNAL: error writing to stdin"), SandboxError, "infra_lost", "stdin"),
        (httpx.ConnectError("refused"), errors.E2BUnreachable, "infra_lost", "at https://api.x"),
        (httpx.ConnectError("proxy: 407 authentication"), errors.E2BUnreachable, "infra_lost", "HTTPS_PROXY"),
        (httpx.RemoteProtocolError("cut"), errors.AnswerLost, "infra_lost", "connection to E2B broke"),
        (httpx.ReadTimeout("late"), errors.AnswerLost, "infra_lost", "connection to E2B broke"),
        (ConnectError(Code.UNAVAILABLE, "cut"), errors.AnswerLost, "infra_lost", "connection to E2B broke"),
        (TimeoutError(), errors.AnswerLost, "infra_lost", "connection to E2B broke"),
        (json.JSONDecodeError("x", "<html>", 0), SandboxError, "protocol", "not E2B's API"),
        (KeyError("sandboxID"), SandboxError, "protocol", "not E2B's API"),
        (TypeError("x"), SandboxError, "protocol", "not E2B's API"),
        (Exception("Command ended without an end event"), errors.AnswerLost, "infra_lost", "end event"),
    ],
)
def test_what_the_sdk_raises_becomes_ours(error: Exception, kind: type, failure_class: str, words: str) -> None:
    """With its class, its remedy, no cause of the SDK's, and no key."""
    made = raised(error)
    assert type(made) is kind
    assert made.failure_class == failure_class
    assert words in str(made)
    assert str(made).startswith("it failed: ")
    assert made.__cause__ is None
    assert made.__suppress_context__
    assert KEY not in str(made)


def test_our_own_pass() -> None:
    """An error that is ours already is not told twice, and a cancel stays one."""
    with pytest.raises(RunCancelled), errors.translate("it failed", Redactor()):
        raise RunCancelled("enough")
    with pytest.raises(errors.SandboxGone, match=r"^gone$"), errors.translate("it failed", Redactor()):
        raise errors.SandboxGone("gone")


def test_a_long_page_is_cut_short() -> None:
    """A proxy's whole error page is not repeated."""
    assert len(str(raised(Exception("<html>" * 1000)))) < 600


# What a run says.


def run(server: E2BServer, tmp_path: Path, **settings: Any) -> dict[str, Any]:
    """The error of a run against the server; no sandbox is left of it."""
    far = {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": server.sandbox_url}
    session = tmp_path / "s"
    with AdapterFactory.create("e2b", **{**far, "template": "osiris-ready", **settings}) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(session)))
    assert report.status == "failed"
    assert report.error is not None
    assert all(sandbox.state == "gone" for sandbox in server.sandboxes.values())
    assert server.api_key not in (session / "status.json").read_text() + (session / "events.jsonl").read_text()
    assert report["e2b"]["requests"]["create"] >= 1
    return dict(report.error)


@pytest.mark.parametrize(
    ("answer", "failure_class", "words"),
    [
        ((401, {"code": 401, "message": "Invalid API key"}), "user_error", "refused the API key"),
        ((401, "<html>Proxy login</html>"), "protocol", "is not E2B's API"),
        ((404, "404 page not found"), "protocol", "too old for this SDK"),
        ((201, {"sandboxID": "x"}), "protocol", "too old for this SDK"),
        ((201, "<html>welcome</html>"), "protocol", "is not E2B's API"),
        ((403, {"code": 403, "message": "Your team is blocked"}), "user_error", "the account may not do this"),
        ((500, {"code": 500, "message": "no node"}), "infra_lost", "E2B failed"),
        ((429, {"code": 429, "message": "too many"}), "resource_denied", "asked too often"),
        ((503, {"code": 503, "message": "no capacity"}), "resource_denied", "no room"),
    ],
)
def test_a_create_that_is_refused(
    e2b_server: E2BServer, tmp_path: Path, answer: tuple[int, Any], failure_class: str, words: str
) -> None:
    """Is one error with a remedy, not a leak of the SDK's; refused for good it is not asked for again."""
    status, body = answer
    e2b_server.faults.answer(r"POST /v2/sandboxes$", status, body, {"Retry-After": "0"}, times=None)
    error = run(e2b_server, tmp_path)
    assert (error["failure_class"], words in error["message"]) == (failure_class, True), error
    if status in (401, 403) and not isinstance(body, str):
        assert e2b_server.seen.count("create") == 1
        assert e2b_server.seen.count("list") == 0


def test_the_limits_of_a_plan(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Too long a life, and too many at once: refused before anything runs, with what to do."""
    error = run(e2b_server, tmp_path, timeout=4000)
    assert error["failure_class"] == "resource_denied"
    assert "lower timeout" in error["message"]
    e2b_server.policy.max_sandboxes = 0
    error = run(e2b_server, tmp_path / "more")
    assert error["failure_class"] == "resource_denied"
    assert "osiris runs gc" in error["message"]
    assert e2b_server.sandboxes == {}


def test_an_unknown_template(e2b_server: E2BServer, tmp_path: Path) -> None:
    """A name that is nobody's is the user's mistake; nothing is made instead."""
    error = run(e2b_server, tmp_path, template="nobodys")
    assert error["failure_class"] == "user_error"
    assert "nobodys" in error["message"]
    assert e2b_server.sandboxes == {}


def test_a_template_without_packages(e2b_server: E2BServer, tmp_path: Path) -> None:
    """What the worker lacks is named."""
    error = run(e2b_server, tmp_path, template="base")
    assert error["failure_class"] == "user_error"
    assert "is not installed there" in error["message"]


def test_an_unknown_user(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Is a wrong setting, and no bad key."""
    error = run(e2b_server, tmp_path, user="nosuch")
    assert error["failure_class"] == "user_error"
    assert "invalid username: 'nosuch'" in error["message"]
    assert "set user" in error["message"]
    assert "API key" not in error["message"]


@pytest.mark.parametrize(
    "route",
    [
        "POST /v2/sandboxes$",
        "GET /v2/sandboxes",
        "GET /sandboxes/",
        "POST /sandboxes/.*/timeout",
        "PUT /sandboxes/.*/network",
        "DELETE /sandboxes/",
        "process.Process/Start",
        "process.Process/SendInput",
        "GET /files",
    ],
)
def test_a_key_that_is_repeated_is_written_nowhere(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """Whoever repeats it in its answer: control plane, edge or sandbox."""
    monkeypatch.setattr(lifetime, "LEASE_S", 1)
    ready = e2b_server.templates.find("osiris-ready")
    assert ready is not None
    e2b_server.templates.ready.append(replace(ready, name="base"))
    body = {"code": 401, "message": f"who is {e2b_server.api_key}?"}
    rule = e2b_server.faults.answer(route, 401, body, times=None)
    if "GET /v2" in route:
        e2b_server.faults.lose_answer("POST /v2/sandboxes$", times=None)
    far = {"api_key": e2b_server.api_key, "api_url": e2b_server.api_url, "sandbox_url": e2b_server.sandbox_url}
    naps = {"pipeline": "p", "steps": [{"id": "a", "driver": "command", "config": {"argv": ["sleep", "1"]}}]}
    with AdapterFactory.create("e2b", **far) as adapter:
        report = adapter.run(naps, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert rule.hits
    assert files_with(tmp_path / "s", e2b_server.api_key) == []
    assert e2b_server.api_key not in json.dumps(report.to_json())


def test_nobody_answers(e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens is named."""
    far = {"api_key": "e2b_x", "api_url": "http://127.0.0.1:9", "sandbox_url": "http://127.0.0.1:9"}
    with AdapterFactory.create("e2b", **far, template="osiris-ready") as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.error is not None
    assert report.error["failure_class"] == "infra_lost"
    assert "cannot be reached at http://127.0.0.1:9" in report.error["message"]
