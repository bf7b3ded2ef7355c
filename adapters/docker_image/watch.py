"""Who is told what while an image is made: progress line by line, masked, and a log that is kept when it fails."""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.errors import RunCancelled
from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""The builder colours what came from standard error."""
LAST_LINES = 20
"""How many lines of a log an error message repeats."""


def cache_folder(name: str) -> Path:
    """`name` in the user's cache folder for images; it exists on return, and only its owner may look inside."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "osiris" / "docker" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@dataclass
class Watch:
    """What all parts of one making of an image have in common."""

    progress: Callable[[str], None]
    cancelled: Callable[[], bool] = lambda: False
    redactor: Redactor = field(default_factory=Redactor)

    def say(self, text: str) -> None:
        """Report a line, masked."""
        self.progress(self.redactor.text(text))

    def check(self) -> None:
        """Raises RunCancelled when it is time to stop."""
        if self.cancelled():
            raise RunCancelled("cancelled while the image was being made")


class MakingLog:
    """
    The log of one build or download: each line is reported, and kept in a file until it is known to be of no use.

    Leaving a `with` block without an exception, or by a cancel, removes the file.
    """

    def __init__(self, watch: Watch, name: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.path = cache_folder("logs") / f"{name}-{stamp}-{os.getpid()}.log"
        self._watch = watch
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")

    def line(self, text: str) -> None:
        # What stands before a carriage return was overwritten on the terminal it was meant for.
        masked = self._watch.redactor.text(_ESCAPE.sub("", text.rstrip()).rpartition("\r")[2].rstrip())
        if masked:
            self._last.append(masked)
            self._file.write(masked + "\n")
            self._watch.progress(masked)

    def described(self, message: str) -> str:
        """`message`, masked, with the last lines of the log and the file that holds all of it."""
        lines = "\n".join(f"  {line}" for line in self._last)
        return f"{self._watch.redactor.text(message)}; the whole log is in {self.path}, and ends with\n{lines}"

    def __enter__(self) -> MakingLog:
        return self

    def __exit__(self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None) -> None:
        self._file.close()
        if exc is None or isinstance(exc, (RunCancelled, KeyboardInterrupt, GeneratorExit)):
            with suppress(OSError):
                self.path.unlink()
