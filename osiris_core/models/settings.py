"""Settings by keyword, made into a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from osiris_core.errors import ConfigError, Problem
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError

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

    try:
        return model.model_validate(dict(settings))
    except ValidationError as exc:
        raise SettingsError(problems_of(exc, model, name)) from None


def problems_of(error: ValidationError, model: type[BaseModel], name: str) -> list[Problem]:
    """What is wrong, a problem a setting, with the nearest key for one that does not exist."""
    problems = []
    for item in error.errors(include_url=False, include_input=False):
        key = ".".join(map(str, item["loc"]))
        unknown = item["type"] == "extra_forbidden"
        hint = did_you_mean(key, model.model_fields) if unknown else None
        message = "there is no such key" if unknown else item["msg"].removeprefix("Value error, ")
        problems.append(Problem(message, key=f"{name}.{key}" if key else name, hint=hint))
    return problems
