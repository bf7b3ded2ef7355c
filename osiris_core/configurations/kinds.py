"""Which class a configuration becomes: its `type`, looked up among our own and those of plugins, or its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ConfigError, ManifestError, OsirisError
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    from osiris_core.configurations.tree import ConfigurationTree
    from osiris_core.models.registry import PluginRegistry

TYPE_KEYS = ("type", "backend_type")
"""How a configuration says what it is; the second is accepted for files that were written elsewhere."""


@dataclass(frozen=True)
class Meaning:
    """What a configuration is for; keys in `drop` are none of the model's."""

    kind: str
    name: str
    model: type[BaseModel]
    drop: tuple[str, ...] = ()


def type_of(tree: ConfigurationTree) -> tuple[str, str] | None:
    """The key that names the type, and the name; None where there is none."""
    data = tree.data if isinstance(tree.data, dict) else {}
    return next(((key, data[key]) for key in TYPE_KEYS if isinstance(data.get(key), str)), None)


def meant(
    trees: list[ConfigurationTree], name: str | None, otherwise: str = "no way to tell which is meant"
) -> ConfigurationTree:
    """
    The document of a file that is meant: the only one, or the one of type `name`.

    Raises:
        ManifestError: Several are, or none; `otherwise` is said where there is no name to go by.
    """
    if len(trees) == 1:
        return trees[0]
    found = [tree for tree in trees if name is not None and (type_of(tree) or ("", None))[1] == name]
    if len(found) == 1:
        return found[0]
    told = f"{len(found) or 'none'} of type {name!r}" if name is not None else otherwise
    raise ManifestError([trees[1].problem(f"this file holds {len(trees)} documents; {told}")])


def is_model_run(data: Any) -> bool:
    """Whether a document without a `type` is a model run: by its `run_id`, or because it says nothing else."""
    from osiris_core.models.model_run import ModelRun

    if not isinstance(data, dict) or not data:
        return False
    return "run_id" in data or all(key in ModelRun.model_fields for key in data)


def class_named(tree: ConfigurationTree, base: type[BaseModel]) -> Meaning:
    """
    What the `type` of a configuration names, which is one of `base`.

    Raises:
        ConfigError: It names none, or none that there is.
    """
    from osiris_core.config import AdapterConfig

    return _named(tree, "backend" if issubclass(base, AdapterConfig) else "postprocessor")


def kind_of_tree(tree: ConfigurationTree, wanted: tuple[str, str] | None = None) -> Meaning:
    """
    What any configuration is: by its `type`, or a model run by what it says.

    Args:
        wanted: The kind and type of one that does not say so itself; one that says something else is an error.

    Raises:
        ConfigError: Nothing has that type, or nothing tells what it is.
    """
    found = type_of(tree)
    if wanted is not None:
        kind, name = wanted
        if found is not None and found[1] != name:
            message = f"this is a configuration of '{found[1]}', not of '{name}'"
            raise ConfigError([tree.problem(message, (found[0],))])
        return _named(tree, kind, name)
    if found is not None:
        return _named(tree)
    if is_model_run(tree.data):
        from osiris_core.models.model_run import ModelRun

        return Meaning("model run", str(tree.data.get("run_id", ModelRun.model_fields["run_id"].default)), ModelRun)
    raise ConfigError([tree.problem("is missing: it says what the configuration is for", ("type",), _known())])


def _named(tree: ConfigurationTree, kind: str | None = None, name: str | None = None) -> Meaning:
    key, named = type_of(tree) or ("type", name)
    if named is None:
        raise ConfigError([tree.problem("is missing: it says what the configuration is for", ("type",), _known(kind))])
    for other, registry in _registries().items():
        if kind in (None, other) and named in registry.names():
            return _meaning(tree, key, other, named, registry.load)
    if kind in (None, "backend") and (found := _adapter(tree, key, named)) is not None:
        return found
    known = [other for which, registry in _registries().items() if kind in (None, which) for other in registry.names()]
    hint = did_you_mean(named, known) or _known(kind)
    raise ConfigError([tree.problem(f"there is no {kind or 'backend or postprocessor'} '{named}'", (key,), hint)])


def _meaning(tree: ConfigurationTree, key: str, kind: str, name: str, load: Any) -> Meaning:
    try:
        model = load(name)
    except (OsirisError, ValueError) as exc:
        raise ConfigError([tree.problem(str(exc), (key,))]) from exc
    return Meaning(kind, name, model, () if key in model.model_fields else (key,))


def _adapter(tree: ConfigurationTree, key: str, name: str) -> Meaning | None:
    """The configuration of an adapter that is no run backend."""
    from osiris_core.factory import AdapterFactory

    if name not in AdapterFactory.available():
        return None
    return _meaning(tree, key, "adapter", name, lambda known: AdapterFactory.load(known).Config)


def _registries() -> dict[str, PluginRegistry]:
    from osiris_core.models.registries import CONFIGS, POSTPROCESSOR_CONFIGS

    return {"backend": CONFIGS, "postprocessor": POSTPROCESSOR_CONFIGS}


def _known(kind: str | None = None) -> str:
    names = {name for other, registry in _registries().items() if kind in (None, other) for name in registry.names()}
    return f"known: {', '.join(sorted(names))}"
