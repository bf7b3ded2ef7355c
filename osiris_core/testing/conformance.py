"""The conformance kit for pytest: one test for each check."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from osiris_core.testing.bench import Bench
from osiris_core.testing.candidate import Candidate
from osiris_core.testing.checks import CHECKS, unknown_gaps
from osiris_core.testing.checks_settings import arrival_checks
from osiris_core.testing.parity_stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.bench import Arrival
    from osiris_core.testing.check import Check

NAMED_GAP = "named gap: "
"""How the reason of a skip begins that says what an adapter cannot do at all."""
_STAGES: dict[Path, Stage] = {}
_BENCHES: dict[tuple[Path, type], Bench] = {}


def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """One for a session of tests: each scenario is run on `local` once, whatever is compared with it."""
    base = tmp_path_factory.getbasetemp()
    if base not in _STAGES:
        _STAGES[base] = Stage(base / "conformance")
    return _STAGES[base]


class AdapterConformance:
    """
    A subclass, named `Test…`, brings the adapter and names its gaps:

        class TestMine(AdapterConformance):
            known_gaps = {"holds-the-lock": "the place has one process only"}

            @pytest.fixture
            def adapter(self):
                return AdapterFactory.create("mine", region="here")

    The fixture gives an adapter, of whose kind the checks make as many as they need, or a function that makes one of
    keyword settings.

    Attributes:
        checks: What is checked; a subclass may add its own.
        known_gaps: What the adapter cannot do, by the name or tag of checks, each with the reason; beside what its
            class says itself.
        arrivals: How it shows that settings of its own reach the place of a run, by a name for each.
        runs_at_once: How many runs are started side by side.
    """

    checks: ClassVar[tuple[Check, ...]] = CHECKS
    known_gaps: ClassVar[Mapping[str, str]] = {}
    arrivals: ClassVar[Mapping[str, Arrival]] = {}
    runs_at_once: ClassVar[int] = 50

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """One test for each check, with a time limit that is above the check's own."""
        checks = (*cls.checks, *arrival_checks(cls.arrivals))
        if unknown := unknown_gaps(cls.known_gaps, checks):
            raise pytest.UsageError(f"{cls.__name__}.known_gaps names no check: {', '.join(unknown)}")
        if "check" in metafunc.fixturenames:
            params = [
                pytest.param(check, id=check.name, marks=pytest.mark.timeout(2 * check.limit_s)) for check in checks
            ]
            metafunc.parametrize("check", params)

    def left_behind(self, session_dir: Path) -> Iterable[str]:  # noqa: ARG002 - for who extends it
        """
        What of the runs of a session is still in the place though they are over: a container, a sandbox, a job.

        Asked also right after `prepare`, when the directory is not there and nothing may be anywhere.
        """
        return ()

    @pytest.fixture
    def adapter(self) -> ExecutionAdapter | Callable[..., ExecutionAdapter]:
        """The adapter under test."""
        raise NotImplementedError("a subclass brings the fixture `adapter`")

    @pytest.fixture
    def bench(self, adapter: ExecutionAdapter, tmp_path_factory: pytest.TempPathFactory) -> Bench:
        """One for all checks of the class; what `local` makes of a scenario is shared by all classes."""
        key = (tmp_path_factory.getbasetemp(), type(self))
        if key not in _BENCHES:
            _BENCHES[key] = Bench(
                Candidate.of(adapter),
                tmp_path_factory.mktemp(type(self).__name__),
                shared_stage(tmp_path_factory),
                known_gaps=self.known_gaps,
                left_behind=self.left_behind,
                runs_at_once=self.runs_at_once,
            )
        return _BENCHES[key]

    def test_keeps_its_promise(self, check: Check, bench: Bench) -> None:
        """What every adapter promises, this one keeps."""
        verdict = bench.verdict(check)
        if verdict.state == "gap":
            pytest.skip(NAMED_GAP + verdict.notes[0])
        if verdict.state == "fails":
            pytest.fail(f"{check.promise}:\n" + "\n".join(verdict.notes), pytrace=False)
