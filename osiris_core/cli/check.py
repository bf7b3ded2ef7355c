"""What `osiris doctor` found about one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Check:
    """One thing looked at: `ok`, `note` (nothing is wrong), or `broken`, with what to do about it."""

    name: str
    state: str
    detail: str
    fix: str = ""
