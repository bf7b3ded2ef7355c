"""Run backends that are adapters: one implementation, a class a name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import os

    from osiris_core.config import BaseBackendConfig
    from osiris_core.models.result import ModelRunResult


class AdapterRunBackend:
    """Runs a model through prepare, execute and collect of the adapter named `adapter`."""

    adapter: ClassVar[str] = ""

    def run(
        self, model_run: Any, config: BaseBackendConfig, workspace_dir: str | os.PathLike[str] | None = None
    ) -> bool:
        """
        Whether the model ran to its end as it should; `execute` says more.

        Without `workspace_dir` the inputs are generated first.

        Raises:
            ValueError: `model_run` is None or has no `run_id`, or the run cannot start.
            TimeoutError: It took longer than `config.timeout`; no process of it is left.
        """
        from osiris_core.models.execution import truth_of

        return truth_of(self.execute(model_run, config, workspace_dir))

    def execute(
        self,
        model_run: Any,
        config: BaseBackendConfig,
        workspace_dir: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> ModelRunResult:
        """
        What came of it; a failure is a result, not an exception. `timeout_s` goes before the configuration's.

        Raises:
            ValueError: `model_run` is None or has no `run_id`, or the configuration lacks what a model run needs.
        """
        from osiris_core.models.backend import ModelBackendRun
        from osiris_core.models.execution import check_complete
        from osiris_core.models.subject import check_subject

        check_subject(model_run, timeout_s)
        check_complete(config)
        return ModelBackendRun(self.adapter, model_run, config, workspace_dir, timeout_s).execute()


class LocalRunBackend(AdapterRunBackend):
    """Runs a model on this machine, in its workspace, with the caller's environment."""

    adapter = "local"


class ProcessRunBackend(AdapterRunBackend):
    """Runs a model under a supervisor of its own, in a copy of its workspace."""

    adapter = "process"


class DockerRunBackend(AdapterRunBackend):
    """Runs a model in a container of its image, with its workspace mounted."""

    adapter = "docker"


class E2BRunBackend(AdapterRunBackend):
    """Runs a model in a sandbox of E2B's cloud, in a copy of its workspace."""

    adapter = "e2b"


class SlurmRunBackend(AdapterRunBackend):
    """Runs a model as a batch job."""

    adapter = "slurm"


@cache
def run_backend_class(adapter: str) -> type[AdapterRunBackend]:
    """The run backend of an adapter: `SlurmRunBackend` for `slurm`."""
    for known in (LocalRunBackend, ProcessRunBackend, DockerRunBackend, E2BRunBackend, SlurmRunBackend):
        if known.adapter == adapter:
            return known
    name = "".join(part.capitalize() if not part.isupper() else part for part in adapter.replace("-", "_").split("_"))
    members = {"adapter": adapter, "__module__": __name__, "__doc__": f"Runs a model by the adapter '{adapter}'."}
    return type(f"{name}RunBackend", (AdapterRunBackend,), members)
