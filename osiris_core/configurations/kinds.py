"""Which class a configuration becomes: its `type`, looked up among our own and those of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.errors import ConfigError, OsirisError
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    from osiris_core.configurations.tree import ConfigurationTree
    from osiris_core.registry import PluginRegistry

TYPE_KEYS = ("type", "backend_type")
"""How a configuration says what it is; the second is accepted for files that were written elsewhere."""


def type_of(tree: ConfigurationTree) -> tuple[str, str] | None:
    """The key that names the type, and the name; None where there is none."""
    data = tree.data if isinstance(tree.data, dict) else {}
    return next(((key, data[key]) for key in TYPE_KEYS if isinstance(data.get(key), str)), None)


def class_named(tree: ConfigurationTree, base: type[BaseModel]) -> type[Any]:
    """
    The class that the `type` of a configuration names, which is one of `base`.

    Raises:
        ConfigError: It names none, or none that there is.
    """
    registry = registry_of(base)
    found = type_of(tree)
    if found is None:
        known = ", ".join(registry.names())
        raise ConfigError(
            [tree.problem("is missing: it says what the configuration is for", ("type",), f"known: {known}")]
        )
    return class_in(registry, tree, *found)


def class_in(registry: PluginRegistry, tree: ConfigurationTree, key: str, name: str) -> type[Any]:
    """The class of that name. Raises ConfigError, with the nearest name, where there is none."""
    try:
        return registry.load(name)
    except (OsirisError, ValueError) as exc:
        hint = did_you_mean(name, registry.names())
        raise ConfigError([tree.problem(str(exc), (key,), hint)]) from exc


def registry_of(base: type[BaseModel]) -> PluginRegistry:
    """The registry in which the classes of `base` are found by their type."""
    from osiris_core.config import AdapterConfig
    from osiris_core.registries import CONFIGS, POSTPROCESSOR_CONFIGS

    return CONFIGS if issubclass(base, AdapterConfig) else POSTPROCESSOR_CONFIGS
