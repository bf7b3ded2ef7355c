"""A postprocessor as it is asked for, made into what is called: by name, by configuration, or by its class."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.models.postprocess_config import BasePostprocessorConfig
from osiris_core.models.registries import POSTPROCESSOR_CONFIGS, POSTPROCESSORS
from osiris_core.models.registry import UnknownPlugin
from osiris_core.models.settings import configured

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Processor:
    """
    What is called.

    Attributes:
        config: Its configuration, if it has one.
        process: Takes the model run and `arguments`.
        further: Those of `arguments` that are not the configuration's.
    """

    name: str
    config: BasePostprocessorConfig | None
    process: Callable[..., Any]
    arguments: dict[str, Any]
    further: dict[str, Any]

    @property
    def only_looks(self) -> bool:
        """Whether it needs no process of its own. What is derived from such a class is somebody else's, and does."""
        own = vars(type(getattr(self.process, "__self__", None)))
        return bool(own.get("only_looks")) and not (self.config and (self.config.env_vars or self.config.working_dir))

    def names(self, parameter: str) -> bool:
        """Whether `process` has a parameter of this name."""
        return parameter in inspect.signature(self.process).parameters

    def has_setting(self, name: str) -> bool:
        """Whether something of this name is its own."""
        return name in type(self.config).model_fields if self.config is not None else self.names(name)


def resolve_processor(processor: Any, settings: dict[str, Any]) -> Processor:
    """
    What is called for a name with settings, a configuration (settings go before its own), or a class or object.

    Raises:
        ValueError: There is no such processor, or a setting does not fit.
        TypeError: It is neither a name nor a configuration, nor a class or object with `process`.
    """
    if isinstance(processor, str):
        if processor in POSTPROCESSOR_CONFIGS.names():
            processor = configured(POSTPROCESSOR_CONFIGS.load(processor), processor, settings)
            settings = {}
        elif processor in POSTPROCESSORS.names():
            return Processor(processor, None, POSTPROCESSORS.load(processor)().process, settings, settings)
        else:
            known = sorted({*POSTPROCESSORS.names(), *POSTPROCESSOR_CONFIGS.names()})
            raise UnknownPlugin(POSTPROCESSORS.unknown(processor, known))
    if isinstance(processor, BasePostprocessorConfig):
        return _configured(processor, settings)
    process = getattr(processor() if isinstance(processor, type) else processor, "process", None)
    if not callable(process):
        found = type(processor).__name__
        raise TypeError(f"processor must be a BasePostprocessorConfig instance, got {found}")
    name = processor.__name__ if isinstance(processor, type) else type(processor).__name__
    return Processor(name, None, process, settings, settings)


def _configured(config: BasePostprocessorConfig, settings: dict[str, Any]) -> Processor:
    """It gets its configuration as `config` where it names that, else the configuration's own fields by name."""
    name = str(getattr(config, "type", type(config).__name__))
    own = {key: value for key, value in settings.items() if key in type(config).model_fields}
    further = {key: value for key, value in settings.items() if key not in own}
    if own:
        written = {key: getattr(config, key) for key in config.model_fields_set}
        config = configured(type(config), name, {**written, **own})
    process = config.get_postprocessor_class()().process
    if "config" in inspect.signature(process).parameters:
        return Processor(name, config, process, {"config": config, **further}, further)
    shared = {*BasePostprocessorConfig.model_fields, "type"}
    fields = {key: getattr(config, key) for key in type(config).model_fields if key not in shared}
    return Processor(name, config, process, {**fields, **further}, further)
