"""
Which tests may run side by side: `pytest -n 2 --dist loadgroup` gives each lane to one of two processes.

A lane is a file or, where a file has classes, a class: what is dear to set up is set up once. Tests that look at
something there is only one of, as the queue of the cluster, are one lane wherever they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def lane_of(nodeid: str) -> str:
    """The lane of a test."""
    if "slurm" in nodeid.lower():
        return "slurm"
    return nodeid.partition("[")[0].rpartition("::")[0]


def are_used(config: pytest.Config) -> bool:
    """Whether this run has lanes; its tests are then called `TEST@LANE`."""
    return config.getoption("dist", "no") == "loadgroup"


def is_one(config: pytest.Config) -> bool:
    """Whether this process is one of those that the tests were given to."""
    return hasattr(config, "workerinput")
