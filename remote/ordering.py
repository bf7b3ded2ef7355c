"""How a run is ordered from its worker: `start` arrives, once, whatever breaks meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remote.client import RpcError
from remote.packages import check_hello
from remote.protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remote.client import WorkerClient

START_ANSWER_S = 30.0
"""How long the worker may take to answer `start`: it imports its libraries meanwhile."""
LISTEN_S = 2.5
"""How long a worker that was started is listened for after a break: it gives a sign of life each second."""


class Order:
    """
    The `start` of one run.

    Args:
        params: Its parameters.
        package: What goes in front of it, for a worker that reads its package from its standard input.
        check: Called while the worker is waited for; what it raises is raised.
        on_hello: Called with what `hello` said, once it is known to fit.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        package: bytes,
        check: Callable[[], None],
        on_hello: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._params = params
        self._package = package
        self._check = check
        self._on_hello = on_hello

    def give(self, client: WorkerClient, timeout_s: float) -> None:
        """
        Hear `hello`, see that it fits, and start the run.

        Raises:
            ExecutionError: The worker cannot run this, or refused.
            WorkerLost: It did not answer. It may have heard all the same: see `give_again`.
        """
        if not self._params["unasked"]:
            self._hear(client, timeout_s)
            client.call("start", self._params, START_ANSWER_S)
            return
        # At once: a worker that reads its package says nothing before, and waiting would cost a way there and back.
        request_id = client.ask("start", self._params, START_ANSWER_S, self._package)
        self._hear(client, timeout_s)
        client.answer(request_id, "start", START_ANSWER_S)

    def give_again(self, client: WorkerClient) -> None:
        """
        After a break, over a new connection: see whether the run goes on, and start it if it does not.

        A second `start` does no harm, nor does a package that arrives twice: both are passed over.
        """
        if client.wait(lambda: client.has_heard, LISTEN_S):
            return
        request_id = client.ask("start", self._params, START_ANSWER_S, self._package)
        try:
            client.answer(request_id, "start", START_ANSWER_S)
        except RpcError as exc:
            if exc.code != ErrorCode.ALREADY_STARTED:
                raise

    def _hear(self, client: WorkerClient, timeout_s: float) -> None:
        hear(client, timeout_s, self._check, self._on_hello)


def hear(
    client: WorkerClient,
    timeout_s: float,
    check: Callable[[], None],
    on_hello: Callable[[Mapping[str, Any]], None],
    is_queued: Callable[[], bool] = lambda: False,
) -> None:
    """
    Hear `hello` and see that it fits. Its time does not run while the worker `is_queued`.

    Raises:
        ExecutionError: The worker cannot run this.
        WorkerLost: It did not say it.
    """
    hello = client.hello(timeout_s, check, is_queued)
    check_hello(hello)
    on_hello(hello)
    check()
