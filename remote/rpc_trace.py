"""Writes every message of a worker's wire into a file, for people who look for a mistake; secrets are masked."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.redaction import Redactor


class RpcTrace:
    """
    One JSON object a line: `ts` (seconds since 1970), `direction` (`sent`, `received`), `message`.

    The values in `start` are left out, and everything else is masked.
    """

    def __init__(self, path: str, redactor: Redactor) -> None:
        self._redactor = redactor
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = open(fd, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115

    def note(self, direction: str, message: Mapping[str, Any]) -> None:
        shown = dict(message)
        if shown.get("method") == "start":
            params = dict(shown.get("params") or {})
            shown["params"] = {**params, "secrets": dict.fromkeys(params.get("secrets") or (), "***")}
        line = {"ts": round(time.time(), 6), "direction": direction, "message": self._redactor.texts(shown)}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """May be called twice."""
        self._file.close()
