"""A literal secret in a configuration goes by a name from here on, as `${@step.config.field}`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from osiris_core.redaction import has_url_password, is_secret_field
from osiris_core.secrets import REFERENCE, references, substitute

if TYPE_CHECKING:
    import re
    from collections.abc import Collection

    from pydantic import BaseModel


class SecretLifter:
    """
    Replaces literal secrets in one step's configuration; `values` takes them, by the names made up for them.

    A field is secret by its name (`password`) at any depth, by being in `marked` at the top, or because it is a URL
    with a password in it. A number is left alone where its name only speaks of tokens (`max_token: 100`).
    """

    def __init__(self, step_id: str, marked: Collection[str], values: dict[str, str]) -> None:
        self._prefix = f"@{step_id}.config"
        self._marked = marked
        self._values = values

    def lift(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: self._lift(item, f"{self._prefix}.{key}", key, secret=key in self._marked)
            for key, item in config.items()
        }

    def _lift(self, value: Any, name: str, field: str, *, secret: bool) -> Any:
        secret = secret or is_secret_field(field)
        if isinstance(value, Mapping):
            return {key: self._lift(item, f"{name}.{key}", str(key), secret=secret) for key, item in value.items()}
        if isinstance(value, list):
            return [self._lift(item, f"{name}.{index}", field, secret=secret) for index, item in enumerate(value)]
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
    """The fields that a configuration model marks as secret, with `SecretStr`."""
    return frozenset(name for name, info in model.model_fields.items() if _is_secret_type(info.annotation))


def _is_secret_type(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret_type, getattr(annotation, "__args__", ())))
