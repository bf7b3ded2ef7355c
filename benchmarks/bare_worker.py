"""A worker, or any other program, in the sandbox of a remote adapter, without a run: for what is measured around it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.drivers import noop_chain
from osiris_core import ExecutionContext
from osiris_core.collection import Run
from osiris_core.session import Session
from remote.bundle import pack_bundle, worker_argv
from remote.client import WorkerClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remote.adapter import RemoteAdapter
    from remote.sandbox import Sandbox, Transport

ECHO = """
import os
while data := os.read(0, 65536):
    os.write(1, data)
"""
"""The yardstick of a round trip: what came goes back."""


class Place:
    """A sandbox of `adapter` that was started and has a package in it; nothing runs there yet."""

    def __init__(self, adapter: RemoteAdapter, folder: Path) -> None:
        context = ExecutionContext(session_dir=str(folder / "session"))
        prepared = adapter.prepare(noop_chain(5), context)
        self._adapter = adapter
        self._run = Run(prepared)
        self._session = self._run.session = Session.open(context.session_dir, context.session_id, prepared.name)
        self._transports: list[Transport] = []
        self.sandbox: Sandbox = adapter.make_sandbox(self._run, context, "benchmark" + folder.name.encode().hex()[-8:])
        self.sandbox.start()
        package = folder / "package.tar"
        pack_bundle(prepared, (), package, in_place=self.sandbox.reads_in_place)
        self.sandbox.put(package)

    def open(self, argv: Sequence[str]) -> Transport:
        """Start a program in it, once."""
        transport = self.sandbox.open(argv)
        self._transports.append(transport)
        return transport

    def open_worker(self) -> WorkerClient:
        """Start the worker, and return when it said hello."""
        transport = self.open(worker_argv(self.sandbox.python, self.sandbox.work_dir))
        client = WorkerClient(transport, self._session.journal.copies("engine"))
        client.hello(30.0)
        return client

    def close(self) -> None:
        try:
            self.sandbox.stop()
        finally:
            for transport in self._transports:
                transport.close()
            self._adapter.release(self._run)
            self._session.close()


@contextmanager
def place(adapter: Any) -> Iterator[Place]:
    """A place of `adapter`, gone afterwards."""
    with TemporaryDirectory() as name:
        made = Place(adapter, Path(name))
        try:
            yield made
        finally:
            made.close()
