"""Every promise of the contract, and the same everywhere: the conformance kit on each adapter that needs no account."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from osiris_core import AdapterFactory
from osiris_core.factory import BUILTIN
from osiris_core.testing import AdapterConformance, Arrival
from osiris_core.testing.checks import CHECKS, unknown_gaps
from osiris_core.testing.parity import parity_check
from osiris_core.testing.parity_scenarios import SCENARIOS, compiled_by_osiris
from tests.e2b_sandboxes import living_sandboxes
from tests.fault_checks import CHECKS_HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from osiris_core import ExecutionAdapter
    from osiris_core.testing import Check
    from tests.e2b_server import FarEnd

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "data" / "osiris-trips"
CGROUP = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
ALL = (*CHECKS, parity_check(compiled_by_osiris(SAMPLE)), *CHECKS_HERE)


class TestLocal(AdapterConformance):
    """Against itself: what differs from run to run on one adapter is no difference between two."""

    checks: ClassVar[tuple[Check, ...]] = ALL

    @pytest.fixture
    def adapter(self) -> ExecutionAdapter:
        return AdapterFactory.create("local")


class TestProcess(AdapterConformance):
    checks: ClassVar[tuple[Check, ...]] = ALL

    @pytest.fixture
    def adapter(self) -> ExecutionAdapter:
        return AdapterFactory.create("process")


class TestFallback(AdapterConformance):
    """A chain, whose first target can be had: it keeps the promises of that one."""

    checks: ClassVar[tuple[Check, ...]] = ALL

    @pytest.fixture
    def adapter(self) -> ExecutionAdapter:
        return AdapterFactory.create("fallback", chain=["process", "local"])


class TestDocker(AdapterConformance):
    checks: ClassVar[tuple[Check, ...]] = ALL
    arrivals: ClassVar[Mapping[str, Arrival]] = {
        "memory": Arrival({"memory": "300m"}, CGROUP, str(300 << 20)),
        "env_vars": Arrival({"env_vars": {"CONFORMANCE": "arrived"}}, 'echo "$CONFORMANCE"', "arrived"),
    }

    @pytest.fixture(autouse=True)
    def engine(self, docker_client: Any) -> None:
        self.client = docker_client

    @pytest.fixture
    def adapter(self, worker_image: str) -> ExecutionAdapter:
        return AdapterFactory.create("docker", image=worker_image)

    def left_behind(self, session_dir: Path) -> Iterator[str]:
        """Neither containers nor volumes; asked of the engine, and not of the adapter."""
        mine = {"label": f"osiris.session_dir={session_dir}"}
        for container in self.client.containers.list(all=True, filters=mine):
            yield f"container {container.name} is {container.status}"
        for volume in self.client.volumes.list(filters=mine):
            yield f"volume {volume.name} is there"


class TestDockerHost(TestDocker):
    """`engine: host`: the commands of a run in containers, in an image that has nothing of ours."""

    @pytest.fixture
    def adapter(self) -> ExecutionAdapter:
        return AdapterFactory.create("docker", engine="host", image="osiris-base:bookworm")


class TestE2B(AdapterConformance):
    """The real SDK, and a far end that the configuration chooses: a server here, a real envd, or the cloud."""

    checks: ClassVar[tuple[Check, ...]] = ALL
    runs_at_once: ClassVar[int] = 18  # the smallest plan has twenty sandboxes

    @pytest.fixture
    def adapter(self, lasting_e2b_far_end: FarEnd) -> ExecutionAdapter:
        self.options = lasting_e2b_far_end.options
        return AdapterFactory.create("e2b", **lasting_e2b_far_end.options)

    def left_behind(self, session_dir: Path) -> Iterator[str]:
        """No sandbox, running or paused."""
        for sandbox_id in living_sandboxes(self.options, session_dir.name):
            yield f"sandbox {sandbox_id} is alive"


class TestSlurm(AdapterConformance):
    """A batch job for each run, on a real cluster."""

    checks: ClassVar[tuple[Check, ...]] = ALL
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def adapter(self, slurm_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> ExecutionAdapter:
        self.shared = tmp_path_factory.getbasetemp() / "slurm-conformance"
        return AdapterFactory.create("slurm", shared_dir=str(self.shared), **self.settings)

    def left_behind(self, session_dir: Path) -> Iterator[str]:
        """Neither a job nor a folder; other runs of this cluster are none of ours."""
        record = session_dir / "run.json"  # not there before a run has begun
        token = json.loads(record.read_text(encoding="utf-8")).get("token") if record.exists() else None
        for folder in (*self.shared.glob("runs/*"), *self.shared.glob("arrays/*")):
            yield f"{folder} is there"
        listed = subprocess.run(
            ["squeue", "-h", "-o", "%i %T %k"], capture_output=True, text=True, timeout=60, check=True
        )
        mine = [line for line in listed.stdout.splitlines() if token and f"osiris:{token}" in line]
        yield from (f"job {line}" for line in mine if "COMPLETING" not in line)


CHOICE = (
    *("linear", "fan-out", "odd-names", "resumed", "command-fails", "exception", "timeout-of-run", "cancel"),
    *("environment", "prints", "long-line", "secret-in-command", "segfault", "killed", "children-of-a-driver"),
)
"""What a way to a worker can do wrong."""
FORKED = ("spill", "pool", "prints-at-import", "exit", "sql-error", "stubborn")
"""What being forked from a process that has everything imported can do wrong."""


class TestSlurmArray(TestSlurm):
    """As an element of a job array, which has one for all."""

    checks: ClassVar[tuple[Check, ...]] = tuple(check for check in ALL if check.name in CHOICE)
    settings: ClassVar[Mapping[str, Any]] = {"mode": "array"}


class TestSlurmInteractive(TestSlurm):
    """Over the pipes of srun, with nothing shared."""

    checks: ClassVar[tuple[Check, ...]] = tuple(check for check in ALL if check.name in CHOICE)
    settings: ClassVar[Mapping[str, Any]] = {"mode": "interactive"}


class TestSlurmPilot(TestSlurm):
    """In a pilot, whose process every run is forked from."""

    checks: ClassVar[tuple[Check, ...]] = tuple(check for check in ALL if check.name in (*CHOICE, *FORKED))
    settings: ClassVar[Mapping[str, Any]] = {"mode": "pilot"}


def test_local_says_why_a_scenario_is_none_of_its_own() -> None:
    """What cannot be run on `local` for a comparison is a gap of it, and nothing else of the parity scenarios is."""
    gaps = AdapterFactory.create("local").known_gaps
    scenarios = {scenario.name: scenario.without_local for scenario in SCENARIOS}
    assert {name for name in gaps if name in scenarios} == {name for name, reason in scenarios.items() if reason}


def test_every_check_has_a_name_of_its_own() -> None:
    """By which it is asked for; no tag is a check's name."""
    names = [check.name for check in ALL]
    assert len(set(names)) == len(names) >= 60
    assert not {tag for check in ALL for tag in check.tags} & set(names)


def test_the_gaps_of_the_readme_are_true() -> None:
    """It lists every gap of every adapter of ours, with the reason that the adapter gives, and no other."""
    text = (ROOT / "README.md").read_text()
    _, _, table = text.partition("| adapter | cannot do | because |\n")
    told: dict[str, dict[str, str]] = {}
    for row in re.findall(r"^\| `(.*?)` \| (`.*`) \| (.*) \|$", table.partition("\n\n")[0], re.MULTILINE):
        told.setdefault(row[0], {}).update(dict.fromkeys(re.findall(r"`(.+?)`", row[1]), row[2]))
    adapters = {name: AdapterFactory.create(name) for name in BUILTIN}
    adapters["docker` with `engine: host"] = AdapterFactory.create("docker", engine="host", image="any")
    assert told == {name: dict(adapter.known_gaps) for name, adapter in adapters.items() if adapter.known_gaps}
    assert not [gap for adapter in adapters.values() for gap in unknown_gaps(adapter.known_gaps, CHECKS)]


def test_the_page_tells_of_every_check() -> None:
    """Of each of the contract, by name and promise; and how many there are."""
    page = (ROOT / "docs/conformance.md").read_text()
    rows = re.findall(r"^\| (.*) \| `(.*)` \| (.*) \|$", page, re.MULTILINE)
    contract = [(check.topic, check.name, check.promise) for check in CHECKS if check.scenario is None]
    assert [row for row in rows if row[1] in {check.name for check in CHECKS}] == contract
    told = re.search(r"all of them: (\d+), of which (\d+) are\s.*? and (\d+) are", page, re.DOTALL)
    assert told is not None
    assert [int(number) for number in told.groups()] == [len(CHECKS), len(CHECKS) - len(contract), len(contract)]
    assert f"runs {len(CHECKS)} checks" in (ROOT / "README.md").read_text()


def test_a_gap_is_named(pytest_of: Callable[[str], str]) -> None:
    """A known gap of a check that does not exist is an error, and one that does is a skip with its reason."""
    assert "known_gaps names no check: nonsense" in pytest_of("{'nonsense': 'x'}")
    told = pytest_of("{'linear': 'no SQL here'}")
    assert "named gap: no SQL here" in told
    assert "1 passed, 1 skipped" in told


THIRD_PARTY = """
import pytest
from osiris_core import LocalAdapter
from osiris_core.testing import AdapterConformance
from osiris_core.testing.checks import CHECKS, unknown_gaps

class Mine(LocalAdapter):
    name = "mine"

class TestMine(AdapterConformance):
    checks = tuple(check for check in CHECKS if check.name in ("linear", "fan-in"))
    known_gaps = GAPS

    @pytest.fixture
    def adapter(self):
        return lambda **settings: Mine(Mine.Config(**settings))
"""


@pytest.fixture
def pytest_of(tmp_path: Path) -> Callable[[str], str]:
    """Runs the kit on somebody else's adapter, in a Python of its own; gives what pytest says."""

    def run(gaps: str) -> str:
        (tmp_path / "test_mine.py").write_text(THIRD_PARTY.replace("GAPS", gaps))
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/t"]
        result = subprocess.run(
            [*command, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        return result.stdout + result.stderr

    return run
