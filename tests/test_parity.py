"""The same everywhere: every parity scenario on every adapter that needs no account; and a suite that can fail."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from osiris_core import AdapterFactory
from osiris_core.testing import AdapterParity
from osiris_core.testing.parity_compare import Normaliser, differences, journal_faults, user_frames
from osiris_core.testing.parity_scenario import DRIVERS, Scenario, step
from osiris_core.testing.parity_scenarios import SCENARIOS, compiled_by_osiris
from osiris_core.testing.parity_stage import Stage
from tests.e2b_sandboxes import living_sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from osiris_core import ExecutionAdapter
    from osiris_core.testing.parity_outcome import Outcome
    from tests.e2b_server import FarEnd

SAMPLE = Path(__file__).parent / "data" / "osiris-trips"
ALL = (*SCENARIOS, compiled_by_osiris(SAMPLE))
COMMANDS_ONLY = tuple(item for item in ALL if item.steps and {step["driver"] for step in item.steps} == {"command"})


class TestLocal(AdapterParity):
    """Against itself: what differs from run to run on one adapter is no difference between two."""

    scenarios: ClassVar[tuple[Scenario, ...]] = ALL
    known_gaps: ClassVar[Mapping[str, str]] = {item.name: item.without_local for item in ALL if item.without_local}

    @pytest.fixture
    def adapter(self, code: tuple[str, ...]) -> Iterator[ExecutionAdapter]:
        with AdapterFactory.create("local", code=code) as adapter:
            yield adapter


class TestProcess(AdapterParity):
    scenarios: ClassVar[tuple[Scenario, ...]] = ALL

    @pytest.fixture
    def adapter(self, code: tuple[str, ...]) -> Iterator[ExecutionAdapter]:
        with AdapterFactory.create("process", code=code) as adapter:
            yield adapter


class TestDocker(AdapterParity):
    scenarios: ClassVar[tuple[Scenario, ...]] = ALL

    @pytest.fixture(autouse=True)
    def engine(self, docker_client: Any) -> None:
        self.client = docker_client

    @pytest.fixture
    def adapter(self, code: tuple[str, ...], worker_image: str) -> Iterator[ExecutionAdapter]:
        with AdapterFactory.create("docker", image=worker_image, code=code) as adapter:
            yield adapter

    def left_behind(self, outcome: Outcome) -> Iterator[str]:
        """Neither containers nor volumes."""
        mine = {"label": f"osiris.session_dir={outcome.session_dir}"}
        for container in self.client.containers.list(all=True, filters=mine):
            yield f"container {container.name} is {container.status}"
        for volume in self.client.volumes.list(filters=mine):
            yield f"volume {volume.name} is there"


class TestDockerHost(TestDocker):
    """`engine: host`: the commands of a run in containers, in an image that has nothing of ours."""

    scenarios: ClassVar[tuple[Scenario, ...]] = COMMANDS_ONLY
    known_gaps: ClassVar[Mapping[str, str]] = {
        "command-not-found": "only the container knows which programs it has, and says so in its own words"
    }

    @pytest.fixture
    def adapter(self, code: tuple[str, ...]) -> Iterator[ExecutionAdapter]:
        with AdapterFactory.create("docker", engine="host", image="osiris-base:bookworm", code=code) as adapter:
            yield adapter


class TestE2B(AdapterParity):
    """The real SDK, and a far end that `e2b_far_end` chooses: a server here, a real envd, or the cloud."""

    scenarios: ClassVar[tuple[Scenario, ...]] = ALL

    @pytest.fixture
    def adapter(self, code: tuple[str, ...], e2b_far_end: FarEnd) -> Iterator[ExecutionAdapter]:
        self.options = e2b_far_end.options
        with AdapterFactory.create("e2b", **e2b_far_end.options, code=code) as adapter:
            yield adapter

    def left_behind(self, outcome: Outcome) -> Iterator[str]:
        """No sandbox, running or paused."""
        if "session_id" in outcome.report:
            for sandbox_id in living_sandboxes(self.options, outcome.report["session_id"]):
                yield f"sandbox {sandbox_id} is alive"


class TestSlurm(AdapterParity):
    """One batch job for each scenario, on a real cluster."""

    scenarios: ClassVar[tuple[Scenario, ...]] = ALL
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def cluster(self, slurm_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.shared = tmp_path_factory.getbasetemp() / "slurm-parity"

    @pytest.fixture
    def adapter(self, code: tuple[str, ...]) -> Iterator[ExecutionAdapter]:
        with AdapterFactory.create("slurm", shared_dir=str(self.shared), code=code, **self.settings) as adapter:
            yield adapter

    def left_behind(self, outcome: Outcome) -> Iterator[str]:
        """Neither a job nor a folder."""
        for folder in self.shared.glob("runs/*"):
            yield f"{folder} is there"
        listed = subprocess.run(
            ["squeue", "-h", "-o", "%i %T %k"], capture_output=True, text=True, timeout=60, check=True
        )
        yield from (
            f"job {line}" for line in listed.stdout.splitlines() if "osiris:" in line and "COMPLETING" not in line
        )


CHOICE = (
    *(
        "linear",
        "fan-out",
        "odd-names",
        "resumed",
        "command-fails",
        "exception",
        "timeout-of-run",
        "cancel",
        "environment",
    ),
    *("prints", "long-line", "secret-in-command", "segfault", "killed", "children-of-a-driver"),
)
"""What a way to a worker can do wrong."""
FORKED = ("spill", "pool", "prints-at-import", "exit", "sql-error", "stubborn")
"""What being forked from a process that has everything imported can do wrong."""


class TestSlurmInteractive(TestSlurm):
    """Over the pipes of srun, with nothing shared."""

    scenarios: ClassVar[tuple[Scenario, ...]] = tuple(item for item in ALL if item.name in CHOICE)
    settings: ClassVar[Mapping[str, Any]] = {"mode": "interactive"}


class TestSlurmPilot(TestSlurm):
    """One after another in one pilot, whose process every run is forked from."""

    scenarios: ClassVar[tuple[Scenario, ...]] = tuple(item for item in ALL if item.name in (*CHOICE, *FORKED))

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls) -> Iterator[list[ExecutionAdapter]]:
        """The adapter, once it is made; its pilots are gone when it is closed."""
        made: list[ExecutionAdapter] = []
        yield made
        for adapter in made:
            adapter.close()

    @pytest.fixture
    def adapter(self, code: tuple[str, ...], made: list[ExecutionAdapter]) -> ExecutionAdapter:  # type: ignore[override]
        if not made:
            made.append(AdapterFactory.create("slurm", mode="pilot", shared_dir=str(self.shared), code=code))
        return made[0]

    def left_behind(self, outcome: Outcome) -> Iterator[str]:
        """The pilot lives on, its run does not."""
        yield from (f"{folder} is there" for folder in self.shared.glob("runs/*"))


# The suite itself can fail.

PROBE = Scenario(
    "probe",
    "a bit of everything",
    (
        step("numbers", "Numbers", {"rows": 3}),
        step("sums", "Sums", inputs={"df": "numbers"}),
        step("bad", "Fails", {"how": "chained"}, needs=["sums"]),
    ),
    status="failed",
)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return Stage(tmp_path_factory.mktemp("probe")).reference(PROBE)


def _event(outcome: Outcome, name: str, step_id: str | None = None) -> dict[str, Any]:
    return outcome.named(name, step_id)[-1]


def _swap(outcome: Outcome) -> None:
    one, other = _event(outcome, "artifact", "sums"), _event(outcome, "step.event", "sums")
    at, to = outcome.events.index(one), outcome.events.index(other)
    outcome.events[at], outcome.events[to] = other, one


def _edit_frame(outcome: Outcome) -> None:
    error = outcome.step("bad")["error"]
    error["traceback"] = error["traceback"].replace("in _parse", "in another")


def _edit_message(outcome: Outcome) -> None:
    outcome.report["error"]["message"] += "."


DAMAGES: dict[str, Callable[[Outcome], object]] = {
    "an event is missing": lambda it: it.events.remove(_event(it, "log", "bad")),
    "an event came twice": lambda it: it.events.insert(3, it.events[3]),
    "events are in another order": _swap,
    "an event has another value": lambda it: _event(it, "step.event", "sums")["data"].update(rows=4),
    "an event has a field more": lambda it: _event(it, "step.complete", "sums").update(surplus=1),
    "rows were counted otherwise": lambda it: it.report["metrics"].update(rows_read=9),
    "a file has other bytes": lambda it: it.tree.update({"sums/sums.txt": (*it.tree["sums/sums.txt"][:3], "00")}),
    "a file has another mode": lambda it: it.tree.update(
        {"sums/sums.txt": ("file", "0o100755", *it.tree["sums/sums.txt"][2:])}
    ),
    "a file is missing": lambda it: it.tree.pop("sums/sums.txt"),
    "a file is too many": lambda it: it.tree.update({"sums/more": ("file", "0o100644", "0", "e3")}),
    "the message differs": _edit_message,
    "the class differs": lambda it: it.report["error"].update(failure_class="infra_lost"),
    "a frame of the user's differs": _edit_frame,
    "a record differs": lambda it: it.step("numbers").update(attempts=2),
    "the status of a step differs": lambda it: it.step("numbers").update(status="reused"),
    "something was left in the session directory": lambda it: it.left.append("process-1"),
    "execute raised something else": lambda it: it.raised.update(type="RunTimeout") if it.raised else None,
    "nothing was raised": lambda it: setattr(it, "raised", None),
    "it was refused": lambda it: it.problems.append("no"),
    "another run was made of it": lambda it: it.report.update(fingerprint="sha256:0"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_difference_is_found(probe: Outcome, what: str) -> None:
    """Whatever a user could notice is a difference."""
    damaged = copy.deepcopy(probe)
    DAMAGES[what](damaged)
    assert [*differences(probe, damaged, lambda _: False), *journal_faults(damaged)]


HARMLESS: dict[str, Callable[[Outcome], object]] = {
    "nothing": lambda it: None,
    "times": lambda it: [event.update(ts="2000-01-01T00:00:00.000000Z") for event in it.events],
    "durations": lambda it: _event(it, "step.complete", "sums").update(execution_time_ms=9.9, memory_usage_mb=1.0),
    "ids": lambda it: [event.update(session_id="another") for event in it.events],
    "samples and heartbeats": lambda it: it.events.append(
        {"event": "metric", "origin": "engine", "attempt": 1, "seq": 99, "name": "memory_mb", "tags": {"sample": True}}
    ),
    "the adapter's name": lambda it: _event(it, "run.start").update(adapter="another"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_time_and_place_are_no_difference(probe: Outcome, what: str) -> None:
    """What belongs to the moment or the place is not compared."""
    changed = copy.deepcopy(probe)
    HARMLESS[what](changed)
    assert list(differences(probe, changed, lambda _: False)) == []


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("/tmp/s/artifacts/a/x.txt", "<session>/artifacts/a/x.txt"),
        ("/osiris/work/session/artifacts/a/x.txt: no", "<session>/artifacts/a/x.txt: no"),
        ("/tmp/s/process-1f/session/work/run-1/a.1", "<session>/work/run-1/a.1"),
        ("'/tmp/in/deep/er/a b.csv'", "'<inputs>/a b.csv'"),
        ("'/osiris/work/inputs/12/a b.csv'", "'<inputs>/a b.csv'"),
        ('File "/tmp/s/process-1f/code/mine.py", line 1', 'File "<code>/mine.py", line 1'),
        ('File "/tmp/c/mine.py", line 1', 'File "<code>/mine.py", line 1'),
        ("/etc/hostname and a/b", "/etc/hostname and a/b"),
    ],
)
def test_places_are_named_alike(text: str, normal: str) -> None:
    """A folder of one place and that of another have one name."""
    places = {"<session>": Path("/tmp/s"), "<inputs>": Path("/tmp/in"), "<code>": Path("/tmp/c")}
    assert Normaliser(places).text(text) == normal


def test_only_frames_of_the_user_are_compared(probe: Outcome) -> None:
    """Frames of the user's modules stay with their lines, and so does every message."""
    text = probe.step("bad")["error"]["traceback"]
    library = '  File "/usr/lib/python3.11/contextlib.py", line 1, in x\n    self.gen.throw()\n    ^^^\n'
    packed = '  File "osiris_core/drivers/parquet.py", line 1, in y\n    raise z\n'
    assert user_frames(library + packed + text) == user_frames(text)
    assert user_frames(text).count(f"{DRIVERS}.py") == 3
    assert "ValueError: invalid literal" in user_frames(text)


def test_a_gap_that_names_nothing_is_refused(pytester_like: Callable[[str], str]) -> None:
    """A known gap of a scenario that does not exist is an error, and one that does is a skip with its reason."""
    assert "known_gaps names no scenario: nonsense" in pytester_like("{'nonsense': 'x'}")
    assert "named gap: no SQL here" in pytester_like("{'linear': 'no SQL here'}")


THIRD_PARTY = """
import pytest
from osiris_core import LocalAdapter
from osiris_core.testing import AdapterParity
from osiris_core.testing.parity_scenarios import SCENARIOS

class Mine(LocalAdapter):
    name = "mine"

class TestMine(AdapterParity):
    scenarios = tuple(item for item in SCENARIOS if item.name in ("linear", "fan-in"))
    known_gaps = GAPS

    @pytest.fixture
    def adapter(self):
        with Mine() as adapter:
            yield adapter
"""


@pytest.fixture
def pytester_like(tmp_path: Path) -> Callable[[str], str]:
    """Runs the suite of somebody else's adapter, in a Python of its own; gives what pytest says."""
    import subprocess
    import sys

    def run(gaps: str) -> str:
        (tmp_path / "test_mine.py").write_text(THIRD_PARTY.replace("GAPS", gaps))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-rs",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path}/t",
            "test_mine.py",
        ]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        return result.stdout + result.stderr

    return run
