"""What an adapter adds to the phases, and says of itself: two things it must, the rest it may."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from osiris_core.config import AdapterConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from osiris_core.collection import Run
    from osiris_core.context import ExecutionContext
    from osiris_core.leftovers import Leftover
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary


class AdapterHooks(ABC):
    """What `ExecutionAdapter` calls. `start` and `stop` are wanted of every adapter."""

    name: ClassVar[str] = ""
    runs_here: ClassVar[bool] = False
    """Whether steps run in this process, where a debugger can reach them."""
    Config: ClassVar[type[AdapterConfig]] = AdapterConfig

    @property
    def known_gaps(self) -> Mapping[str, str]:
        """What it cannot do though every adapter promises it: names or tags of conformance checks, with reasons."""
        return {}

    @property
    def environments(self) -> Collection[str]:
        """What `environment` in the reports of its runs may say: its name, or those of the adapters it chooses from."""
        return (self.name,)

    @property
    def outlives_controller(self) -> bool:
        """Whether a run goes on when the process that asked for it is dead; `take_over` is implemented then."""
        return False

    def take_over(self, run: Run, context: ExecutionContext) -> RunSummary:
        """
        Find the place of a run whose controller is dead, by what `run.session.recorded` has, and go on as `start` does.

        Raises:
            NotAttached: Whether it is there cannot be told now.
            NeverPlaced: It never ran there.
        """
        raise NotImplementedError

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:  # noqa: B027 - optional
        """Refuse what this adapter cannot enforce, by raising PreparationError."""

    @classmethod
    def setup(cls, config: AdapterConfig, progress: Callable[[str], None]) -> str | None:  # noqa: ARG003 - optional
        """Make beforehand what every run needs (an image). Says what was made; None when nothing had to be."""
        progress(f"adapter '{cls.name}' needs nothing to be set up")
        return None

    def unusable(self) -> str | None:
        """Why nothing can be run by this adapter here and now, in a sentence; None when it can. Makes nothing."""
        return None

    def shown_script(self, prepared: PreparedRun) -> tuple[str, list[str]] | None:  # noqa: ARG002 - optional
        """
        What is handed to a scheduler for such a run: the script, byte for byte, and the command that hands it in, with
        names in place of what every run has anew. None where there is no scheduler.
        """
        return None

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:  # noqa: ARG002 - optional
        """
        What runs of this machine left in this adapter's places, and no live process owns. Removes nothing.

        `session_dirs` are the sessions that are known, for adapters whose places lie in them.
        """
        return []

    def abandon(self, run: Run, context: ExecutionContext, recorded: Mapping[str, Any]) -> None:  # noqa: B027 - optional
        """
        End what a dead controller's run has in its place, and the place with it; nothing is brought home.

        `recorded` is what `run.json` says of it. May be repeated.

        Raises:
            SandboxError: The place cannot be reached.
        """

    @abstractmethod
    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        """Run the prepared steps in this adapter's place, and return the engine's summary."""

    @abstractmethod
    def stop(self, reason: str) -> None:
        """Ask the runs under way to stop. Returns at once; no run under way is no error."""

    def bring_home(self, run: Run) -> None:  # noqa: B027 - optional
        """Put what the run left elsewhere into its session directory. Called once, at the start of `collect`."""

    def release(self, run: Run) -> None:  # noqa: B027 - optional
        """Free the run's place: nothing of it is left running on return. Called in every case; may be repeated."""
