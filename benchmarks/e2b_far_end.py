"""The E2B that benchmarks use: the tests' local server in a process of its own; None where there is no SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.timing import ROOT, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_THERE = "the extra [e2b] is not installed: not measured"
OPENED_BY_FIRST_BYTE = ("start", "reconnect")
"""Requests that last as long as the process they follow: what they cost is the time until they say the first thing."""


class FarEnd:
    """
    Attributes:
        config: Goes to `AdapterFactory.create("e2b", **config)`.
        address: Goes to the SDK's own calls.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._questions, self._answers = process.stdin, process.stdout
        self.address: dict[str, Any] = json.loads(self._answers.readline())
        self.config = {**self.address, "template": "osiris-ready"}

    def ask(self, **question: Any) -> Any:
        self._questions.write(json.dumps(question) + "\n")
        self._questions.flush()
        return json.loads(self._answers.readline())

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(act="requests")
        return found

    def own_time_s(self) -> float:
        """What all requests took by themselves, seen from the server."""
        found = 0.0
        for request in self.requests():
            end = "answered_s" if request["kind"] in OPENED_BY_FIRST_BYTE else "ended_s"
            found += request[end] - request["started_s"]
        return found


@contextmanager
def far_end() -> Iterator[FarEnd | None]:
    """A server that ends with the block, and every sandbox with it."""
    if find_spec("e2b") is None:
        yield None
        return
    # The SDK uses a proxy even for this machine, unless it is told not to.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.e2b_server", folder]
        with subprocess.Popen(
            command, cwd=ROOT, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield FarEnd(process)
            finally:
                assert process.stdin
                process.stdin.close()
                process.wait(30)
