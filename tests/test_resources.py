"""What a process may use: sizes as people write them, and the limits of a real cgroup."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from osiris_core.resources import cpu_count, default_memory_budget_bytes, memory_bytes, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1000", 1000), (1000, 1000), ("1", 1), ("5B", 5), ("512MB", 512_000_000), ("512mb", 512_000_000),
        ("512 MB", 512_000_000), (" 2GiB ", 2 << 30), ("1.5GiB", 3 << 29), ("64k", 64_000), ("64K", 64_000),
        ("64KiB", 1 << 16), ("64Ki", 1 << 16), ("1T", 10**12), ("1TiB", 1 << 40), ("0.5k", 500),
        ("9007199254740993", 9007199254740993),
        ("0.1GB", 100_000_000), ("1.1MB", 1_100_000),
    ],
)  # fmt: skip
def test_sizes(text: str | int, size_bytes: int) -> None:
    """MB is a million, MiB is 2^20, case and blanks do not matter, and no byte is lost to rounding."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "0",
        0,
        -5,
        "-5",
        "0.1",
        "1e9",
        "1,5GB",
        "512XB",
        "5I",
        "5IB",
        "5BB",
        "ten",
        "1 2",
        "1..5",
        "٣",
        True,
        "inf",
    ],
)
def test_what_is_no_size(text: str | int) -> None:
    """Anything else is a ValueError that says how to write one."""
    with pytest.raises(ValueError, match="write 512MB"):
        parse_size(text)


def test_this_process() -> None:
    """At least one processor, no more than are here, and a memory that exists."""
    assert 1 <= cpu_count() <= len(os.sched_getaffinity(0))
    assert 0 < memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert default_memory_budget_bytes() == max(64 << 20, memory_bytes() // 4)


TELL = "from osiris_core.resources import *; print(cpu_count(), memory_bytes(), default_memory_budget_bytes())"


def told(**settings: str | int) -> list[int]:
    """What a fresh process says of itself under environment settings, an address-space limit, an affinity, cgroups."""
    limit_bytes, cpus, groups = (
        settings.pop("limit_bytes", 0),
        settings.pop("cpus", ""),
        str(settings.pop("groups", "")),
    )

    def enter() -> None:
        for group in groups.split():
            Path(group, "cgroup.procs").write_text(str(os.getpid()))
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (int(limit_bytes), int(limit_bytes)))
        if cpus:
            os.sched_setaffinity(0, {int(cpus)})

    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    run = subprocess.run(
        [sys.executable, "-c", TELL], capture_output=True, text=True, check=True, preexec_fn=enter, env=environment
    )
    return [int(part) for part in run.stdout.split()]


def test_the_smallest_limit_counts() -> None:
    """An address-space limit, an affinity and a batch allocation each bind."""
    assert told(limit_bytes=2 << 30)[1:] == [2 << 30, 1 << 29]
    assert told(cpus=str(min(os.sched_getaffinity(0))))[0] == 1
    assert told(SLURM_CPUS_ON_NODE=1, SLURM_MEM_PER_NODE=300)[:2] == [1, 300 << 20]
    assert told(SLURM_CPUS_ON_NODE=1, SLURM_MEM_PER_CPU=100)[1:] == [100 << 20, 64 << 20]
    assert told(SLURM_CPUS_ON_NODE="", SLURM_MEM_PER_NODE="unlimited")[0] == cpu_count()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a cgroup")
def test_a_real_cgroup_binds() -> None:
    """In a group with 256 MiB and one processor's quota, or below such a group, a process sees just that."""
    root = Path("/sys/fs/cgroup")
    name = f"osiris-test-{uuid.uuid4().hex[:8]}"
    unified = (root / "cgroup.controllers").exists()
    parents = [root / name] if unified else [root / "memory" / name, root / "cpu" / name]
    made: list[Path] = []
    try:
        for parent in parents:
            for folder in (parent, parent / "inner"):
                folder.mkdir()
                made.append(folder)
        if unified:
            (parents[0] / "memory.max").write_text("268435456")
            (parents[0] / "cpu.max").write_text("100000 100000")
        else:
            (parents[0] / "memory.limit_in_bytes").write_text("268435456")
            (parents[1] / "cpu.cfs_quota_us").write_text("100000")
    except OSError as exc:
        for folder in reversed(made):
            folder.rmdir()
        pytest.skip(f"no cgroup can be made here: {exc}")
    try:
        for folders in (parents if not unified else [], [parent / "inner" for parent in parents]):
            if folders:
                assert told(groups=" ".join(map(str, folders))) == [1, 256 << 20, 64 << 20]
    finally:
        for folder in reversed(made):
            folder.rmdir()
