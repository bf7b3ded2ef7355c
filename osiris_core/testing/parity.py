"""The parity suite: every scenario really runs on `local` and on an adapter, and what users see of both is equal."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, quote_plus

import pytest

from osiris_core.session import read_json
from osiris_core.testing.parity_compare import differences, journal_faults
from osiris_core.testing.parity_outcome import processes_with
from osiris_core.testing.parity_scenarios import SCENARIOS
from osiris_core.testing.parity_stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.testing.parity_outcome import Outcome
    from osiris_core.testing.parity_scenario import Scenario

NAMED_GAP = "named gap: "
"""How the reason of a skip begins that says what an adapter cannot do at all."""
_STAGES: dict[Path, Stage] = {}


class AdapterParity:
    """
    A subclass, named `Test…`, brings the adapter and names its gaps:

        class TestMine(AdapterParity):
            known_gaps = {"holds-the-lock": "the place has one process only"}

            @pytest.fixture
            def adapter(self, code):
                with AdapterFactory.create("mine", code=code) as adapter:
                    yield adapter

    Attributes:
        scenarios: What is run; a subclass may add its own.
        known_gaps: Scenarios that the adapter cannot do, by name, each with the reason.
    """

    scenarios: ClassVar[tuple[Scenario, ...]] = SCENARIOS
    known_gaps: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """One test for each scenario."""
        scenarios = getattr(metafunc.cls, "scenarios", ())
        if unknown := sorted(set(cls.known_gaps) - {scenario.name for scenario in scenarios}):
            raise pytest.UsageError(f"{cls.__name__}.known_gaps names no scenario: {', '.join(unknown)}")
        if "scenario" in metafunc.fixturenames:
            metafunc.parametrize("scenario", scenarios, ids=[scenario.name for scenario in scenarios])

    def left_behind(self, outcome: Outcome) -> Iterable[str]:  # noqa: ARG002 - for who extends it
        """What of a run that is over is still there, a sentence each: a container, a sandbox, a job."""
        return ()

    @pytest.fixture
    def stage(self, tmp_path_factory: pytest.TempPathFactory) -> Stage:
        """One for all adapters: `local` runs each scenario once."""
        folder = tmp_path_factory.getbasetemp() / "parity"
        if folder not in _STAGES:
            _STAGES[folder] = Stage(folder)
        return _STAGES[folder]

    @pytest.fixture
    def code(self, stage: Stage) -> tuple[str, ...]:
        """What the adapter's configuration names as `code`."""
        return (str(stage.code),)

    @pytest.fixture
    def adapter(self, code: tuple[str, ...]) -> Iterator[ExecutionAdapter]:
        """The adapter under test, new for every scenario."""
        raise NotImplementedError("a subclass brings the fixture `adapter`")

    def test_same_as_local(
        self,
        scenario: Scenario,
        adapter: ExecutionAdapter,
        stage: Stage,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """A run comes to the same end here as on `local`: artifacts, events, errors, records."""
        if scenario.name in self.known_gaps:
            pytest.skip(f"{NAMED_GAP}{self.known_gaps[scenario.name]}")
        reference = None if scenario.without_local else stage.reference(scenario)
        capfd.readouterr()
        outcome = stage.run(scenario, adapter)
        streams = capfd.readouterr()
        faults = [*_faults(scenario, outcome), *self.left_behind(outcome)]
        faults += _leaks(scenario, outcome, streams.out + streams.err)
        if reference is not None:
            faults += differences(reference, outcome, scenario.left_out)
        if faults:
            pytest.fail(f"{scenario.promise}:\n" + "\n".join(faults), pytrace=False)


def _faults(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """What is wrong with an outcome, whatever another adapter makes of the scenario."""
    if outcome.status != scenario.status:
        yield f"it ended {outcome.status}, not {scenario.status}: {outcome.problems or outcome.report.get('error')}"
        return
    yield from journal_faults(outcome)
    try:
        scenario.check(outcome)
    except AssertionError as exc:
        yield str(exc)
    if outcome.took_s > scenario.limit_s:
        yield f"it took {outcome.took_s:.1f} s, more than {scenario.limit_s:g} s"
    for words in filter(None, (scenario.marker, str(outcome.folder))):
        if living := processes_with(words):
            yield f"processes that it started are alive: {living}"
    if outcome.report and read_json(outcome.session_dir / "status.json") != outcome.report:
        yield "status.json is not the report"


def _leaks(scenario: Scenario, outcome: Outcome, streams: str) -> Iterator[str]:
    """Where a secret of the scenario's can be read."""
    forms = {form for secret in scenario.secrets for form in _forms(secret)}
    if not forms:
        return
    places = {"a stream": streams.encode(), "the error of execute": repr(outcome.raised).encode()}
    places.update({str(path): path.read_bytes() for path in outcome.folder.rglob("*") if path.is_file()})
    for place, content in places.items():
        yield from (f"a secret, as {form!r}, is in {place}" for form in sorted(forms) if form in content)


def _forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    for quoted in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield quoted.encode()
    for shift in range(3):  # wherever it stands in what was encoded; the ends depend on what is beside it
        yield base64.b64encode(b"\0" * shift + raw)[4:-4]
