"""What comes home of a run: unpacked beside the session's own folders, verified, and only then moved in."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from osiris_core.arrival import unpack_stream
from osiris_core.errors import CollectError, TooLarge
from osiris_core.journal import JOURNAL_NAME
from remote import folders

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from osiris_core.records import ArtifactRecord
    from osiris_core.session import SessionLayout


class Homecoming:
    """
    One result on its way into a session directory; call `unpack`, `verify`, `move_in`, in this order.

    Attributes:
        journal: The worker's journal, once it is unpacked.
    """

    def __init__(self, layout: SessionLayout) -> None:
        self._layout = layout
        self._incoming = layout.work_dir / "incoming"
        self._home = self._incoming / folders.SESSION_FOLDER
        self._digests: dict[str, str] = {}
        self.journal: Path = self._home / JOURNAL_NAME

    def unpack(self, pieces: Iterable[bytes], max_bytes: int) -> bool:
        """
        Take in the worker's session folder; False when there is none, because no engine ran there.

        Raises:
            CollectError: It is broken, or holds what may not be unpacked.
            TooLarge: It is larger than `max_bytes`.
        """
        shutil.rmtree(self._incoming, ignore_errors=True)
        try:
            self._digests = unpack_stream(
                pieces, self._incoming, wanted=_comes_home, max_bytes=max_bytes, skip_strays=True
            )
        except TooLarge as exc:
            raise TooLarge(f"the result was not brought home: {exc} (`max_result_bytes` is the limit)") from None
        return self._home.is_dir()

    def verify(self, artifacts: Iterable[ArtifactRecord]) -> None:
        """
        See that every artifact has the bytes that it had when its step ended.

        Raises:
            CollectError: Some have not, or are missing.
        """
        incoming = self._incoming.resolve()
        wrong = []
        for record in artifacts:
            name = f"{folders.SESSION_FOLDER}/artifacts/{record.path}"
            if name not in self._digests and (incoming / name).is_symlink():  # it counts as the file it points to
                name = os.path.relpath(os.path.realpath(incoming / name), incoming)
            if self._digests.get(name) != record.sha256:
                wrong.append(record.path)
        if wrong:
            raise CollectError(f"artifacts did not come home as their steps left them: {', '.join(wrong[:5])}")

    def move_in(self) -> None:
        """Artifacts and checkpoints of the session are those that came; what was there before is gone."""
        for here, there in ((self._layout.artifacts_dir, "artifacts"), (self._layout.checkpoints_dir, "checkpoints")):
            if here.exists():
                shutil.rmtree(here)
            if (arrived := self._home / there).is_dir():
                arrived.replace(here)


def _comes_home(name: str) -> bool:
    parts = name.split("/")
    return len(parts) < 2 or parts[1] in ("artifacts", "checkpoints", JOURNAL_NAME)
