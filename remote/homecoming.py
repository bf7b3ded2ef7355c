"""What comes home of a run: unpacked beside the session's own folders, verified, and only then moved in."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from osiris_core.arrival import unpack_stream
from osiris_core.errors import CollectError, NoRoom, TooLarge
from osiris_core.journal import JOURNAL_NAME
from remote import folders

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from osiris_core.records import ArtifactRecord
    from osiris_core.session import SessionLayout


class Homecoming:
    """
    One result on its way into a session directory; call `unpack`, `verify`, `move_in`, in this order.

    Args:
        at_home: What of earlier attempts was taken over without being sent, by path in the session, with its sha256.

    Attributes:
        journal: The worker's journal, once it is unpacked.
    """

    def __init__(self, layout: SessionLayout, at_home: Mapping[str, str]) -> None:
        self._layout = layout
        self._at_home = at_home
        self._incoming = layout.work_dir / "incoming"
        self._home = self._incoming / folders.SESSION_FOLDER
        self._digests: dict[str, str] = {}
        self.journal: Path = self._home / JOURNAL_NAME

    def unpack(self, pieces: Iterable[bytes], max_bytes: int) -> bool:
        """
        Take in the worker's session folder; False when there is none, because no engine ran there.

        Raises:
            CollectError: It is broken, or holds what may not be unpacked.
            NoRoom: The disk is full; nothing of it is kept, so that there is room for the report that says so.
            TooLarge: It is larger than `max_bytes`.
        """
        shutil.rmtree(self._incoming, ignore_errors=True)
        try:
            self._digests = unpack_stream(
                pieces, self._incoming, wanted=_comes_home, max_bytes=max_bytes, skip_strays=True
            )
        except NoRoom:
            shutil.rmtree(self._incoming, ignore_errors=True)
            raise
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
            found = self._digests.get(name) or self._at_home.get(f"artifacts/{record.path}")
            if found != record.sha256:
                wrong.append(record.path)
        if wrong:
            raise CollectError(f"artifacts did not come home as their steps left them: {', '.join(wrong[:5])}")

    def move_in(self, reused: Collection[str] = ()) -> None:
        """
        Artifacts and checkpoints of the session are those that came, and what is at home of the steps `reused`.

        What else was there is gone. May be done again after it was cut short.
        """
        checkpoints = {name.partition("/")[2] for name in self._at_home if name.startswith("checkpoints/")}
        kept = {"artifacts": set(reused) if self._at_home else set(), "checkpoints": checkpoints}
        for here, there in ((self._layout.artifacts_dir, "artifacts"), (self._layout.checkpoints_dir, "checkpoints")):
            arrived = self._home / there
            if not here.exists():
                if arrived.is_dir():
                    arrived.replace(here)
                continue
            new = {path.name for path in arrived.iterdir()} if arrived.is_dir() else set()
            for path in list(here.iterdir()):
                if path.name in new or path.name not in kept[there]:
                    _remove(path)
            for name in new:
                (arrived / name).replace(here / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _comes_home(name: str) -> bool:
    parts = name.split("/")
    return len(parts) < 2 or parts[1] in ("artifacts", "checkpoints", JOURNAL_NAME)
