"""What lies between steps: outputs until their last reader is done, checkpoints, and artifacts of tries given up."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from osiris_core.checkpoint import KEEP_BYTES_PER_S, KEPT_SHARE
from osiris_core.errors import StepError
from osiris_core.sealing import sha256_of
from osiris_core.suggestion import did_you_mean
from osiris_core.tables import SpilledTable, TableStore, is_table, open_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from osiris_core.attempt import AttemptResult, Place
    from osiris_core.checkpoint import ResumeKeys
    from osiris_core.plan import InputPlan, StepPlan
    from osiris_core.redaction import Redactor

KEEP_OVERHEAD_S = 0.0005
INLINE_JSON_CHARS = 4_000


class Handover:
    """
    Thread-safe; one for a run. `store` is where tables are taken over.

    `steps` are those that will run: what nobody of them reads is not held.
    """

    def __init__(
        self,
        steps: Iterable[StepPlan],
        place: Place,
        budget_bytes: int,
        checkpoint: Literal["auto", "always", "never"],
        keys: ResumeKeys | None,
        redactor: Redactor,
    ) -> None:
        self.store = TableStore(place.work_dir / "tables", budget_bytes)
        self._place = place
        self._checkpoint = checkpoint
        self._keys = keys
        self._redactor = redactor
        self._lock = threading.Lock()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._unresumable: set[str] = set()
        self._steps = list(steps)
        self._sources: dict[str, set[str]] = {}
        self._readers: dict[str, set[str]] = {}
        for step in self._steps:
            self._sources[step.id] = {item.from_step for item in step.inputs.values()}
            for source in self._sources[step.id]:
                self._readers.setdefault(source, set()).add(step.id)

    def inputs(self, step: StepPlan) -> dict[str, Any]:
        """
        The inputs of a step, by name.

        Raises:
            StepError: An input names an output that was not given, or does not say which of several.
        """
        found = {}
        for name, item in step.inputs.items():
            outputs = self._outputs.get(item.from_step, {})
            key = self._choose(step, name, item, outputs)
            if key is not None:
                # Tables do not change; of anything else each reader gets its own.
                found[name] = outputs[key] if is_table(outputs[key]) else copy.deepcopy(outputs[key])
        return found

    @staticmethod
    def _choose(step: StepPlan, name: str, item: InputPlan, outputs: Mapping[str, Any]) -> str | None:
        if item.key is not None and item.key in outputs:
            return item.key
        if item.key is None and len(outputs) == 1:
            return next(iter(outputs))
        if item.key is None and "df" in outputs:
            return "df"
        if item.optional:
            return None
        gave = ", ".join(outputs) or "nothing"
        if item.key is None:
            wanted = "say which output is meant" if outputs else "it has no output"
        else:
            wanted = f"it has no output '{item.key}'"
        hint = did_you_mean(item.key, outputs) if item.key else None
        message = f"input '{name}' of step '{step.id}': step '{item.from_step}' gave {gave}; {wanted}"
        raise StepError(message + (f" ({hint})" if hint else ""), step_id=step.id)

    def hand_over(self, step_id: str, result: AttemptResult) -> dict[str, Any]:
        """Hold what a step gave for its readers, keep a checkpoint where that pays; describe each output."""
        readers = self._readers.get(step_id)
        try:
            described = {
                name: self._describe(step_id, name, value, result.took_s if readers else None)
                for name, value in result.outputs.items()
            }
        except BaseException:
            self.release(result)
            raise
        with self._lock:
            if readers:
                self._outputs[step_id] = result.outputs
        if not readers:
            self.release(result)
        return described

    def _describe(self, step_id: str, name: str, value: Any, took_s: float | None) -> dict[str, Any]:
        """What the journal says of an output, and keeps of it: `took_s` is None when nobody reads it."""
        described: dict[str, Any]
        if is_table(value):
            described = {"rows": value.num_rows, "size_bytes": value.nbytes}
            if took_s is not None and self._is_worth_keeping(value.nbytes, took_s):
                described |= self._checkpointed(value)
        else:
            text = json.dumps(value)
            described = {"json": value} if len(text) <= INLINE_JSON_CHARS else {"size_bytes": len(text)}
            if "json" in described and not self._survives({name: described}):
                described = {"size_bytes": len(text)}  # the masked one is not the value that a reader must get
        if not self._survives({name: described}):
            self._unresumable.add(step_id)
        return described

    def _survives(self, described: dict[str, Any]) -> bool:
        """Whether the journal holds this as it is, with nothing masked and no number that JSON does not have."""
        try:
            json.dumps(described, allow_nan=False)
        except ValueError:
            return False
        return bool(self._redactor.value(described) == described)

    def release(self, result: AttemptResult | None) -> None:
        """Let go of what a try gave that nobody will read."""
        for value in result.outputs.values() if result is not None else ():
            self._release(value)

    def _release(self, value: Any) -> None:
        with suppress(OSError):  # a spilled file that cannot be removed goes with the run's work directory
            self.store.release(value)

    def _is_worth_keeping(self, size_bytes: int, took_s: float) -> bool:
        if self._checkpoint == "auto":
            return KEEP_OVERHEAD_S + size_bytes / KEEP_BYTES_PER_S <= KEPT_SHARE * took_s
        return self._checkpoint == "always"

    def _checkpointed(self, table: Any) -> dict[str, str]:
        try:
            return {"checkpoint": self._keep(table)}
        except OSError:
            if self._checkpoint == "always":
                raise
            return {}  # the step did its work; a later resume has to do it again

    def _keep(self, table: Any) -> str:
        folder = self._place.checkpoints_dir
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{threading.get_ident()}.arrow"
        batches = table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches()
        try:
            write_ipc(beside, table.schema, batches)
            sha256 = sha256_of(beside)
            beside.replace(folder / f"{sha256}.arrow")
        finally:
            beside.unlink(missing_ok=True)
        return sha256

    def take_over(self, step_id: str, described: Mapping[str, Mapping[str, Any]]) -> None:
        """Hold the kept outputs of an earlier attempt for the steps that read them; they were verified."""
        if step_id not in self._readers:
            return
        outputs: dict[str, Any] = {}
        for name, output in described.items():
            if "json" in output:
                outputs[name] = output["json"]
            elif (path := self._place.checkpoints_dir / f"{output.get('checkpoint')}.arrow").is_file():
                outputs[name] = open_ipc(path)
        self._outputs[step_id] = outputs

    def read_by(self, step_id: str) -> None:
        """A step is over, or will never run: what only it still read is let go. May be called twice."""
        with self._lock:
            done = []
            for source in self._sources.pop(step_id, ()):
                self._readers[source].discard(step_id)
                if not self._readers[source]:
                    done.append(self._outputs.pop(source, {}))
        for outputs in done:
            for value in outputs.values():
                self._release(value)

    def never_after(self, step_id: str) -> None:
        """A step failed: what waits for it, near or far, will never run and reads nothing any more."""
        never = {step_id}
        grew = True
        while grew:  # steps come in any order; most manifests are written in theirs, and one round is enough
            grew = False
            for step in self._steps:
                if step.id not in never and not never.isdisjoint(step.upstream):
                    never.add(step.id)
                    grew = True
        for other in never - {step_id}:
            self.read_by(other)

    def drop(self, step_id: str) -> None:
        """Forget what a step gave that was given up meanwhile."""
        with self._lock:
            outputs = self._outputs.pop(step_id, {})
        for value in outputs.values():
            self._release(value)

    def resume_parts(self, step_id: str) -> dict[str, Any] | None:
        """The parts of the step's resume key; None where nothing of it can be taken over later."""
        return self._keys.parts(step_id) if self._keys is not None and step_id not in self._unresumable else None

    def discard_artifacts(self, step_id: str, number: int) -> None:
        """
        Move the files of a try that failed or was given up out of the artifacts, so that none is published.

        Raises:
            OSError: They cannot be moved.
        """
        folder = self._place.artifacts_dir / step_id
        if folder.exists():
            aside = self._place.work_dir / "discarded" / f"{step_id}.{number}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
