"""Adapters that break one promise, or several at once: what the conformance kit has to find."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
from pydantic import ConfigDict, Field

from osiris_core import ExecutionError, LocalAdapter, LocalConfig, PreparationError, Problem, RunReport
from osiris_core.backends import ProcessAdapter
from osiris_core.collection import Run
from osiris_core.errors import SessionBusy
from osiris_core.records import RunSummary
from osiris_core.secrets import SecretValues

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core import ExecutionAdapter, ExecutionContext, PreparedRun
    from osiris_core.config import AdapterConfig
    from osiris_core.earlier_run import EarlierRun


def daemon(*argv: str) -> None:
    """A process that outlives everybody."""
    line = f"setsid {shlex.join(argv)} >/dev/null 2>&1 </dev/null &"
    subprocess.run(["/bin/sh", "-c", line], check=True)
    while [*argv] not in [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]:
        time.sleep(0.01)  # while it replaces its program it has no words to be known by


def marker_of(prepared: PreparedRun) -> str:
    """The seconds that its commands sleep, by which their processes are known."""
    found = re.search(r"sleep (\d{9,})", json.dumps(prepared.configs))
    assert found is not None
    return found[1]


class Results:
    """What a run left, to be damaged and written back: files, events and report agree with each other afterwards."""

    def __init__(self, session_dir: Path, report: dict[str, Any]) -> None:
        self.session_dir = session_dir
        self.report = json.loads(json.dumps(report))
        self.journal = session_dir / "events.jsonl"
        self.events = [json.loads(line) for line in self.journal.read_text(encoding="utf-8").splitlines()]

    def path(self, name: str) -> Path:
        return self.session_dir / "artifacts" / name

    def event(self, name: str, step_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """The last one of that name with these fields."""
        return [
            event
            for event in self.events
            if event["event"] == name and step_id in (None, event.get("step_id")) and fields.items() <= event.items()
        ][-1]

    def drop(self, event: dict[str, Any]) -> None:
        """As if it had never been written: the numbers have no gap."""
        self.events.remove(event)
        for other in self.events:
            if (other["origin"], other["attempt"]) == (event["origin"], event["attempt"]):
                other["seq"] -= other["seq"] > event["seq"]

    def step(self, step_id: str) -> dict[str, Any]:
        found: dict[str, Any] = next(step for step in self.report["steps"] if step["step_id"] == step_id)
        return found

    def reword(self, words: str, others: str) -> None:
        """Other words in the error of the report."""
        error = self.report["error"]
        assert words in error["message"], error
        error["message"] = error["message"].replace(words, others)

    def write(self) -> None:
        lines = [json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in self.events]
        self.journal.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
        text = json.dumps(self.report, ensure_ascii=False) + "\n"
        (self.session_dir / "status.json").write_text(text, encoding="utf-8", errors="backslashreplace")


class _Damaging:
    """Runs as it should, and damages what came of it."""

    damage: Callable[[Results], object] = staticmethod(lambda _: None)

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)  # type: ignore[misc]
        results = Results(Path(context.session_dir), report.to_json())
        self.damage(results)
        results.write()
        return RunReport(results.report)


class Local(LocalAdapter):
    """With no gap: a gap is not run, and here it is meant to fail."""

    known_gaps: ClassVar[Mapping[str, str]] = {}


class DamagingLocal(_Damaging, Local):
    pass


class DamagingProcess(_Damaging, ProcessAdapter):
    pass


def damaged(damage: Callable[[Results], object], adapter: type[Any] = DamagingLocal) -> Callable[..., ExecutionAdapter]:
    """A maker of adapters with such a damage."""

    def make(**settings: Any) -> ExecutionAdapter:
        made = adapter(adapter.Config(**settings))
        made.damage = damage
        found: ExecutionAdapter = made
        return found

    return make


class Idle(Local):
    """Says that all is done, and does nothing."""

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        return RunSummary(status="completed", steps=[])


class FirstProblemOnly(Local):
    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        try:
            return super().prepare(manifest, context)
        except PreparationError as exc:
            raise PreparationError(exc.problems[:1]) from None


class NeverResumes(Local):
    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        super().execute(prepared, replace(context, resume=False))


class Inherits(Local):
    """Gives a run what it did not declare."""

    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        more = {name: value for name, value in os.environ.items() if "UNDECLARED" in name}
        return super().prepare(manifest, replace(context, environment={**context.environment, **more}))


class Interrupts(Local):
    """Lets a step end the caller."""

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        try:
            super().execute(prepared, context)
        except ExecutionError as exc:
            raise KeyboardInterrupt from exc


class Deaf(Local):
    def cancel(self, reason: str = "") -> None:
        pass


# The contract proper.


class Sloven(DamagingLocal):
    """Breaks whatever can be broken around a run, at once."""

    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        Path(context.session_dir).mkdir(parents=True, exist_ok=True)
        prepared = super().prepare(manifest, context)
        prepared.manifest["seen"] = dict(context.environment)
        prepared.fingerprint = prepared.compute_fingerprint()
        return prepared

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        for value in context.environment.values():
            daemon("/bin/sh", "-c", f"sleep 3; : {value}")
        os.environ["CONFORMANCE_SLOVEN"] = "was here"
        return super().start(run, context)

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        folder = Path(context.session_dir)
        with (folder / "events.jsonl").open("a") as file:
            file.write((folder / "events.jsonl").read_text().splitlines()[0] + "\n")
        (folder / "artifacts/writes/copy.txt").write_bytes(b"changed")
        (folder / "artifacts.tar.gz").write_bytes(b"")
        (folder / "forgotten").touch()
        Path(run.prepared.input_files[0].source).write_bytes(b"changed")
        told = report.to_json()
        del told["overhead_ms"]
        told["timings"]["steps_ms"] += 5000
        return RunReport(told)


class Buffers(Local):
    """Has the journal in its place when all is over, and says nothing before."""

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        journal = Path(context.session_dir) / "events.jsonl"
        hidden = journal.rename(journal.with_name("hidden"))
        journal.with_name("status.json").unlink()
        try:
            return super().start(run, context)
        finally:
            hidden.rename(journal)


class OneFingerprint(Local):
    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        prepared = super().prepare(manifest, context)
        prepared.fingerprint = "sha256:0"
        return prepared


class Reseals(Local):
    """Runs whatever it is given."""

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        prepared.sources, prepared.input_files = [], []
        prepared.fingerprint = prepared.compute_fingerprint()
        super().execute(prepared, context)


class KnowsItsOwn(Local):
    """Runs only what it prepared itself."""

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._mine: list[PreparedRun] = []

    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        self._mine.append(super().prepare(manifest, context))
        return self._mine[-1]

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        if not any(prepared is mine for mine in self._mine):
            raise PreparationError([Problem("this is no run of mine")])
        super().execute(prepared, context)


class MakesUpValues(Local):
    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        given = {**dict.fromkeys(prepared.secret_names, "anything"), **prepared.secrets, **context.environment}
        prepared.secrets = SecretValues(given)
        super().execute(prepared, context)


class BadLoser(NeverResumes):
    """Takes nothing home from a run that failed, and is vague about it."""

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        try:
            super().execute(prepared, context)
        except ExecutionError:
            raise ExecutionError("something went wrong", failure_class="infra_lost") from None  # type: ignore[arg-type]

    def collect(self, prepared: PreparedRun, context: ExecutionContext) -> RunReport:
        if self._runs[context.session_dir].session is None:
            return RunReport({"status": "completed"})
        report = super().collect(prepared, context)
        if not report.succeeded:
            (Path(context.session_dir) / "artifacts/bad/kept.txt").unlink()
        return report


class LeavesADaemon(Local):
    """One more process, with the name of those that it ended."""

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        daemon("sleep", marker_of(run.prepared))
        for path in Path(context.session_dir).glob("artifacts/good/*.txt"):
            path.unlink()
        return report


class TakesOver(Local):
    """Sees no reason not to."""

    def run(self, manifest: Any, context: ExecutionContext | None = None) -> RunReport:
        try:
            return super().run(manifest, context)
        except SessionBusy:
            return RunReport({"status": "completed"})

    def attach(self, session_dir: Any, context: Any = None, *, cancel: str | None = None) -> RunReport:
        return RunReport({"status": "completed"})

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        results = Results(Path(context.session_dir), report.to_json())
        results.events.append({**results.events[-1], "attempt": 2, "seq": 1})
        results.path("naps/done.txt").unlink()
        results.write()
        return report


class OwnReasons(Local):
    def cancel(self, reason: str = "") -> None:
        super().cancel("for reasons of its own")


class Cursed(Local):
    """Once cancelled, it cancels whatever comes."""

    _cursed = False

    def cancel(self, reason: str = "") -> None:
        self._cursed = bool(self._runs)
        super().cancel(reason)

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        if self._cursed:
            run.cancel_reason = "it was cancelled before"
        return super().start(run, context)


class LeavesAtOnce(Local):
    """Ctrl-C: no report, no good-bye."""

    def run(self, manifest: Any, context: ExecutionContext | None = None) -> RunReport:
        assert context is not None
        prepared = self.prepare(manifest, context)
        self.execute(prepared, context)
        return self.collect(prepared, context)

    def close(self) -> None:
        pass


class Swallows(Local):
    """Ctrl-C is nobody's business but its own."""

    def run(self, manifest: Any, context: ExecutionContext | None = None) -> RunReport:
        assert context is not None
        try:
            return super().run(manifest, context)
        except KeyboardInterrupt:
            return RunReport(json.loads((Path(context.session_dir) / "status.json").read_text()))


class Dawdles(Local):
    """Takes its time when it has to end."""

    def release(self, run: Run) -> None:
        time.sleep(0.0 if run.error is None else 2.0)


class DoesItTwice(ProcessAdapter):
    """Attaches without a look at the worker that goes on: everything is done a second time, beside it."""

    @property
    def outlives_controller(self) -> bool:
        return False

    def _end_what_is_left(self, earlier: EarlierRun) -> None:
        """Not yet."""

    def _run_again(self, earlier: EarlierRun, context: ExecutionContext) -> RunReport:
        recorded = Path(context.session_dir) / "run.json"
        told = json.loads(recorded.read_text())
        recorded.write_text(json.dumps({name: value for name, value in told.items() if name != "token"}))
        run = self._runs[context.session_dir] = Run(earlier.prepared, extra={"attached": True})
        with suppress(ExecutionError):
            self.execute(run.prepared, replace(context, resume=False))
        report = self._collect_logged(context, run)
        super()._end_what_is_left(earlier)  # tidy it is
        return report


class Forgetful(Local):
    """Attaches, says another thing each time, and takes that down."""

    times = 0

    def attach(self, session_dir: Any, context: Any = None, *, cancel: str | None = None) -> RunReport:
        Forgetful.times += 1
        report = super().attach(session_dir, context, cancel=cancel).to_json()
        report.pop("attached", None)
        (Path(session_dir) / f"attached {Forgetful.times}").touch()
        return RunReport({**report, "attempt": 10 + Forgetful.times})


class Overloaded(Local):
    """Can do four things at a time, and mixes them up."""

    _at_once = 0
    _lock = threading.Lock()

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        with self._lock:
            self._at_once += 1
        try:
            if self._at_once > 4:
                raise ExecutionError("too many at once")
            return super().start(run, context)
        finally:
            with self._lock:
                self._at_once -= 1

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        with suppress(OSError):
            (Path(context.session_dir) / "artifacts/says/mine.txt").write_text("run-00\n")
        return report


class Splices(Local):
    """Puts values where a shell sees them."""

    def prepare(self, manifest: Any, context: ExecutionContext) -> PreparedRun:
        spliced = {name: value.replace("\n", " ").replace("'", "") for name, value in context.environment.items()}
        return super().prepare(manifest, replace(context, environment=spliced))


class PublishesWhatFailed(Local):
    """And nothing else."""

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(replace(context, publish_dir=None), run)
        if not report.succeeded:
            shutil.copytree(Path(context.session_dir) / "artifacts", str(context.publish_dir))
        return report


class KeepsNothing(Local):
    """What could be resumed from is gone when a run is over."""

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        for path in (Path(context.session_dir) / "checkpoints").rglob("*"):
            if path.is_file():
                path.unlink()
        return report


class Trusting(Local):
    """Believes whatever lies where it left something."""

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        journal = Path(context.session_dir) / "events.jsonl"
        for path in (Path(context.session_dir) / "checkpoints").rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                now, before = (sha256(data).hexdigest() for data in (content, content[::-1]))
                journal.write_text(journal.read_text().replace(before, now))
                if before in path.name:
                    path.rename(path.with_name(path.name.replace(before, now)))
        super().execute(prepared, context)


class LooseConfig(LocalConfig):
    model_config = ConfigDict(extra="ignore", frozen=False)

    region: str = Field(default="here", exclude=True)


class Loose(Local):
    """Takes any setting, explains none, and forgets them."""

    Config: ClassVar[type[AdapterConfig]] = LooseConfig


class LosesReasons(Local):
    """Cancels, and does not say why."""

    def cancel(self, reason: str = "") -> None:
        super().cancel("somebody wanted it")


class Hoards(Local):
    """Keeps all that a run printed in its memory."""

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        summary = super().start(run, context)
        self._printed = b"x" * 500_000_000
        return summary


class ReadsTheClock(Local):
    """Takes the time of a run off the wall."""

    def _collect_logged(self, context: ExecutionContext, run: Run) -> RunReport:
        report = super()._collect_logged(context, run)
        results = Results(Path(context.session_dir), report.to_json())
        results.report["timings"]["wall_ms"] = 1000 * (time.time() - self._started_s)
        results.write()
        return RunReport(results.report)

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:
        self._started_s = time.time()
        return super().start(run, context)


class ListsWhatIsNotThere(_Damaging, Local):
    """Lists an artifact that found no room."""

    @staticmethod
    def damage(it: Results) -> object:
        return it.report["artifacts"].append({"path": "fills/big.bin", "size_bytes": 1, "sha256": ""})
