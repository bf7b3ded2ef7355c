"""What the kernel knows about memory: how often it killed for lack of it, and how much a process ever used."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


def oom_kills() -> int | None:
    """
    How many processes the kernel has killed in this process's memory cgroup for lack of memory.

    Read before and after: a risen count is the evidence that a SIGKILL in between came from the kernel. None when
    no counter can be read (no cgroup, the root of cgroup v2): then nothing may be claimed.
    """
    try:
        memberships = _read("/proc/self/cgroup").decode("utf-8", "replace")
    except OSError:
        return None
    for line in memberships.splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _count("cgroup", "memory.oom_control", group)
    for line in memberships.splitlines():
        if line.startswith("0::"):
            return _count("cgroup2", "memory.events", line[3:])
    return None


def _count(fstype: str, file_name: str, group: str) -> int | None:
    for root, mount_point in _mounts(fstype):
        # In a container the group may be named as the host sees it, above what is mounted here.
        below_root = group[len(root) :] if root != "/" and group.startswith(root) else group
        for folder in dict.fromkeys((below_root, group, "")):
            try:
                text = _read(f"{mount_point}/{folder.strip('/')}/{file_name}").decode("ascii", "replace")
            except OSError:
                continue
            return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)
    return None


@lru_cache(maxsize=2)
def _mounts(fstype: str) -> tuple[tuple[str, str], ...]:
    """(root, mount point) of every mounted hierarchy that can hold the memory controller."""
    found = []
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ()
    for line in lines:
        place, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind == fstype and (fstype == "cgroup2" or "memory" in options.split(",")):
            root, mount_point = place.split(" ")[3:5]
            found.append((root, mount_point))
    return tuple(found)


def peak_rss_bytes(pid: int) -> int:
    """The largest peak so far of a running process and its running descendants, each by itself; 0 when unknown."""
    peak = _peak_of(pid)
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - paths of /proc are read as plain text
    except OSError:
        return peak
    for task in tasks:
        try:
            children = _read(f"/proc/{pid}/task/{task}/children").split()
        except OSError:
            continue
        peak = max(peak, *(peak_rss_bytes(int(child)) for child in children), 0)
    return peak


def _peak_of(pid: int) -> int:
    try:
        status = _read(f"/proc/{pid}/status")
    except OSError:
        return 0
    _, _, rest = status.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) << 10 if rest else 0


def _read(path: str) -> bytes:
    """A file of /proc, in a quarter of the time of `open`: a running step is looked at many times."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)
