"""The benchmarks run; what they say is nobody's affair here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import ALL
from benchmarks.adapter_benchmark import EXAMPLE, AdapterBenchmark
from osiris_core import AdapterFactory
from osiris_core.backends import RemoteAdapter

ROOT = Path(__file__).resolve().parent.parent


IN_CONTAINERS = {"adapter_benchmark", "noop_run", "rpc_round_trip", "events_pipe", "docker_artifact", "attach"}
"""They measure Docker too, where it is; its image is made before, once."""


@pytest.mark.parametrize("name", ALL)
def test_a_benchmark_runs_at_small_size(tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    """Each benchmark alone prints its table, with `--quick`, and leaves nothing in the repository."""
    if name in IN_CONTAINERS:
        request.getfixturevalue("worker_image")
    if name == "slurm_run":
        request.getfixturevalue("slurm_cluster")
    before = {path.name for path in ROOT.iterdir()}
    environment = {**os.environ, "OSIRIS_BENCHMARK_DATA": str(tmp_path)}
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert [cell.strip() for cell in head.split("|")] == ["what", "ours", "yardstick", "ratio", "reach"]
    assert rows
    assert "not measured" not in result.stdout or name not in {*IN_CONTAINERS, "slurm_run"}
    assert {path.name for path in ROOT.iterdir()} - before <= {"__pycache__"}


def test_every_benchmark_is_run_by_the_target() -> None:
    """`make bench` leaves no benchmark out."""
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def measure(" in path.read_text()}
    assert modules <= set(ALL)


def test_round_trips_of_a_remote_adapter_are_measured(tmp_path: Path) -> None:
    """Any remote adapter's worker is asked, without a run, and is gone afterwards."""
    with AdapterFactory.create("process") as adapter:
        assert isinstance(adapter, RemoteAdapter)
        times_ms = AdapterBenchmark(tmp_path).benchmark_round_trip(adapter, 5)
    assert len(times_ms) == 5
    assert min(times_ms) > 0


def test_an_adapter_is_measured_phase_by_phase(tmp_path: Path) -> None:
    """The three benchmark methods do the three phases of whatever adapter they are given."""
    benchmark = AdapterBenchmark(tmp_path)
    with AdapterFactory.create("local") as adapter:
        prepare = benchmark.benchmark_prepare(adapter, EXAMPLE)
        execute = benchmark.benchmark_execute(adapter, prepare.value)
        collect = benchmark.benchmark_collect(adapter, prepare.value)
    assert collect.value["status"] == "completed"
    assert min(phase.wall_ms for phase in (prepare, execute, collect)) > 0
    assert collect.peak_rss_mib > 0
