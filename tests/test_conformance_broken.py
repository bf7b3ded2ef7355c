"""Every check of the conformance kit can fail: for each of them there is an adapter that it finds to be broken."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from osiris_core.testing import Arrival, Bench, checks_stops
from osiris_core.testing.candidate import Candidate
from osiris_core.testing.checks_faults import SECRET as LISTED
from osiris_core.testing.checks_settings import arrival_checks
from osiris_core.testing.conformance import shared_stage
from osiris_core.testing.parity_surroundings import SECRET
from tests import broken_adapters as broken
from tests.broken_adapters import DamagingProcess, Results, daemon, damaged
from tests.fault_checks import MACHINE_CHECKS
from tests.test_conformance import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osiris_core import ExecutionAdapter


@dataclass(frozen=True)
class Breakage:
    """An adapter, and words of what has to be found."""

    make: Callable[..., ExecutionAdapter]
    words: str


def of(adapter: type[Any], words: str, **settings: Any) -> Breakage:
    return Breakage(lambda **more: adapter(adapter.Config(**settings, **more)), words)


def after(damage: Callable[[Results], object], words: str) -> Breakage:
    return Breakage(damaged(damage), words)


def elsewhere(damage: Callable[[Results], object], words: str) -> Breakage:
    """For what does not happen on `local`."""
    return Breakage(damaged(damage, DamagingProcess), words)


def _leave_secret(it: Results) -> None:
    (it.session_dir / "rpc.log").write_bytes(base64.b64encode(f"x:{SECRET}:y".encode()))


def _leave_listing(it: Results) -> None:
    it.path("lists/listing.txt").write_text(quote(LISTED, safe=""))


def _leave_daemon(name: str) -> Callable[[Results], None]:
    marker = next(check.scenario.marker for check in ALL if check.name == name and check.scenario is not None)
    return lambda _: daemon("sleep", marker)


def _resound(step_id: str, **fields: Any) -> Callable[[Results], object]:
    return lambda it: it.step(step_id).update(fields)


SLOVEN = of(broken.Sloven, "")
BAD_LOSER = of(broken.BadLoser, "")
RESEALS = of(broken.Reseals, "steps were run: ['a']")
LATE = of(broken.LeavesADaemon, "")
FORGETFUL = of(broken.Forgetful, "")
BUFFERS = of(broken.Buffers, "")
DAWDLES = of(broken.Dawdles, "")
PUBLISHES_WHAT_FAILED = of(broken.PublishesWhatFailed, "")
OVERLOADED = of(broken.Overloaded, "")
TAKES_OVER = of(broken.TakesOver, "not SessionBusy")
LOOSE = of(broken.Loose, "", region="there")
FIRST_ONLY = of(broken.FirstProblemOnly, "")
IDLE = of(broken.Idle, "it ended completed, not timeout")


def like(breakage: Breakage, words: str) -> Breakage:
    """The same adapter, whose runs are shared, and what another check finds."""
    return Breakage(breakage.make, words)


BREAKAGES: dict[str, Breakage] = {
    # prepare
    "fingerprint-covers-all": of(broken.OneFingerprint, "does not tell another input file"),
    "every-problem-at-once": like(FIRST_ONLY, "nothing is said of 'shel'"),
    "seal-of-input": RESEALS,
    "seal-of-manifest": RESEALS,
    "seal-of-prepared": RESEALS,
    "runs-from-json": of(broken.KnowsItsOwn, "this is no run of mine"),
    "needs-its-values": of(broken.MakesUpValues, "was not refused by its name"),
    # one run, looked at closely
    "prepare-creates-nothing": like(SLOVEN, "prepare left"),
    "prepared-holds-no-secret": like(SLOVEN, "is in the prepared run"),
    "report-has-its-keys": like(SLOVEN, "the report has no 'overhead_ms'"),
    "status-is-true": like(SLOVEN, "status.json is not the report"),
    "books-balance": like(SLOVEN, "the times add up to"),
    "artifacts-are-verified": like(SLOVEN, "writes/copy.txt does not have the bytes"),
    "artifacts-archive": like(SLOVEN, "ReadError"),
    "collect-repeats": like(SLOVEN, "collecting again changed events.jsonl"),
    "journal-is-live": like(BUFFERS, "the journal did not have run.start"),
    "secret-is-in-no-file": like(SLOVEN, "run.json"),
    "secret-is-in-no-argv": like(SLOVEN, "is in the command line of process"),
    "caller-is-untouched": like(SLOVEN, "the run changed the environment"),
    "inputs-are-untouched": like(SLOVEN, "the run changed its input files: ['notes.txt']"),
    "nothing-is-left": like(SLOVEN, "forgotten was left"),
    # phases
    "collects-after-a-failure": like(BAD_LOSER, "bad/kept.txt did not come home"),
    "execute-raises-what-is-reported": like(BAD_LOSER, "execute raised an error of class infra_lost"),
    "phases-in-order": like(BAD_LOSER, "collect before execute raised nothing"),
    "session-runs-again": like(BAD_LOSER, "attempt 2, resumed, says of its steps"),
    "close-ends-what-runs": like(LATE, "processes that it started are alive"),
    "one-controller": TAKES_OVER,
    "attach-is-refused": TAKES_OVER,
    # stopping
    "cancel-reaches-every-run": of(broken.OwnReasons, "it was cancelled for the first reason, and says"),
    "cancel-is-no-curse": of(broken.Cursed, "it ended cancelled, not completed"),
    "interrupt-leaves-a-report": of(broken.LeavesAtOnce, "Ctrl-C left no report"),
    "timeout-leaves-nothing": like(LATE, "processes that it started are alive"),
    "timeout-keeps-what-was-done": like(LATE, "did not come home"),
    # after the controller was killed
    "attach-goes-on": like(FORGETFUL, "does not say that somebody attached"),
    "attach-again": like(FORGETFUL, "gave another report"),
    "orphan-is-cancelled": of(broken.Local, "processes that it started are alive"),
    "orphan-is-removed": of(broken.Local, "does not find what still runs"),
    # when something goes wrong
    "terminated-leaves-a-report": of(broken.LosesReasons, "it was ended by SIGTERM, and says"),
    "bytes-that-are-no-text": after(lambda it: it.path("prints/stdout.log").write_bytes(b"?"), "stdout.log has b'?'"),
    "environment-listing-is-masked": after(_leave_listing, "listing.txt"),
    "full-device-is-named": after(lambda it: it.reword("No space left on device", "?"), "is not in '"),
    "sparse-file-is-whole": after(lambda it: os.truncate(it.path("writes/holes.bin"), 1000), "came home as"),
    "endless-line-takes-no-memory": of(broken.Hoards, "bytes of memory"),
    "full-disk-here": of(broken.ListsWhatIsNotThere, "listed and there, but not both: ['fills/big.bin']"),
    "clock-jumps": of(broken.ReadsTheClock, "the times went with the clock"),
    # results
    "many-at-once": like(OVERLOADED, "too many at once"),
    "none-is-mixed-up": like(OVERLOADED, "has the file 'run-00\\n'"),
    "large-and-many-files": after(lambda it: os.truncate(it.path("writes/big.bin"), 1 << 20), "came home as others"),
    "odd-places": of(broken.Splices, "a value arrived as"),
    "outputs-are-published": like(PUBLISHES_WHAT_FAILED, "the declared output is not at"),
    "resumes-from-local": of(broken.NeverResumes, "not ['reused', 'completed']"),
    "resumes-on-local": of(broken.KeepsNothing, "not ['reused', 'completed']"),
    "damage-is-not-resumed": of(broken.Trusting, "it ended failed, not completed"),
    # settings
    "unknown-settings-are-refused": like(LOOSE, "the unknown setting 'codex' is accepted"),
    "settings-are-described": like(LOOSE, "the setting 'region' has no description"),
    "settings-survive-json": like(LOOSE, "give other settings"),
    # the same everywhere: data
    "linear": after(lambda it: it.path("write/out/by city.csv").write_bytes(b"\r\n"), "artifact files"),
    "fan-in": after(lambda it: it.event("step.event", "all")["data"].update(rows=1), "events of step 'all'"),
    "fan-out": after(lambda it: it.report["metrics"].update(rows_read=9), "metrics"),
    "command": after(lambda it: it.path("shell/stdout.log").write_bytes(b""), "artifact files"),
    "odd-names": after(lambda it: it.path("odd/new\nline.txt").rename(it.path("odd/newline.txt")), "newline.txt"),
    "raw-name": after(lambda it: next(it.path("raw").iterdir()).unlink(), "artifact files"),
    "links": after(lambda it: it.path("links/beside").unlink(), "links/beside"),
    "unicode": after(lambda it: it.event("step.event", "tells")["data"].update(text="?"), "events of step 'tells'"),
    "spill": after(lambda it: it.event("step.event", "sums")["data"].update(kind="Table"), "'kind': 'Table'"),
    "pool": after(lambda it: it.event("step.event", "pool")["data"]["squares"].reverse(), "events of step 'pool'"),
    "many-events": after(lambda it: it.events.remove(it.events[40_000]), "has the number"),
    "resumed": of(broken.NeverResumes, "'numbers': 'completed'"),
    # the same everywhere: failures
    "sql-error": after(lambda it: it.reword("line 2", "line 1"), "['line 2'] is not in the message"),
    "sql-conversion": after(lambda it: it.report["error"].update(failure_class="infra_lost"), "infra_lost"),
    "command-fails": after(lambda it: it.reword("code 3", "code 1"), "['code 3'] is not in the message"),
    "command-not-found": after(lambda it: it.reword("not-there-at-all", "?"), "is not in the message"),
    "command-killed": after(lambda it: it.reword("SIGSEGV", "139"), "['SIGSEGV'] is not in the message"),
    "csv-ragged": after(lambda it: it.reword("line 3", "line 2"), "['line 3'] is not in the message"),
    "csv-type": after(lambda it: it.reword("types.csv", "a file"), "['types.csv'] is not in the message"),
    "parquet-broken": after(lambda it: it.reword("no.parquet", "it"), "['no.parquet'] is not in the message"),
    "user-path": after(lambda it: it.reword("a file.txt", "/osiris/inputs/1"), "error: "),
    "exception": after(
        lambda it: it.report["error"].update(traceback=it.report["error"]["traceback"].replace("in _parse", "")),
        "'in _parse' is not in the traceback",
    ),
    "details": after(lambda it: it.report["error"].update(details={}), "error: "),
    "sys-exit": after(lambda it: it.report.update(status="completed"), "it ended completed, not failed"),
    "sys-exit-code": after(lambda it: it.reword("7", "1"), "['7'] is not in the message"),
    "interrupt": of(broken.Interrupts, "KeyboardInterrupt"),
    "exception-group": after(lambda it: it.report["error"].update(traceback=""), "error: "),
    "memory-error": after(lambda it: it.report["error"].update(failure_class="user_error"), "user_error"),
    "no-message": after(lambda it: it.report["error"].update(message=""), "['AssertionError'] is not in"),
    "wrong-type": after(lambda it: it.reword("a list", "something"), "['returned a list'] is not in"),
    "wrong-value": after(lambda it: it.step("bad").update(reason="because"), "steps: "),
    "keep-going": after(_resound("free-too", status="skipped"), "'free-too': 'skipped'"),
    "retry": after(_resound("flaky", attempts=1), "'attempts': 1"),
    "retries-used-up": after(lambda it: it.drop(it.event("step.retry", "bad")), "events of step 'bad'"),
    "timeout": after(_leave_daemon("timeout"), "processes that it started are alive"),
    "timeout-driver": after(_resound("slow", status="failed"), "'status': 'failed'"),
    "timeout-of-run": after(lambda it: it.reword("1 s", "its time"), "['1 s'] is not in the message"),
    "cancel": after(_leave_daemon("cancel"), "processes that it started are alive"),
    "cancel-driver": after(_resound("next", status="completed"), "'next': 'completed'"),
    "cancel-before": of(broken.Deaf, "it ended failed, not cancelled"),
    "missing-secret": like(FIRST_ONLY, "['PARITY_NOT_SET_B'] is not in"),
    "bad-manifest": like(FIRST_ONLY, "is not in"),
    # the same everywhere: surroundings
    "environment": of(broken.Inherits, "an undeclared variable came through"),
    "prints": elsewhere(lambda it: it.drop(it.event("log", message="from a child")), "'from a child' is not in"),
    "prints-at-import": elsewhere(lambda it: it.event("log", message="at import").update(message="?"), "is there 0"),
    "long-line": elsewhere(lambda it: it.drop(it.event("log", stream="stdout")), "bytes of the line came through"),
    "secret-in-exception": after(_leave_secret, "rpc.log"),
    "secret-in-command": after(lambda it: print(SECRET), "is in a stream"),
    # the same everywhere: crashes
    "segfault": elsewhere(lambda it: it.reword("SIGSEGV", "a signal"), "['SIGSEGV'] is not in the message"),
    "abort": elsewhere(lambda it: it.drop(it.event("step.error", "dies")), "the step's end is not told once"),
    "exit": elsewhere(lambda it: it.path("fine/sums.txt").unlink(), "what came before did not come home"),
    "killed": elsewhere(lambda it: it.report["error"].update(failure_class="user_error"), "user_error"),
    "holds-the-lock": IDLE,
    "stubborn": IDLE,
    "children-of-a-driver": elsewhere(_leave_daemon("children-of-a-driver"), "processes that it started are alive"),
    "compiled-by-osiris": after(lambda it: it.report.update(artifacts=[]), "report: "),
}


def _wreck_attached(it: Results) -> None:
    it.path("last/last.txt").write_bytes(b"others")
    it.report["timings"]["steps_ms"] += 5000
    it.step("naps")["status"] = "skipped"


def _wreck_cancelled(it: Results) -> None:
    it.reword("nobody wants it", "?")
    it.path("first/first.txt").unlink()


def _wreck_whole(it: Results) -> None:
    it.report.update(attempt="1", environment="another")
    it.report["artifacts"] = [item for item in it.report["artifacts"] if item["path"] != "writes/copy.txt"]
    for event in it.events:
        if event.get("message") == "with ***":
            event["message"] = "?"


def _wreck_late(it: Results) -> None:
    if "late" in {step["step_id"] for step in it.report["steps"]}:
        it.step("late")["status"] = "failed"
        it.report["error"]["failure_class"] = "infra_lost"


def _wreck_files(it: Results) -> None:
    it.path("writes/empty").write_bytes(b"not")
    it.path("writes/many/7").unlink()


WRECKED: tuple[tuple[Breakage, dict[str, tuple[str, ...]]], ...] = (
    (
        after(_wreck_attached, ""),
        {"attach-goes-on": ("last/last.txt is not there", "the times do not add up", "its steps are")},
    ),
    (elsewhere(_wreck_cancelled, ""), {"orphan-is-cancelled": ("the reason is not in", "did not come home")}),
    (
        after(_wreck_whole, ""),
        {
            "report-has-its-keys": ("'attempt' of the report is a str", "calls itself"),
            "artifacts-are-verified": ("writes/copy.txt is not in the report", "listed and there, but not both"),
            "secret-is-in-no-file": ("what the step printed of it is not masked",),
        },
    ),
    (
        after(_wreck_late, ""),
        {"timeout-leaves-nothing": ("it says",), "timeout-keeps-what-was-done": ("the steps are said to be",)},
    ),
    (after(_wreck_files, ""), {"large-and-many-files": ("the empty file is not", "of 300 files 299 came home")}),
)
"""Adapters that damage several things of one run, each of which is to be found."""

MORE: tuple[tuple[str, Breakage], ...] = (
    *(
        (name, like(wrecked, words))
        for wrecked, found in WRECKED
        for name, sentences in found.items()
        for words in sentences
    ),
    ("status-is-true", like(BUFFERS, "while it ran, status.json said nothing")),
    ("artifacts-are-verified", like(SLOVEN, "writes/copy.txt is not what the report says of it")),
    ("one-controller", like(TAKES_OVER, "its artifact is missing")),
    ("one-controller", like(TAKES_OVER, "somebody else's attempt is in the journal")),
    ("attach-is-refused", like(TAKES_OVER, "its artifact is missing")),
    ("interrupt-leaves-a-report", of(broken.Swallows, "Ctrl-C was not raised")),
    ("cancel-reaches-every-run", like(DAWDLES, "stopping took")),
    ("interrupt-leaves-a-report", like(DAWDLES, "stopping took")),
    ("attach-goes-on", of(broken.DoesItTwice, "its steps were started so many times: {'first': 2")),
    ("attach-again", like(FORGETFUL, "changed its files")),
    ("outputs-are-published", like(PUBLISHES_WHAT_FAILED, "a run that failed published")),
)
"""What else these checks find: of what matters most, each sentence on its own."""

_BENCHES: dict[Any, Bench] = {}


@pytest.fixture
def bench_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Breakage], Bench]]:
    """A bench for a broken adapter; the same one for all checks that it breaks."""

    def bench(breakage: Breakage) -> Bench:
        if breakage.make not in _BENCHES:
            folder, stage = tmp_path_factory.mktemp("broken"), shared_stage(tmp_path_factory)
            _BENCHES[breakage.make] = Bench(Candidate.of(breakage.make), folder, stage, runs_at_once=8)
        return _BENCHES[breakage.make]

    yield bench
    os.environ.pop("CONFORMANCE_SLOVEN", None)


def test_there_is_a_broken_adapter_for_every_check() -> None:
    """A check that nothing breaks proves nothing."""
    assert set(BREAKAGES) == {check.name for check in (*ALL, *MACHINE_CHECKS)}


@pytest.mark.parametrize("check", ALL, ids=[check.name for check in ALL])
def test_a_broken_adapter_is_found(check: Any, bench_of: Callable[[Breakage], Bench]) -> None:
    """And it is found for the reason for which it is broken."""
    breakage = BREAKAGES[check.name]
    verdict = bench_of(breakage).verdict(check)
    assert verdict.state == "fails"
    assert any(breakage.words in note for note in verdict.notes), verdict.notes


@pytest.mark.parametrize(("name", "breakage"), MORE, ids=[f"{name}: {found.words}" for name, found in MORE])
def test_all_of_it_is_found(
    name: str, breakage: Breakage, bench_of: Callable[[Breakage], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that has several things to say says each of them."""
    monkeypatch.setattr(checks_stops, "STOP_LIMIT_S", 1.5)
    check = next(check for check in ALL if check.name == name)
    verdict = bench_of(breakage).verdict(check)
    assert verdict.state == "fails"
    assert any(breakage.words in note for note in verdict.notes), verdict.notes


def test_a_setting_that_does_not_arrive_is_found(bench_of: Callable[[Breakage], Bench]) -> None:
    """Neither one that changes nothing, nor a line that is printed without it."""
    arrivals = {
        "lost": Arrival({"compress_artifacts": True}, "echo nothing", "something"),
        "vacuous": Arrival({"compress_artifacts": True}, "echo something", "something"),
    }
    lost, vacuous = (bench_of(of(broken.Local, "")).verdict(check) for check in arrival_checks(arrivals))
    assert "is not among them" in lost.notes[0]
    assert "also without the setting" in vacuous.notes[0]
