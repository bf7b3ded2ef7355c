"""CPU and memory of a long step's whole process tree, sampled while it runs."""

from __future__ import annotations

from time import monotonic

FIRST_SAMPLE_S = 2.0
SAMPLE_INTERVAL_S = 5.0


class TreeSampler:
    """
    Samples this process and everything below it. Costs nothing, not even an import, before the first sample is due.

    Steps that run side by side share a process: a sample then stands for all of them.
    """

    def __init__(self) -> None:
        self._next_s = monotonic() + FIRST_SAMPLE_S
        self._cpu_s: float | None = None
        self._at_s = 0.0

    def due(self, oldest_start_s: float, now_s: float) -> bool:
        """Whether a step that started at `oldest_start_s` (monotonic) is long enough, and it is time again."""
        return now_s >= self._next_s and now_s - oldest_start_s >= FIRST_SAMPLE_S

    def sample(self, now_s: float) -> dict[str, float]:
        """
        `cpu_percent` since the last sample (100 is one processor; none the first time), `memory_mb`, `processes`.

        Empty where the system does not say.
        """
        import psutil

        self._next_s = now_s + SAMPLE_INTERVAL_S
        cpu_s = memory_bytes = 0.0
        count = 0
        try:
            own = psutil.Process()
            tree = [own, *own.children(recursive=True)]
        except (psutil.Error, OSError):
            return {}
        for process in tree:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory_bytes += process.memory_info().rss
            except (psutil.Error, OSError):
                continue
            cpu_s += times.user + times.system
            count += 1
        found = {"memory_mb": round(memory_bytes / 1e6, 1), "processes": float(count)}
        if self._cpu_s is not None and now_s > self._at_s:
            found["cpu_percent"] = round(max(0.0, cpu_s - self._cpu_s) / (now_s - self._at_s) * 100, 1)
        self._cpu_s, self._at_s = cpu_s, now_s
        return found
