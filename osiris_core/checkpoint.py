"""
Resuming: which outputs of an earlier attempt still hold, and why not.

A finished step writes the parts of its resume key into its `step.complete` event. Two attempts agree on a step when
every part is equal: driver and its version, configuration, secret values (as a slow salted digest), input files,
and the keys of the steps it reads. Kept outputs are addressed by their sha256 and verified before they are believed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.driver import BUILTIN, DriverRegistry, config_model
from osiris_core.plan import execution_waves
from osiris_core.records import ArtifactRecord
from osiris_core.sealing import sha256_of
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from osiris_core.plan import StepPlan
    from osiris_core.prepared import PreparedRun

KEPT_SHARE = 0.1
"""`auto` keeps an output when that takes at most this share of what its step took."""
KEEP_BYTES_PER_S = 500e6
"""How fast an output is written and hashed, about."""


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
        if files := self._files.get(step.id):
            if not all(file.sha256 for file in files):
                self._wait_for_digests()
            parts["files"] = {file.path: file.sha256[:24] for file in files}
        if step.inputs:
            parts["inputs"] = {name: [self.key(item.from_step), item.key] for name, item in sorted(step.inputs.items())}
        return parts


@lru_cache(maxsize=1024)
def _slow_digest(text: str, salt: bytes) -> str:
    return hashlib.scrypt(text.encode("utf-8", "surrogatepass"), salt=salt, n=1 << 13, r=8, p=1, dklen=12).hex()


@lru_cache(maxsize=1024)
def driver_identity(name: str) -> str:
    """Name and version of a driver; of one that is not built in, the digest of its source as well."""
    driver = DriverRegistry.get(name)
    version = getattr(driver, "version", "1")
    if name in BUILTIN:
        return f"{name}@{version}"
    try:
        source = hashlib.sha256(Path(inspect.getfile(driver)).read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):
        source = "unknown"
    return f"{name}@{version}+{source}"


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
    """Which steps run (with the reason), and which are taken over."""

    runs: dict[str, str] = field(default_factory=dict)
    reused: dict[str, Finished] = field(default_factory=dict)


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
            found[step_id] = Finished(
                event["resume"], event.get("outputs", {}), artifacts.get(step_id, []), dict(event), position
            )
    return found


def plan_resume(
    steps: Iterable[StepPlan],
    keys: ResumeKeys,
    finished: Mapping[str, Finished],
    artifacts_dir: Path,
    checkpoints_dir: Path,
) -> ResumePlan:
    """
    Decide for each step whether it runs again. Verifies the bytes of all that is to be taken over.

    A step runs again when its key differs, when something it left is gone or changed, when a step that runs again
    reads an output of it that was not kept, or when a step it reads runs again and is not deterministic.
    """
    ordered = [step for wave in execution_waves(steps) for step in wave]
    runs = {step.id: reason for step in ordered if (reason := _differs(step, keys, finished, artifacts_dir))}
    grew = True
    while grew:
        grew = False
        for step in ordered:
            for upstream in step.upstream:
                reads = any(item.from_step == upstream for item in step.inputs.values())
                if step.id in runs and reads and upstream not in runs:
                    missing = _not_kept(finished[upstream], checkpoints_dir)
                    if missing is not None:
                        runs[upstream], grew = (
                            f"step '{step.id}' reads its output '{missing}', which was not kept",
                            True,
                        )
                newer = upstream not in runs and step.id not in runs and _is_newer(finished, upstream, step.id)
                if reads and step.id not in runs and (upstream in runs or newer):
                    driver, config = next((item.driver, item.config) for item in ordered if item.id == upstream)
                    if not is_deterministic(driver, config):
                        what = "ran again since" if newer else "runs again"
                        runs[step.id], grew = f"step '{upstream}' {what} and may give another result", True
    return ResumePlan(runs, {step.id: finished[step.id] for step in ordered if step.id not in runs})


def _is_newer(finished: Mapping[str, Finished], upstream: str, step_id: str) -> bool:
    return finished[upstream].position > finished[step_id].position


def _differs(step: StepPlan, keys: ResumeKeys, finished: Mapping[str, Finished], artifacts_dir: Path) -> str | None:
    """Why what is left of a step does not hold, or None."""
    before = finished.get(step.id)
    if before is None:
        return "it did not complete before"
    now = keys.parts(step.id)
    for part in sorted({*now, *before.parts}):
        if now.get(part) != before.parts.get(part):
            return _explain(part, before.parts.get(part), now.get(part))
    for record in before.artifacts:
        path = artifacts_dir / record.path
        if not path.is_file() or path.stat().st_size != record.size_bytes or sha256_of(path) != record.sha256:
            return f"its artifact {record.path} is gone or was changed"
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
    return {"config": "its configuration changed", "values": "a value that its configuration refers to changed"}[part]


def _not_kept(finished: Finished, checkpoints_dir: Path) -> str | None:
    """The name of an output that cannot be taken over, or None."""
    for name, output in finished.outputs.items():
        if "json" in output:
            continue
        sha256 = output.get("checkpoint")
        path = checkpoints_dir / f"{sha256}.arrow"
        if not sha256 or not path.is_file() or sha256_of(path) != sha256:
            return name
    return None


def is_deterministic(driver_name: str, config: Mapping[str, Any]) -> bool:
    """Whether a step gives the same bytes for the same inputs, by its driver's own word."""
    driver = DriverRegistry.get(driver_name)
    judge = getattr(driver, "is_deterministic", None)
    model = config_model(driver)
    if judge is not None and model is not None:
        try:
            return bool(judge(model.model_validate(substitute(dict(config), {}))))
        except (ValueError, KeyError):
            return False
    return bool(getattr(driver, "deterministic", False))
