"""A literal secret in a configuration goes by a name from here on, as `${@step.config.field}`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, SecretStr

from osiris_core.driver import config_model
from osiris_core.redaction import has_url_password, is_secret_field
from osiris_core.secrets import REFERENCE, references, substitute

if TYPE_CHECKING:
    import re
    from collections.abc import Collection


class SecretLifter:
    """
    Replaces literal secrets in one step's configuration; `values` takes them, by the names made up for them.

    A field is secret by its name (`password`) at any depth, by being in `marked` (`key`, or `connection.key` one level
    below), or because it is a URL with a password in it. A number is left alone where its name only
    speaks of tokens (`max_token: 100`).
    """

    def __init__(self, step_id: str, marked: Collection[str], values: dict[str, str]) -> None:
        self._prefix = f"@{step_id}.config"
        self._marked = marked
        self._values = values

    def lift(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return self._each(config, self._prefix, "", secret=False)

    def _each(self, config: Mapping[str, Any], name: str, above: str, *, secret: bool) -> dict[str, Any]:
        return {
            key: self._lift(item, f"{name}.{key}", str(key), f"{above}{key}", secret=secret)
            for key, item in config.items()
        }

    def _lift(self, value: Any, name: str, field: str, place: str, *, secret: bool) -> Any:
        secret = secret or is_secret_field(field) or place in self._marked
        if isinstance(value, Mapping):
            return self._each(value, name, f"{place}.", secret=secret)
        if isinstance(value, list):
            return [
                self._lift(item, f"{name}.{index}", field, f"{place}.{index}", secret=secret)
                for index, item in enumerate(value)
            ]
        if isinstance(value, int) and not isinstance(value, bool) and secret and not field.lower().endswith("token"):
            return self._named(name, str(value))
        if not isinstance(value, str) or not value or not (secret or has_url_password(value)):
            return value
        if not list(references(value)):
            return self._named(name, str(substitute(value, {})))
        return REFERENCE.sub(lambda match: self._default(match, name), value)

    def _default(self, match: re.Match[str], name: str) -> str:
        """A literal default (`${PASSWORD:-hunter2}`) is as secret as the value."""
        default = match["default"]
        if match["escaped"] or not default or "${" in default:
            return match[0]
        return f"${{{match['name']}:-{self._named(name, default)}}}"

    def _named(self, name: str, value: str) -> str:
        name = name.replace("}", "_")
        while name in self._values and self._values[name] != value:  # ids have dots: two paths may read the same
            name += "'"
        self._values[name] = value
        return f"${{{name}}}"


@lru_cache(maxsize=256)
def marked_secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """The fields that a configuration model marks as secret, with `SecretStr`; `outer.inner` for models in it."""
    own = {name for name, info in model.model_fields.items() if _is_secret_type(info.annotation)}
    inner = {
        f"{name}.{field}"
        for name, info in model.model_fields.items()
        for nested in models_within(info.annotation)
        for field in marked_secret_fields(nested)
    }
    return frozenset(own | inner)


def models_within(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type is made of: `Shop | None` has one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_within(argument)]


def connection_models(driver: type[Any]) -> list[type[BaseModel]]:
    """The models that a driver takes a connection as; none where it takes any mapping."""
    model = config_model(driver)
    field = model.model_fields.get("connection") if model else None
    return models_within(field.annotation) if field is not None else []


def marked_in_connection(driver: type[Any]) -> set[str]:
    """The fields of a connection that its driver's model marks as secret."""
    return {name for model in connection_models(driver) for name in marked_secret_fields(model)}


def _is_secret_type(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret_type, get_args(annotation)))
