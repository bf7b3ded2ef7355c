"""Who made something in a place that others share: by this it is found again, and known to be nobody's any more."""

from __future__ import annotations

import getpass
import os
import platform
from dataclasses import dataclass

import psutil


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
