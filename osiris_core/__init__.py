"""
One manifest, one result, anywhere: prepare, execute, collect.

    from osiris_core import AdapterFactory
    report = AdapterFactory.create("local").run("manifest.yaml")

Importing this package configures nothing and loads nothing that is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.backends import LocalAdapter, LocalConfig
    from osiris_core.config import BaseBackendConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.driver import Driver, DriverRegistry
    from osiris_core.errors import (
        CollectError,
        ExecutionError,
        FailureClass,
        OsirisError,
        PreparationError,
        Problem,
        RunCancelled,
        RunTimeout,
        StepError,
    )
    from osiris_core.factory import AdapterFactory
    from osiris_core.journal import read_events
    from osiris_core.manifest import Manifest, load_manifest
    from osiris_core.models.execution import execute_model, run_model
    from osiris_core.models.model_run import ModelRun
    from osiris_core.models.pipeline import run_pipeline
    from osiris_core.models.registries import get_available_backends
    from osiris_core.models.result import ModelRunResult
    from osiris_core.models.results import PipelineResult, PostprocessResult
    from osiris_core.models.subject import Subject
    from osiris_core.paths import InputPath, OutputPath
    from osiris_core.prepared import PreparedRun
    from osiris_core.report import RunReport
    from osiris_core.step_context import StepContext

__version__ = "0.1.0"

_PLACES = {
    "AdapterFactory": "factory",
    "BaseBackendConfig": "config",
    "CollectError": "errors",
    "Driver": "driver",
    "DriverRegistry": "driver",
    "ExecutionAdapter": "adapter",
    "ExecutionContext": "context",
    "ExecutionError": "errors",
    "FailureClass": "errors",
    "InputPath": "paths",
    "LocalAdapter": "backends",
    "LocalConfig": "backends",
    "Manifest": "manifest",
    "ModelRun": "models.model_run",
    "ModelRunResult": "models.result",
    "OsirisError": "errors",
    "OutputPath": "paths",
    "PipelineResult": "models.results",
    "PostprocessResult": "models.results",
    "PreparationError": "errors",
    "PreparedRun": "prepared",
    "Problem": "errors",
    "RunCancelled": "errors",
    "RunReport": "report",
    "RunTimeout": "errors",
    "StepContext": "step_context",
    "StepError": "errors",
    "Subject": "models.subject",
    "execute_model": "models.execution",
    "get_available_backends": "models.registries",
    "load_manifest": "manifest",
    "read_events": "journal",
    "run_model": "models.execution",
    "run_pipeline": "models.pipeline",
}

__all__ = [
    "AdapterFactory",
    "BaseBackendConfig",
    "CollectError",
    "Driver",
    "DriverRegistry",
    "ExecutionAdapter",
    "ExecutionContext",
    "ExecutionError",
    "FailureClass",
    "InputPath",
    "LocalAdapter",
    "LocalConfig",
    "Manifest",
    "ModelRun",
    "ModelRunResult",
    "OsirisError",
    "OutputPath",
    "PipelineResult",
    "PostprocessResult",
    "PreparationError",
    "PreparedRun",
    "Problem",
    "RunCancelled",
    "RunReport",
    "RunTimeout",
    "StepContext",
    "StepError",
    "Subject",
    "execute_model",
    "get_available_backends",
    "load_manifest",
    "read_events",
    "run_model",
    "run_pipeline",
]


if not TYPE_CHECKING:  # a type checker sees the names above, and no others

    def __getattr__(name):
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"osiris_core.{_PLACES[name]}"), name)
