"""What this process may use: the smallest of cgroup, rlimit, batch allocation, affinity and host."""

from __future__ import annotations

import os
import re
import resource
import time
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 1 << 10,
    "MI": 1 << 20,
    "GI": 1 << 30,
    "TI": 1 << 40,
}
_CGROUP = Path("/sys/fs/cgroup")


def parse_size(text: str | int) -> int:
    """
    Bytes of a size like `512MB`, `1.5GiB`, `64k` or `1000`. MB is 10^6, MiB is 2^20.

    Raises:
        ValueError: It is not a positive size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    size_bytes = int(Decimal(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size_bytes < 1:
        raise ValueError(f"{text!r} is not a size; write 512MB, 2GiB or a number of bytes")
    return size_bytes


def cpu_count() -> int:
    """How many processors this process may use; at least 1."""
    counts = [len(os.sched_getaffinity(0))]
    if (quota := _cgroup_cpus(str(_CGROUP), int(time.monotonic()))) is not None:
        counts.append(max(1, int(quota)))
    if (slurm := os.environ.get("SLURM_CPUS_ON_NODE", "")).isdigit():
        counts.append(int(slurm))
    return max(1, min(counts))


def memory_bytes() -> int:
    """How much memory this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    limits.extend(_cgroup_memory())
    if (slurm := os.environ.get("SLURM_MEM_PER_NODE", "")).isdigit():
        limits.append(int(slurm) << 20)
    elif (slurm := os.environ.get("SLURM_MEM_PER_CPU", "")).isdigit():
        limits.append((int(slurm) << 20) * cpu_count())
    return min(limits)


def default_memory_budget_bytes() -> int:
    """A quarter of what the process may use, at least 64 MiB."""
    return max(64 << 20, memory_bytes() // 4)


def _cgroup_folders(controller: str) -> Iterator[str]:
    """The cgroup of this process for a controller and every ancestor of it, v1 or v2."""
    for line in (_read("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root = str(_CGROUP)
        elif controller in controllers.split(","):
            root = f"{_CGROUP}/{controller}"
        else:
            continue
        # Inside a container the path is the host's: the mount itself is then the group.
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            yield "/".join([root, *parts[:length]])


def _read(path: str) -> str | None:
    """A small file of the kernel's, in a quarter of the time of `open`; None when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def _read_number(path: str) -> int | None:
    text = _read(path) or ""
    return int(text) if text.lstrip("-").isdigit() else None


def _cgroup_memory() -> Iterator[int]:
    for folder in _cgroup_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read_number(f"{folder}/{name}")
            if limit is not None and limit > 0:
                yield limit


@lru_cache(maxsize=2)
def _cgroup_cpus(_root: str, _second: int) -> float | None:
    """The processors that the cgroup allows; looked up once a second, for who starts many short runs."""
    quotas = []
    for folder in _cgroup_folders("cpu"):
        if (text := _read(f"{folder}/cpu.max")) is not None:
            quota, _, period = text.partition(" ")
        else:
            quota = str(_read_number(f"{folder}/cpu.cfs_quota_us") or "max")
            period = str(_read_number(f"{folder}/cpu.cfs_period_us") or 100000) if quota.isdigit() else "0"
        if quota.isdigit() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)
