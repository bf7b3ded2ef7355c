"""How the far end behaves where accounts, plans and versions differ; a test changes it at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class Policy:
    """
    Attributes:
        latency_s: Slept before each request is carried out.
        keepalive_s: After how much silence a stream carries a keepalive. None: what the client asks for.
        piece_bytes: Answers leave in pieces of this many bytes, each an HTTP chunk of its own. None: as they come.
        max_lifetime_s: The plan's limit of a sandbox's life. More at create is refused, more later is cut silently.
        list_lag_s: After how long a sandbox that was made is listed.
        max_sandboxes: How many may run at once.
        create_per_s: How many sandboxes may be created in a second. None: any number.
        exit_kept_s: How long the exit code of a process is to be had after its end.
        envd_version: Of the sandboxes created from now on. Below 0.6.12 an exit code is not kept at all.
        disk_bytes: How much the files of a sandbox may take; uploads beyond it answer 507. None: what the disk holds.
        kill_mode: Whether the streams of a killed sandbox are reset or ended with an error.
        ghosts: A stream that was attached at a pause stays registered after the resume, and nobody reads it.
        envd_url: A real envd that is every sandbox; this server is then only the control plane before it.
        profile_noise: What the login shell of every command prints before the command.
    """

    latency_s: float = 0.0
    keepalive_s: float | None = None
    piece_bytes: int | None = None
    max_lifetime_s: float = 3600
    list_lag_s: float = 0.0
    max_sandboxes: int = 20
    create_per_s: float | None = None
    exit_kept_s: float = 30.0
    envd_version: str = "0.6.13"
    disk_bytes: int | None = None
    kill_mode: Literal["reset", "end"] = "reset"
    ghosts: bool = False
    envd_url: str | None = None
    profile_noise: str = ""
