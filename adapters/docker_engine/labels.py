"""The labels by which what we made is found again, and whose it is."""

from __future__ import annotations

import getpass
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION = "osiris.session"
SESSION_DIR = "osiris.session_dir"
TOKEN = "osiris.token"  # noqa: S105 - the name of a label
OWNER = "osiris.owner"
VERSION = "osiris.version"


@dataclass(frozen=True)
class Owner:
    """The process that made something: on which machine, and which one of that number."""

    user: str
    host: str
    pid: int
    started_at: int

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a uid without a name, as containers have it
            user = str(os.getuid())
        return cls(user, platform.node(), os.getpid(), int(psutil.Process().create_time()))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The inverse of `str`, or None when it is nothing of ours."""
        who, _, process = text.partition(" ")
        user, _, host = who.rpartition("@")
        pid, _, started_at = process.partition("/")
        if not (user and host and pid.isdigit() and started_at.isdigit()):
            return None
        return cls(user, host, int(pid), int(started_at))

    def __str__(self) -> str:
        return f"{self.user}@{self.host} {self.pid}/{self.started_at}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine: of others nothing can be said."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether that very process, not only its number, is still there. Only where `is_here`."""
        try:
            return abs(int(psutil.Process(self.pid).create_time()) - self.started_at) <= 2
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def run_labels(session_id: str, session_dir: str, token: str, more: Mapping[str, str]) -> dict[str, str]:
    """What container and volume of a run are marked with."""
    return {
        **more,
        SESSION: session_id,
        SESSION_DIR: session_dir,
        TOKEN: token,
        OWNER: str(Owner.here()),
        VERSION: _version(),
    }


def _version() -> str:
    try:
        return metadata.version("osiris-core")
    except metadata.PackageNotFoundError:
        return "unknown"
