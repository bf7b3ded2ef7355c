"""What a run came to: a Mapping with the seed's keys, and the same facts as attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class RunReport(Mapping[str, Any]):
    """
    The report of one run, as it stands in `status.json`. Plain JSON throughout; holds no secret.

    Keys: `status` (completed, failed, cancelled, timeout), `artifacts` (each `step_id`, `path`, `size_bytes`,
    `sha256`), `metrics` (`rows_read`, `rows_written`, `execution_time_ms`, `memory_usage_mb`), `environment` (the
    adapter's name), `session_id`, `session_dir`, `attempt`, `pipeline`, `fingerprint`, `steps`, `error` (of the first
    failure, or None), `timings` (milliseconds; all but `wall_ms` add up to it), `overhead_ms` (wall time without
    the steps), `published`, `secret_names`; `attached` (true) where another controller went on with the run.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"<RunReport {self.session_id} {self.status}: {len(self.steps)} steps, {len(self.artifacts)} artifacts>"

    @property
    def status(self) -> str:
        return str(self._data["status"])

    @property
    def succeeded(self) -> bool:
        return self.status == "completed"

    @property
    def session_id(self) -> str:
        return str(self._data["session_id"])

    @property
    def session_dir(self) -> str:
        return str(self._data["session_dir"])

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        return list(self._data["artifacts"])

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(self._data["metrics"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self._data["steps"])

    @property
    def error(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._data["error"]
        return found

    @property
    def timings(self) -> dict[str, float]:
        return dict(self._data["timings"])

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain JSON."""
        return dict(self._data)
