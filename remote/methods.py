"""
The worker's methods behind jsonrpcserver; the only importer of that library.

Nothing is ever raised into it: it would put the text of an exception, unmasked, into its answer and its log. The
validation of requests is ours, by pydantic.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remote.protocol import ErrorCode, error

if TYPE_CHECKING:
    from collections.abc import Callable


def _library() -> tuple[Any, Any, Any]:
    """
    The library's modules that dispatch, and make results and responses.

    What its package does when it is imported costs every run 50 ms of asyncio, an HTTP server and jsonschema, and we
    use none of that: its modules are imported below a package that is not executed, and forgotten again.
    """
    name = "jsonrpcserver"
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None:
        sys.modules[name] = module_from_spec(spec)
    try:
        dispatcher, result, response = (
            import_module(f"{name}.{part}") for part in ("dispatcher", "result", "response")
        )
        return dispatcher, result, response
    finally:
        if spec is not None:
            del sys.modules[name]


_dispatcher, _result, _response = _library()
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ANYTHING = signature(lambda *args, **kwargs: (args, kwargs))


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StartParams(Params):
    """
    Run the package. Once in a worker's life.

    The values of secrets come here and nowhere else.
    """

    session_id: str = Field(description="Named in every event.")
    attempt: int = Field(ge=1, description="The run attempt; numbers of events count within it.")
    package_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of `package.json`, which has all others.")
    secrets: dict[str, str] = Field(default={}, repr=False, description="Every declared name with its value.")
    resume: bool = Field(default=False, description="Take over what an earlier attempt in the package completed.")
    unattended_timeout_s: float = Field(default=3600.0, gt=0, description="How long to go on when no host is heard.")
    unasked: bool = Field(
        default=False,
        description="Say `heartbeat` and `summary` without being asked, and pack what comes home into one file.",
    )
    leave_when_over: bool = Field(
        default=False, description="Say `summary` without being asked when the run is over, and leave at once."
    )
    earlier: str = Field(default="", description="A session folder there whose attempts are gone on from.")


class GetSummaryParams(Params):
    """What the run came to; an error while it is not over."""


class HeartbeatParams(Params):
    """A sign of life."""


class ReplayParams(Params):
    """Send events again, from a position on."""

    after_seq: int = Field(ge=0, description="The number of the last event that is not wanted.")


class CancelParams(Params):
    """Stop the run. Repeatable, the first reason counts."""

    reason: str = Field(default="", description="Why, for the events.")


class ShutdownParams(Params):
    """End everything: a run that is not over is killed. The worker leaves when this is answered."""


PARAMS: dict[str, type[Params]] = {
    "start": StartParams,
    "get_summary": GetSummaryParams,
    "heartbeat": HeartbeatParams,
    "replay": ReplayParams,
    "cancel": CancelParams,
    "shutdown": ShutdownParams,
}


class Refused(Exception):
    """A method that cannot do what it is asked; becomes an error answer."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Worker(Protocol):
    """Who does the work. Each method returns a JSON object, or raises `Refused`."""

    def start(self, params: StartParams) -> dict[str, Any]: ...
    def get_summary(self, params: GetSummaryParams) -> dict[str, Any]: ...
    def heartbeat(self, params: HeartbeatParams) -> dict[str, Any]: ...
    def replay(self, params: ReplayParams) -> dict[str, Any]: ...
    def cancel(self, params: CancelParams) -> dict[str, Any]: ...
    def shutdown(self, params: ShutdownParams) -> dict[str, Any]: ...


class Envelope(Params):
    """A request of JSON-RPC 2.0, not yet its parameters. A request without `id` is not answered."""

    jsonrpc: str = Field(pattern="^2\\.0$")
    method: str
    params: dict[str, Any] | list[Any] = {}
    id: int | str | None = None


class Dispatcher:
    """From the text of a request to the text of its answer; empty when there is none to give."""

    def __init__(self, worker: Worker, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._methods = {name: self._method(getattr(worker, name), model) for name, model in PARAMS.items()}
        logging.getLogger("jsonrpcserver").addHandler(logging.NullHandler())  # what it says shows values
        logging.getLogger("jsonrpcserver").propagate = False

    def __call__(self, request: bytes) -> bytes:
        try:
            answer = self._dispatch(request.decode("utf-8", "replace"))
        except Exception:  # noqa: BLE001 - a mistake of the library's or ours: the worker must live on
            answer = _encode(error(None, ErrorCode.INTERNAL_ERROR, "the request could not be dispatched"))
        return answer.encode("utf-8", "backslashreplace")

    def _dispatch(self, request: str) -> str:
        answer = _dispatcher.dispatch_to_response_pure(
            deserializer=json.loads,
            validator=_check_envelope,
            methods=self._methods,
            context=_dispatcher.NOCONTEXT,
            post_process=_response.to_serializable_one,
            request=request,
        )
        return "" if answer is None else _encode(answer)

    def _method(self, work: Callable[[Any], dict[str, Any]], model: type[Params]) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            try:
                if args:
                    return _result.InvalidParams("parameters are given by name")
                return _result.Success(work(model.model_validate(kwargs)))
            except ValidationError as exc:
                return _result.InvalidParams(_described(exc))
            except Refused as exc:
                return _result.Error(int(exc.code), self._mask(str(exc)))
            except Exception as exc:  # noqa: BLE001 - never into the library, which would show it unmasked
                return _result.Error(int(ErrorCode.INTERNAL_ERROR), self._mask(f"{type(exc).__name__}: {exc}"))

        method.__signature__ = _ANYTHING  # type: ignore[attr-defined] # the library asks for it at each request
        return method


def _check_envelope(request: Any) -> None:
    if request == []:
        raise ValueError("a batch of nothing")
    for item in request if isinstance(request, list) else [request]:
        Envelope.model_validate(item)


def _described(error: ValidationError) -> str:
    """What does not fit, without the values: they may be secret."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in items)
