"""
Runs a model by whatever backend was asked for: by an adapter, or by somebody else's class. Both go through the same
three phases, journal and limits; what differs is the one step in the middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.config import BaseBackendConfig
from osiris_core.models.registries import CONFIGS, RUN_BACKENDS
from osiris_core.models.registry import UnknownPlugin
from osiris_core.models.run_backend import AdapterRunBackend
from osiris_core.models.settings import SettingsError, configured
from osiris_core.models.subject import check_subject

if TYPE_CHECKING:
    import os

    from osiris_core.models.result import ModelRunResult


def execute_model(
    model_run: Any,
    backend: str | BaseBackendConfig,
    workspace_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float | None = None,
    **settings: Any,
) -> ModelRunResult:
    """
    What came of a run of `model_run` by a backend: a name with settings, or a configuration.

    A run that fails, also one that cannot start, is a result and not an exception. Without `workspace_dir` the inputs
    are generated first; with it nothing is generated, and nothing is ever deleted. `timeout_s` goes before the
    configuration's `timeout`, and may be any positive number.

    Raises:
        ValueError: There is no such backend, `model_run` is None or has no `run_id`, or a setting does not fit.
        TypeError: `backend` is neither a name nor a configuration.
    """
    check_subject(model_run, timeout_s)
    config, backend_class, own = resolve(backend, settings)
    if config is not None and issubclass(backend_class, AdapterRunBackend):
        found: ModelRunResult = backend_class().execute(model_run, config, workspace_dir, timeout_s=timeout_s)
        return found
    from osiris_core.models.foreign_backend import execute_foreign

    check_complete(config)
    return execute_foreign(backend_class, model_run, config, workspace_dir, settings=own, timeout_s=timeout_s)


def run_model(
    model_run: Any,
    backend: str | BaseBackendConfig,
    workspace_dir: str | os.PathLike[str] | None = None,
    *,
    timeout_s: float | None = None,
    **settings: Any,
) -> bool:
    """
    Whether it succeeded; raises as `execute_model` does, and what a backend of somebody else's raises.

    Raises:
        TimeoutError: It took too long.
    """
    return truth_of(execute_model(model_run, backend, workspace_dir, timeout_s=timeout_s, **settings))


def resolve(
    backend: str | BaseBackendConfig, settings: dict[str, Any]
) -> tuple[BaseBackendConfig | None, type[Any], dict[str, Any]]:
    """
    The configuration, the class that runs a model with it, and settings for a class that has no configuration.

    Raises:
        ValueError: There is no backend of that name, or a setting does not fit.
        TypeError: `backend` is neither a name nor a configuration.
    """
    if isinstance(backend, BaseBackendConfig):
        if settings:
            raise TypeError(f"give a configuration or settings ({', '.join(settings)}), not both")
        return backend, backend.get_backend_class(), {}
    if not isinstance(backend, str):
        raise TypeError(f"Backend must be a subclass of BaseBackendConfig, got {type(backend).__name__}")
    if backend in CONFIGS.names() or backend not in RUN_BACKENDS.names():
        config = configured(_config_class(backend), backend, settings)
        return config, config.get_backend_class(), {}
    return None, RUN_BACKENDS.load(backend), settings


def check_complete(config: BaseBackendConfig | None) -> None:
    """
    Raises:
        ValueError: The configuration lacks what a model run needs, though a manifest can do without it.
    """
    if config is not None and (problems := config.model_run_problems()):
        raise SettingsError(problems)


def _config_class(name: str) -> type[BaseBackendConfig]:
    if name in CONFIGS.names():
        return CONFIGS.load(name)
    from osiris_core.factory import AdapterFactory

    if name in AdapterFactory.available():
        model = getattr(AdapterFactory.load(name), "Config", None)
        if isinstance(model, type) and issubclass(model, BaseBackendConfig):
            return model
    raise UnknownPlugin(RUN_BACKENDS.unknown(name))


def truth_of(result: ModelRunResult) -> bool:
    """
    Whether the run succeeded.

    Raises:
        TimeoutError: It took too long.
        Exception: What a run backend of somebody else's raised.
    """
    if result.exception is not None:
        raise result.exception
    if result.status == "timeout":
        after = "" if result.timeout_s is None else f" after {result.timeout_s:g} seconds"
        raise TimeoutError(f"Command execution timed out{after}")
    return result.success
