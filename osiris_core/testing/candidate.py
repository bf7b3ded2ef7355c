"""The adapter under test: how more of its kind are made, in this process and in others."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osiris_core.adapter import ExecutionAdapter
from osiris_core.errors import OsirisError
from osiris_core.factory import AdapterFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Candidate:
    """
    An adapter as it is set up, `exemplar`, which itself runs nothing.

    Attributes:
        name: What its runs say they were run by.
        config: Its configuration; None where it has none.
    """

    def __init__(self, exemplar: ExecutionAdapter, make: Callable[..., ExecutionAdapter] | None = None) -> None:
        self.exemplar = exemplar
        self.name = exemplar.name
        self.config: Any = getattr(exemplar, "config", None)
        self._make = make

    @classmethod
    def of(cls, given: ExecutionAdapter | Callable[..., ExecutionAdapter]) -> Candidate:
        """From an adapter, or from a function that makes one with some settings (`code` among them) changed."""
        if isinstance(given, ExecutionAdapter) or not callable(given):
            return cls(given)
        return cls(given(), given)

    @property
    def runs_here(self) -> bool:
        return bool(getattr(self.exemplar, "runs_here", False))

    @property
    def known_gaps(self) -> Mapping[str, str]:
        """What the adapter itself says that it cannot do."""
        found: Mapping[str, str] = getattr(self.exemplar, "known_gaps", {})
        return found

    def make(self, code: tuple[str, ...], **settings: Any) -> ExecutionAdapter:
        """Another one, set up in the same way but for `settings`, and with `code` besides its own."""
        if self._make is not None:
            return self._make(code=code, **settings)
        if self.config is None:
            return type(self.exemplar)()
        settings["code"] = (*self.config.code, *code)
        return type(self.exemplar)(self.config.model_copy(update=settings))

    def recipe(self, code: tuple[str, ...], **settings: Any) -> dict[str, Any]:
        """What `made_from` makes such a one of, in another process; holds the values of its settings, secrets too."""
        config: Any = getattr(self.make(code, **settings), "config", None)
        values = config.model_dump(mode="json", exclude_defaults=True) if config is not None else {}
        return {"adapter": self._place(), "settings": _revealed(values, config)}

    def _place(self) -> str:
        cls = type(self.exemplar)
        try:
            if AdapterFactory.source(self.name) != "registered" and AdapterFactory.load(self.name) is cls:
                return self.name
        except OsirisError:
            pass
        return f"{cls.__module__}:{cls.__qualname__}"


def made_from(recipe: Mapping[str, Any]) -> ExecutionAdapter:
    """The adapter that a recipe describes."""
    module, colon, name = recipe["adapter"].partition(":")
    if not colon:
        return AdapterFactory.create(recipe["adapter"], **recipe["settings"])
    adapter = getattr(import_module(module), name)
    model = getattr(adapter, "Config", None)
    made: ExecutionAdapter = adapter(model.model_validate(recipe["settings"])) if model is not None else adapter()
    return made


def _revealed(values: dict[str, Any], plain: Any) -> dict[str, Any]:
    """Settings with the values that pydantic shows as asterisks."""
    found = {}
    for name, value in values.items():
        inner = getattr(plain, name, None) if not isinstance(plain, dict) else plain.get(name)
        reveal = getattr(inner, "get_secret_value", None)
        plain_value = reveal() if reveal is not None else value
        found[name] = _revealed(value, inner) if isinstance(value, dict) else plain_value
    return found
