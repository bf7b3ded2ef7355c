"""The host's end of a worker's wire: requests and their answers, events in order, silence noticed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ExecutionError, FailureClass
from remote.framing import Frame, FrameDecoder, Stray, encode_frame
from remote.order_file import ORDER_ID
from remote.protocol import HEARTBEAT_INTERVAL_S, NOTIFICATIONS, SILENCE_LIMIT_S, encode, is_compatible, request
from remote.sandbox import TransportClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.journal import Copies
    from remote.rpc_trace import RpcTrace
    from remote.sandbox import Transport

_parse = json.JSONDecoder().decode
"""Without looking for other encodings at each message, as `json.loads` does."""
POLL_S = 0.1
DISMISS_LIMIT_S = 1.0
REPLAY_INTERVAL_S = 1.0
"""After this long the answer to a `replay` counts as lost too."""
MAX_STRAYS = 100
"""How many lines that are no messages are passed on; a worker that prints on its wire is not followed for ever."""


class WorkerLost(ExecutionError):
    """The worker does not answer any more, or its connection ended. It may live on."""

    failure_class = FailureClass.INFRA_LOST


class ProtocolError(ExecutionError):
    """The other side does not speak our protocol."""

    failure_class = FailureClass.PROTOCOL


class RpcError(ExecutionError):
    """A worker's error answer."""

    failure_class = FailureClass.PROTOCOL

    def __init__(self, method: str, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        text = f"{error.get('message', 'an error without a message')}"
        if error.get("data"):
            text += f": {error['data']}"
        super().__init__(f"the worker refused '{method}': {text}", details={"code": self.code})


@dataclass(frozen=True)
class Patience:
    """
    How long a worker may be silent, and how often it is asked for a sign of life.

    `is_there` is asked when it was silent for too long: whether somebody else (a scheduler) knows that it lives.
    """

    heartbeat_s: float = HEARTBEAT_INTERVAL_S
    silence_s: float = SILENCE_LIMIT_S
    is_there: Callable[[], bool] = lambda: False


class WorkerClient:
    """
    Speaks to one worker over one connection. Has no thread: whoever waits in `call` or `wait` takes the events too.

    Args:
        transport: The connection. The client does not close it.
        copies: Where events go, each once and in order. One that is missing is asked for again.
        on_event: Called with each new event, after it was written.
        on_stray: Called with each line that is no message.
        trace: Is told every message.
        patience: How long silence is borne, and how often the worker is asked for a sign of life.
        in_midst: The worker had begun to speak before: what comes before the first frame is the rest of one.

    Attributes:
        summary: What the run came to, as soon as the worker said it unasked.
        has_heard: A whole message came.
        over_since_s: Since when the worker says that its run is over, and no event has come; None while neither is so.
    """

    def __init__(
        self,
        transport: Transport,
        copies: Copies,
        on_event: Callable[[dict[str, Any]], None] = lambda _: None,
        on_stray: Callable[[str], None] = lambda _: None,
        trace: RpcTrace | None = None,
        patience: Patience | None = None,
        *,
        in_midst: bool = False,
    ) -> None:
        self.summary: dict[str, Any] | None = None
        self.has_heard = False
        self.over_since_s: float | None = None
        self._patience = patience or Patience()
        self._in_midst = in_midst
        self._transport = transport
        self._copies = copies
        self._on_event = on_event
        self._on_stray = on_stray
        self._trace = trace
        self._decoder = FrameDecoder()
        self._next_id = 1
        self._answers: dict[int | str, dict[str, Any]] = {}
        self._hello: dict[str, Any] | None = None
        self._asked_s = monotonic()
        self._silent_s = 0.0
        self._replay_from = -1
        self._replay_asked_s = 0.0
        self._strays = 0

    def hello(
        self,
        timeout_s: float,
        check: Callable[[], None] = lambda: None,
        is_queued: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """
        The worker's first words: protocol, version, python, packages, pid.

        `check` is called while they are waited for; what it raises is raised. While `is_queued`, its time does not run.

        Raises:
            WorkerLost: It did not say them in time, or ended.
            ProtocolError: It speaks another protocol.
        """
        deadline_s = monotonic() + timeout_s
        while self._hello is None:
            check()
            if is_queued():
                deadline_s = monotonic() + timeout_s
            if (left_s := deadline_s - monotonic()) <= 0:
                raise WorkerLost(f"the worker did not say hello within {timeout_s:g} s")
            self._take(min(left_s, POLL_S))
        if not is_compatible(str(self._hello.get("protocol"))):
            raise ProtocolError(f"the worker speaks protocol {self._hello.get('protocol')}")
        return self._hello

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout_s: float = SILENCE_LIMIT_S) -> Any:
        """
        Ask, and give the result.

        Raises:
            RpcError: The worker refused.
            WorkerLost: No answer within `timeout_s`, or the connection ended.
        """
        return self.answer(self.ask(method, params, timeout_s), method, timeout_s)

    def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        timeout_s: float = SILENCE_LIMIT_S,
        before: bytes = b"",
    ) -> int:
        """
        Ask without waiting for the answer; give the request's id. `before` goes in front, in the same piece.

        Raises:
            WorkerLost: It could not be sent within `timeout_s`, or the connection ended.
        """
        return self._send(method, params or {}, timeout_s, before)

    def answer(self, request_id: int | str, method: str, timeout_s: float = SILENCE_LIMIT_S) -> Any:
        """The result of what was asked, by this client or by an order in a file. Raises as `call` does."""
        deadline_s = monotonic() + timeout_s
        while request_id not in self._answers:
            if (left_s := deadline_s - monotonic()) <= 0:
                raise WorkerLost(f"the worker did not answer '{method}' within {timeout_s:g} s")
            self._take(min(left_s, POLL_S))
        answer = self._answers.pop(request_id)
        if "error" in answer:
            raise RpcError(method, answer["error"])
        return answer.get("result")

    def wait(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """
        Take events until `until()` holds, asking for a sign of life all the while; False when the time was up.

        Raises:
            WorkerLost: Not a byte came for 5 s, or the connection ended.
        """
        deadline_s = monotonic() + timeout_s
        while not until():
            now_s = monotonic()
            if now_s >= deadline_s:
                return False
            if self._silent_s > self._patience.silence_s:
                if not self._patience.is_there():
                    raise WorkerLost(f"the worker has been silent for {self._patience.silence_s:g} s")
                self._silent_s = 0.0
            if now_s - self._asked_s > self._patience.heartbeat_s:
                self._send("heartbeat", {}, SILENCE_LIMIT_S)
            self._take(min(deadline_s - now_s, POLL_S))
        return True

    def dismiss(self) -> None:
        """Tell the worker to leave. Whether it hears that is not waited for."""
        with suppress(WorkerLost):
            self._send("shutdown", {}, DISMISS_LIMIT_S)

    def _send(self, method: str, params: Mapping[str, Any], timeout_s: float, before: bytes = b"") -> int:
        request_id, self._next_id = self._next_id, self._next_id + 1
        message = request(request_id, method, dict(params))
        if self._trace is not None:
            self._trace.note("sent", message)
        self._asked_s = monotonic()
        try:
            self._transport.send(before + encode_frame(encode(message)), timeout_s)
        except TransportClosed as exc:
            raise WorkerLost(f"the connection to the worker ended: {exc}") from exc
        return request_id

    def _take(self, timeout_s: float) -> None:
        started_s = monotonic()
        try:
            data = self._transport.receive(timeout_s)
        except TransportClosed as exc:
            for item in self._decoder.finish():
                if isinstance(item, Stray) and item.reason != "cut":  # a frame that did not come whole comes again
                    self._stray(item.data)
            raise WorkerLost(f"the connection to the worker ended: {exc}") from exc
        if not data:
            # Only what was listened for counts: a host that was stopped itself has not heard silence.
            self._silent_s += min(monotonic() - started_s, timeout_s + POLL_S)
            return
        self._silent_s = 0.0
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                self._in_midst, self.has_heard = False, True
                self._message(item.text)
            elif not self._in_midst:
                self._stray(item.data)

    def _message(self, text: bytes) -> None:
        try:
            message = _parse(text.decode())
        except ValueError:
            return self._stray(text)
        if not isinstance(message, dict):
            return self._stray(text)
        if self._trace is not None:
            self._trace.note("received", message)
        method = message.get("method")
        if method == "event":
            return self._event(message.get("params"))
        if method == "hello":
            self._hello = message.get("params") or {}
        elif method == "summary":
            self.summary = message.get("params") or {}
        elif method == "heartbeat":
            self._check_sent(message.get("params"))
        elif method is None and (isinstance(message.get("id"), int) or message.get("id") == ORDER_ID):
            self._answers[message["id"]] = message
            self._check_sent(message.get("result"))
            if len(self._answers) > 64:
                del self._answers[next(iter(self._answers))]
        elif method not in NOTIFICATIONS:
            self._stray(text)
        return None

    def _event(self, event: Any) -> None:
        try:
            taken = self._copies.take(event)
        except (ValueError, AttributeError) as exc:
            raise ProtocolError(f"the worker sent what is no event of this run: {exc}") from exc
        if taken == "gap":
            self._ask_again()
        elif taken == "new":
            self.over_since_s = None
            self._on_event(event)

    def _check_sent(self, result: Any) -> None:
        """An answer to a heartbeat comes behind every event that it counts; they are taken by nobody else."""
        if not isinstance(result, dict) or "uptime_s" not in result:
            return
        if result.get("last_seq", 0) > self._copies.last_seq:
            self._ask_again()
        elif result.get("state") != "over":
            self.over_since_s = None
        elif self.over_since_s is None:
            self.over_since_s = monotonic()

    def _ask_again(self) -> None:
        """Have what is missing sent once more: once for a gap, as what is on its way shows the same one for a while."""
        now_s = monotonic()
        if self._replay_from != self._copies.last_seq or now_s - self._replay_asked_s > REPLAY_INTERVAL_S:
            self._replay_from, self._replay_asked_s = self._copies.last_seq, now_s
            self._send("replay", {"after_seq": self._copies.last_seq}, SILENCE_LIMIT_S)

    def _stray(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace").strip()
        if text and self._strays < MAX_STRAYS:
            self._strays += 1
            self._on_stray(text)
