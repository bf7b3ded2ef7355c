"""Settings by keyword, made into a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from osiris_core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")


class SettingsError(ConfigError, ValueError):
    """Settings that do not fit a configuration: every one, with what was meant."""


def configured(model: type[M], name: str, settings: Mapping[str, Any]) -> M:
    """
    A `model` with these settings; `name` is what they are called in problems.

    Raises:
        SettingsError: Some do not fit.
    """
    from pydantic import ValidationError

    from osiris_core.pydantic_words import findings

    data = dict(settings)
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise SettingsError(
            Problem(found.message, key=f"{name}.{found.key}" if found.path else name, hint=found.hint)
            for found in findings(exc, data, model)
        ) from None
