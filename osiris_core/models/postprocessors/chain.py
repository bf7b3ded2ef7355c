"""The postprocessor that is several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.models.subject import check_subject

if TYPE_CHECKING:
    from osiris_core.models.postprocess_config import ChainPostprocessorConfig


class ChainPostprocessor:
    """Runs its steps one after another; what one of them changes in the model run, the next does not see."""

    def process(
        self, model_run: Any, config: ChainPostprocessorConfig, workspace: Any = None, **_: Any
    ) -> dict[str, Any]:
        """`steps`: one entry a step, with `processor`, `status` (completed, failed, unattempted) and its `result`."""
        from osiris_core.models.postprocess import process_step

        check_subject(model_run)
        steps: list[dict[str, Any]] = []
        failed: list[str] = []
        for number, step in enumerate(config.steps, 1):
            name = str(getattr(step, "type", type(step).__name__))
            if failed and config.failure_policy == "fail_fast":
                steps.append({"processor": name, "status": "unattempted", "result": None})
                continue
            result = process_step(model_run, step, f"{number}-{name}", workspace)
            steps.append({"processor": name, "status": "completed" if result else "failed", "result": dict(result)})
            if not result:
                failed.append(f"{name}: {result.error or result.message}")
        done = sum(step["status"] == "completed" for step in steps)
        found: dict[str, Any] = {
            "success": not failed,
            "message": f"{done} of {len(steps)} postprocessors completed",
            "run_id": model_run.run_id,
            "failure_policy": config.failure_policy,
            "steps": steps,
        }
        return {**found, "error": "; ".join(failed)} if failed else found
