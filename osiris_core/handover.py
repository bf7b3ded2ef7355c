"""What lies between steps: outputs until their last reader is done, checkpoints, and artifacts of tries given up."""

from __future__ import annotations

import json
import shutil
import threading
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

KEEP_OVERHEAD_S = 0.0005
INLINE_JSON_CHARS = 4_000


class Handover:
    """Thread-safe; one for a run. `store` is where tables are taken over."""

    def __init__(
        self,
        steps: Iterable[StepPlan],
        place: Place,
        budget_bytes: int,
        checkpoint: Literal["auto", "always", "never"],
        keys: ResumeKeys | None,
    ) -> None:
        self.store = TableStore(place.work_dir / "tables", budget_bytes)
        self._place = place
        self._checkpoint = checkpoint
        self._keys = keys
        self._lock = threading.Lock()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, set[str]] = {}
        self._readers: dict[str, int] = {}
        for step in steps:
            self._sources[step.id] = {item.from_step for item in step.inputs.values()}
            for source in self._sources[step.id]:
                self._readers[source] = self._readers.get(source, 0) + 1

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
                found[name] = outputs[key]
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
        described = {}
        readers = self._readers.get(step_id, 0)
        for name, value in result.outputs.items():
            if is_table(value):
                described[name] = {"rows": value.num_rows, "size_bytes": value.nbytes}
                if readers and self._is_worth_keeping(value.nbytes, result.took_s):
                    described[name]["checkpoint"] = self._keep(value)
            else:
                text = json.dumps(value)
                described[name] = {"json": value} if len(text) <= INLINE_JSON_CHARS else {"size_bytes": len(text)}
        with self._lock:
            if readers:
                self._outputs[step_id] = result.outputs
        if not readers:
            for value in result.outputs.values():
                self.store.release(value)
        return described

    def _is_worth_keeping(self, size_bytes: int, took_s: float) -> bool:
        if self._checkpoint == "auto":
            return KEEP_OVERHEAD_S + size_bytes / KEEP_BYTES_PER_S <= KEPT_SHARE * took_s
        return self._checkpoint == "always"

    def _keep(self, table: Any) -> str:
        folder = self._place.checkpoints_dir
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{threading.get_ident()}.arrow"
        batches = table.iter_batches() if isinstance(table, SpilledTable) else table.to_batches()
        write_ipc(beside, table.schema, batches)
        sha256 = sha256_of(beside)
        beside.replace(folder / f"{sha256}.arrow")
        return sha256

    def take_over(self, step_id: str, described: Mapping[str, Mapping[str, Any]]) -> None:
        """Hold the kept outputs of an earlier attempt; they were verified."""
        outputs: dict[str, Any] = {}
        for name, output in described.items():
            if "json" in output:
                outputs[name] = output["json"]
            elif (path := self._place.checkpoints_dir / f"{output.get('checkpoint')}.arrow").is_file():
                outputs[name] = open_ipc(path)
        self._outputs[step_id] = outputs

    def read_by(self, step_id: str) -> None:
        """A step is over: what only it still read is let go."""
        with self._lock:
            done = []
            for source in self._sources[step_id]:
                self._readers[source] -= 1
                if not self._readers[source]:
                    done.append(self._outputs.pop(source, {}))
        for outputs in done:
            for value in outputs.values():
                self.store.release(value)

    def drop(self, step_id: str) -> None:
        """Forget what a step gave that was given up meanwhile."""
        with self._lock:
            outputs = self._outputs.pop(step_id, {})
        for value in outputs.values():
            self.store.release(value)

    def resume_parts(self, step_id: str) -> dict[str, Any] | None:
        return self._keys.parts(step_id) if self._keys is not None else None

    def discard_artifacts(self, step_id: str, number: int) -> None:
        """Move the files of a try that failed or was given up out of the artifacts, so that none is published."""
        folder = self._place.artifacts_dir / step_id
        if folder.exists():
            aside = self._place.work_dir / "discarded" / f"{step_id}.{number}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
