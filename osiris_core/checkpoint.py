"""
Resuming: which outputs of an earlier attempt still hold, and why not.

A finished step writes the parts of its resume key into its `step.complete` event. Two attempts agree on a step when
every part is equal: driver and its version, configuration, declared variables and secret values (as slow salted
digests), input files, and the keys of the steps it reads. Kept outputs are addressed by their sha256 and verified
before they are believed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import marshal
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from osiris_core.driver import BUILTIN, DriverRegistry, config_model
from osiris_core.plan import execution_waves
from osiris_core.records import ArtifactRecord
from osiris_core.sealing import sha256_of
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from osiris_core.plan import StepPlan
    from osiris_core.prepared import PreparedRun

KEPT_SHARE = 0.1
"""`auto` keeps an output when that takes at most this share of what its step took."""
KEEP_BYTES_PER_S = 500e6
"""How fast an output is written and hashed, about."""


_BLIND = frozenset(BUILTIN) - {"command"}
"""Drivers that never look at the environment of a step."""


def digest(value: Any) -> str:
    """A short, stable digest of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class ResumeKeys:
    """The resume key of every step of a run, with its parts."""

    def __init__(self, prepared: PreparedRun, session_id: str, wait_for_digests: Callable[[], None]) -> None:
        steps = prepared.steps
        self._prepared = prepared
        self._salt = session_id.encode()
        self._wait_for_digests = wait_for_digests
        self._parts: dict[str, dict[str, Any]] = {}
        self._steps = {step.id: step for step in steps}
        self._environment = substitute(prepared.environment, prepared.secrets)
        self._files: dict[str, list[Any]] = {}
        for file in prepared.input_files:
            self._files.setdefault(file.step_id, []).append(file)

    def parts(self, step_id: str) -> dict[str, Any]:
        """The parts of a step's key. Waits for the digests of its input files."""
        if step_id not in self._parts:
            self._parts[step_id] = self._compute(self._steps[step_id])
        return self._parts[step_id]

    def key(self, step_id: str) -> str:
        return digest(self.parts(step_id))

    def _compute(self, step: StepPlan) -> dict[str, Any]:
        parts: dict[str, Any] = {"driver": driver_identity(step.driver)}
        if step.config:
            connection = self._prepared.connections.get(str(step.config.get("connection")))
            parts["config"] = digest([step.config, connection])
            names = {name for name, _ in references([dict(step.config), connection])}
            values = [self._prepared.secrets.get(name, "") for name in sorted(names)]
            if values:
                # Slow on purpose: the digest stands in a file, and secrets can be short.
                parts["values"] = _slow_digest("\0".join(values), self._salt)
        if self._prepared.environment and step.driver not in _BLIND:
            values = [f"{name}={value}" for name, value in sorted(self._environment.items())]
            parts["environment"] = _slow_digest("\0".join(values), self._salt)
        if files := self._files.get(step.id):
            if not all(file.sha256 for file in files):
                self._wait_for_digests()
            # A file that changed during the run has no digest, and equals nothing later.
            parts["files"] = {file.path: file.sha256[:24] or f"changed-{token_hex(8)}" for file in files}
        if step.inputs:
            parts["inputs"] = {name: [self.key(item.from_step), item.key] for name, item in sorted(step.inputs.items())}
        return parts


@lru_cache(maxsize=1024)
def _slow_digest(text: str, salt: bytes) -> str:
    return hashlib.scrypt(text.encode("utf-8", "surrogatepass"), salt=salt, n=1 << 13, r=8, p=1, dklen=12).hex()


def driver_identity(name: str) -> str:
    """Name and version of a driver; of one that is not built in, the digest of its source as well."""
    driver: Any = DriverRegistry.get(name)
    version = getattr(driver, "version", "1")
    return f"{name}@{version}" if name in BUILTIN else f"{name}@{version}+{_source_digest(driver)}"


@lru_cache(maxsize=1024)
def _source_digest(driver: type[Any]) -> str:
    try:
        source = Path(inspect.getfile(driver)).read_bytes()
    except (OSError, TypeError):  # typed in a notebook: there is its code and no file
        functions = [value.__code__ for value in vars(driver).values() if inspect.isfunction(value)]
        source = b"".join(map(marshal.dumps, functions))
    return hashlib.sha256(source).hexdigest()[:16]


@dataclass
class Finished:
    """What an earlier attempt left of one step."""

    parts: dict[str, Any]
    outputs: dict[str, dict[str, Any]]
    artifacts: list[ArtifactRecord]
    record: dict[str, Any]
    position: int


@dataclass
class ResumePlan:
    """
    Which steps run (with the reason), and which are taken over.

    `differs` names what decided that of a step: a part of its key (`driver`, `config`, `values`, `environment`,
    `files`, `inputs`), or `completion`, `artifacts`, `outputs` (one was not kept), `upstream` (a step that may give
    another result, or change what this one looks at). `before` is what was left of each step.
    """

    runs: dict[str, str] = field(default_factory=dict)
    reused: dict[str, Finished] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)
    before: Mapping[str, Finished] = field(default_factory=dict)


def finished_steps(events: Iterable[Mapping[str, Any]]) -> dict[str, Finished]:
    """The last completion of each step that a journal knows of, with its artifacts."""
    found: dict[str, Finished] = {}
    artifacts: dict[str, list[ArtifactRecord]] = {}
    for position, event in enumerate(events):
        step_id = event.get("step_id")
        if not isinstance(step_id, str):
            continue
        if event["event"] == "step.start":
            artifacts[step_id] = []
            found.pop(step_id, None)
        elif event["event"] == "artifact":
            record = ArtifactRecord(step_id, event["path"], event["size_bytes"], event["sha256"])
            artifacts.setdefault(step_id, []).append(record)
        elif event["event"] == "step.complete" and "resume" in event:
            outputs = {name: item if isinstance(item, dict) else {} for name, item in event.get("outputs", {}).items()}
            found[step_id] = Finished(event["resume"], outputs, artifacts.get(step_id, []), dict(event), position)
    return found


def plan_resume(
    steps: Iterable[StepPlan],
    keys: ResumeKeys,
    finished: Mapping[str, Finished],
    artifacts_dir: Path,
    checkpoints_dir: Path,
    elsewhere: Container[str] = frozenset(),
) -> ResumePlan:
    """
    Decide for each step whether it runs again. Verifies the bytes of all that is to be taken over, but for artifacts
    (`artifacts/<step id>/…`) that were verified `elsewhere`.

    A step runs again when its key differs, when something it left is gone or changed, when a step that runs again
    reads an output of it that was not kept, or when what it reads may be another since it ran: a step that is not
    deterministic ran or runs again, there or further up. One that is not deterministic itself runs again, too, when a
    step that it needs did or does, directly or further up: what it looks at may be another then.
    """
    ordered = [step for wave in execution_waves(steps) for step in wave]
    found = {step.id: what for step in ordered if (what := _differs(step, keys, finished, artifacts_dir, elsewhere))}
    runs = {step_id: reason for step_id, (_, reason) in found.items()}
    differs = {step_id: part for step_id, (part, _) in found.items()}
    kept = _KeptOutputs(finished, checkpoints_dir)
    stable = {step.id: is_deterministic(step.driver, step.config) for step in ordered}
    grew = True
    while grew:
        before = len(runs)
        _run_what_follows_others(ordered, finished, stable, runs)
        differs |= dict.fromkeys(runs.keys() - differs.keys(), "upstream")
        for step in reversed(ordered):
            for item in step.inputs.values() if step.id in runs else ():
                missing = kept.missing(item.from_step, item.key) if item.from_step not in runs else None
                if missing is not None:
                    differs[item.from_step] = "outputs"
                    runs[item.from_step] = f"step '{step.id}' reads its output '{missing}', which was not kept"
        grew = len(runs) > before
    reused = {step.id: finished[step.id] for step in ordered if step.id not in runs}
    return ResumePlan(runs, reused, differs, finished)


def _run_what_follows_others(
    ordered: Iterable[StepPlan], finished: Mapping[str, Finished], stable: Mapping[str, bool], runs: dict[str, str]
) -> None:
    """
    Add to `runs` each step that read something which may be another since then, or that looks at the world (it is
    not deterministic) and needs a step which may have changed that since.
    """
    # For each step, where in the journal its result may last have become another one, and the step that did it;
    # and where a step that it needs, directly or further up, last ran.
    changed: dict[str, tuple[float, str]] = {}
    moved: dict[str, tuple[float, str]] = {}

    def ran_at(step_id: str) -> float:
        return math.inf if step_id in runs else finished[step_id].position

    for step in ordered:
        sources = dict.fromkeys(item.from_step for item in step.inputs.values())
        position, origin = max((changed[source] for source in sources), default=(-1.0, step.id))
        ahead = [(ran_at(need), need) for need in step.needs]
        moved_at, mover = max([*ahead, *(moved[name] for name in step.upstream)], default=(-1.0, step.id))
        if position > ran_at(step.id):
            runs[step.id] = f"step '{origin}' {_when(origin, runs)} and may give another result"
        elif not stable[step.id] and moved_at > ran_at(step.id):
            runs[step.id] = f"it needs step '{mover}', which {_when(mover, runs)}, and may see what that did"
        moved[step.id] = moved_at, mover
        changed[step.id] = position, origin
        if not stable[step.id]:
            changed[step.id] = max((position, origin), (ran_at(step.id), step.id))


def _when(step_id: str, runs: Mapping[str, str]) -> str:
    return "runs again" if step_id in runs else "ran again since"


class _KeptOutputs:
    """Which outputs of finished steps can be taken over; each file is verified once."""

    def __init__(self, finished: Mapping[str, Finished], checkpoints_dir: Path) -> None:
        self._finished = finished
        self._checkpoints_dir = checkpoints_dir
        self._verified: dict[str, bool] = {}

    def missing(self, step_id: str, key: str | None) -> str | None:
        """The name of an output that cannot be taken over, or None: of `key`, or of all where it names none of them."""
        outputs = self._finished[step_id].outputs
        for name in [key] if key in outputs else outputs:
            if not self._is_kept(outputs[name]):
                return name
        return None

    def _is_kept(self, output: Mapping[str, Any]) -> bool:
        if "json" in output:
            return True
        sha256 = str(output.get("checkpoint", ""))
        if sha256 and sha256 not in self._verified:
            path = self._checkpoints_dir / f"{sha256}.arrow"
            self._verified[sha256] = path.is_file() and sha256_of(path) == sha256
        return self._verified.get(sha256, False)


def _differs(
    step: StepPlan,
    keys: ResumeKeys,
    finished: Mapping[str, Finished],
    artifacts_dir: Path,
    elsewhere: Container[str],
) -> tuple[str, str] | None:
    """Why what is left of a step does not hold (what decided it, and in words), or None."""
    before = finished.get(step.id)
    if before is None:
        return "completion", "it did not complete before"
    now = keys.parts(step.id)
    for part in sorted({*now, *before.parts}, key=lambda part: (part == "environment", part)):
        if now.get(part) != before.parts.get(part):
            return part, _explain(part, before.parts.get(part), now.get(part))
    for record in before.artifacts:
        path = artifacts_dir / record.path
        if f"artifacts/{record.path}" in elsewhere:
            continue
        if not path.is_file() or path.stat().st_size != record.size_bytes or sha256_of(path) != record.sha256:
            return "artifacts", f"its artifact {record.path} is gone or was changed"
    return None


def _explain(part: str, before: Any, now: Any) -> str:
    if part == "driver":
        return f"its driver changed: {before} before, {now} now"
    if part == "files":
        names = sorted({*(before or {}), *(now or {})})
        changed = [name for name in names if (before or {}).get(name) != (now or {}).get(name)]
        return f"an input file changed: {', '.join(changed)}"
    if part == "inputs":
        names = sorted({*(before or {}), *(now or {})})
        changed = [name for name in names if (before or {}).get(name) != (now or {}).get(name)]
        return f"what it reads changed: input {', '.join(changed)}"
    if part == "environment":
        return "the variables declared for the run changed"
    return {"config": "its configuration changed", "values": "a value that its configuration refers to changed"}.get(
        part, f"its {part} changed"
    )


def changed_settings(
    before: Finished | None, recorded: Mapping[str, Any], prepared: PreparedRun, step_id: str
) -> list[str]:
    """
    The keys of a step's configuration that are others than when it completed; none where nobody can tell.

    `recorded` is the earlier run as it was written down: only if it is the very one in which the step completed.
    """
    config, now = (recorded.get("configs") or {}).get(step_id, {}), prepared.configs.get(step_id, {})
    connections = recorded.get("connections") or {}
    connection = connections.get(str(config.get("connection")))
    if before is None or before.parts.get("config") != digest([config, connection]):
        return []
    changed = {name for name in {*config, *now} if config.get(name) != now.get(name)}
    if connection != prepared.connections.get(str(now.get("connection"))):
        changed.add("connection")
    return sorted(changed)


def is_deterministic(driver_name: str, config: Mapping[str, Any]) -> bool:
    """Whether a step gives the same bytes for the same inputs, by its driver's own word."""
    driver = DriverRegistry.get(driver_name)
    judge = getattr(driver, "is_deterministic", None)
    model = config_model(driver)
    if judge is not None and model is not None:
        try:
            return bool(judge(model.model_validate(substitute(dict(config), {}))))
        except Exception:  # noqa: BLE001 - a user's model or judge may raise anything; only its word is a promise
            return False
    return bool(getattr(driver, "deterministic", False))
