"""Results that are dictionaries, as their users know them: plain JSON, and true when they say success."""

from __future__ import annotations

from typing import Any


class _Result(dict[str, Any]):
    """A dictionary with `success`; as a truth value it is that."""

    def __bool__(self) -> bool:
        return bool(self.get("success"))

    @property
    def success(self) -> bool:
        return bool(self)

    @property
    def message(self) -> str:
        """What it came to, in a sentence."""
        return str(self.get("message", ""))

    @property
    def error(self) -> str | None:
        """Why it failed; None when it did not."""
        found = self.get("error")
        return None if found is None else str(found)


class PostprocessResult(_Result):
    """
    What a postprocessor returned, with at least `success`, `message`, `run_id` and `processor`.

    A failure has `error` and `failure_class` too.
    """


class PipelineResult(_Result):
    """
    What a pipeline came to: `success`, `run_id`, `stages_completed` (a prefix of generate, run, postprocess),
    `run_backend`, `processor`, `staging_dir`, `run_success`, `postprocess_results`, `message`, `timings` (milliseconds
    a stage), `skipped` (stages that had succeeded before); and after a failure `stage`, `error`, `cleaned_up`.
    """

    @property
    def stages_completed(self) -> list[str]:
        return list(self.get("stages_completed", []))

    @property
    def stage(self) -> str | None:
        """The stage that failed; None when none did."""
        found = self.get("stage")
        return None if found is None else str(found)
