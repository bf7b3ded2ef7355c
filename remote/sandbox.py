"""
What a remote adapter writes: a place where a worker can live, and the way to it. Everything else is `RemoteAdapter`.

A sandbox moves bytes and has never heard of a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from osiris_core.errors import ExecutionError, FailureClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path, PurePosixPath


class Transport(Protocol):
    """Bytes to and from a worker. Used by one thread at a time."""

    def send(self, data: bytes, timeout_s: float) -> None:
        """
        All of `data` is on its way on return.

        Raises:
            TransportClosed: The other end is gone, or took nothing for `timeout_s`.
        """

    def receive(self, timeout_s: float) -> bytes | None:
        """
        The next bytes of the worker, cut anywhere; None when nothing came within `timeout_s`.

        Raises:
            TransportClosed: Nothing will come any more.
        """

    def stderr_tail(self) -> str:
        """The last lines that the worker's own process wrote to its standard error, so far; not masked."""

    def close(self) -> None:
        """Let go of this end. May be called twice; the worker lives on."""


class TransportClosed(ConnectionError):
    """The connection to a worker ended."""


@dataclass(frozen=True)
class Fate:
    """
    How a sandbox's worker ended, from evidence. `running` when it did not, or nobody can tell.

    `exit_code` is negative for a signal of its own and as the place reports it (137) otherwise; None when unknown.
    `failure_class` is what the place itself says about whose fault it was (a scheduler), None when it says nothing.
    """

    running: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    message: str = ""
    failure_class: FailureClass | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Sandbox(Protocol):
    """
    One place for one worker: a child process's folder, a container, a cloud sandbox. Made anew for every run by
    `start`, or taken over from a controller that is dead by `adopt`.

    Errors of the vendor's are raised as `SandboxError`, with the remedy in the message.

    Attributes:
        work_dir: The folder inside the sandbox that everything goes into; known once `start` returned.
        python: The interpreter inside it.
        reads_in_place: Source paths of input files that are there without being sent, and where (mounts).

    Three more may be there:
        elsewhere (bool): What is made goes on when this machine loses its power; true where nothing is said.
        frugal (bool): Each message to the worker is a request that takes its time and is counted. A small package then
            goes in front of the first message, without `put`; the worker says how it is and what the run came to
            unasked, and packs what comes home into one file (`folders.RESULT_FILE`) for `get`.
        site (str): Whose place it is: which engine's, of several that could be asked. From another one's word that
            there is no such place nothing follows.
    """

    work_dir: PurePosixPath
    python: str
    reads_in_place: dict[str, str]

    def start(self) -> str:
        """Make the place and return its native id (a pid, a container id), by which it can be found again."""

    def put(self, archive: Path) -> None:
        """The members of `archive`, a tar without compression, are below `work_dir` on return."""

    def open(self, argv: Sequence[str]) -> Transport:
        """Start the worker, once, and connect to its standard input and output."""

    def adopt(self, native_id: str | None) -> bool:
        """
        Take over the place that an earlier controller made with this sandbox's token, by its native id where it is
        known, else by the token. False when there is none (any more). `reconnect`, `get`, `fate` and `stop` work on it
        afterwards.
        """

    def reconnect(self) -> Transport:
        """Another connection to the worker that runs, after one broke."""

    def get(self, folder: str) -> Iterator[bytes]:
        """
        `work_dir/folder` as a tar stream; its members' names start with the folder's own last name.

        Works also when the worker is dead. Nothing of it is held in memory.
        """

    def fate(self) -> Fate:
        """How the worker is. Waits a moment for an end that is just being reported."""

    def stop(self, *, keep: bool = False) -> str:
        """
        No process of the sandbox is alive on return, and the place is gone unless it is to be kept.

        Says how to look at what was kept; empty when nothing was. May be called twice, from any thread, and when
        `start` failed half-way.

        Raises:
            SandboxError: It cannot be reached to be removed; `osiris runs gc` will find it.
        """


def check_site(sandbox: Sandbox, recorded: Mapping[str, Any]) -> None:
    """
    Raises:
        SandboxError: The place of the run that is `recorded` is somewhere else than where `sandbox` would look.
    """
    theirs, ours = recorded.get("site"), getattr(sandbox, "site", None)
    if theirs is not None and theirs != ours:
        raise SandboxError(f"it is at {theirs}, and this is {ours}: ask there")


@runtime_checkable
class BatchSandbox(Sandbox, Protocol):
    """
    A sandbox whose worker starts when a scheduler says so, and finds its order in its folder: no host need be there.

    `start` makes the folder only and returns nothing. Then come `put`, `order`, and `submit` in the place of `open`.
    The worker says `summary` when its run is over, and leaves. `fate` waits until the scheduler has made up its mind.

    Attributes:
        queue_timeout_s: How long it may wait for its turn; None for as long as it takes.
        restarts: How often the scheduler started the worker again (a lost node, a preemption), as far as was seen.
            Each start is the next attempt of the run, in a folder of its own; `reconnect` and `get` mean the last one.
    """

    queue_timeout_s: float | None
    restarts: int

    def order(self, message: bytes) -> None:
        """Leave the start request where the worker will find it, and where nobody can read it."""

    def submit(self, argv: Sequence[str]) -> str:
        """
        Hand the worker's command to the scheduler, once, and return the native id.

        An answer that was lost is looked for before anything is handed in again.
        """

    def is_queued(self) -> bool:
        """
        Whether the worker still waits for its turn.

        Raises:
            SandboxError: It will never have it, with the scheduler's own reason.
        """

    def standing(self) -> str:
        """What the scheduler says of the worker's job now, in words; empty when it says nothing."""

    def is_alive(self) -> bool:
        """Whether the last start of the worker runs or is still to run, as far as is known; asks seldom."""


class SandboxError(ExecutionError):
    """A sandbox cannot be had, reached or kept. The message names the remedy, `failure_class` whose fault it is."""

    failure_class = FailureClass.INFRA_LOST
