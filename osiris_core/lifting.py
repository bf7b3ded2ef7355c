"""A literal secret in a configuration or connection goes by a name from here on, as `${@step.config.field}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, SecretStr

from osiris_core.driver import config_model
from osiris_core.redaction import has_url_password, is_searchable, is_secret_field
from osiris_core.secrets import REFERENCE, escape, references, substitute

if TYPE_CHECKING:
    from collections.abc import Collection

_WORD_END = re.compile(r"[_\-. ]|(?<=[a-z0-9])(?=[A-Z])")
_COUNTED = frozenset(("max", "min", "num", "n", "total"))
_ANY_REFERENCE = r"\$\{(?:\$\{[^}]*\}|[^}])*\}"
_URL_PASSWORD = re.compile(
    rf"(://(?:{_ANY_REFERENCE}|(?!\$\{{)[^\s/:@])*:)"
    rf"((?:{_ANY_REFERENCE}|(?!\$\{{)[^\s/@])(?:{_ANY_REFERENCE}|(?!\$\{{)[^\s/])*)(?=@)"
)
"""Like the redactor's, but what stands there may be made of references."""


def lift(value: Mapping[str, Any], prefix: str, marked: Collection[str], values: dict[str, str]) -> dict[str, Any]:
    """
    `value` with a reference in place of each literal secret; `values` takes those, by names that begin with `prefix`.

    A field is secret by its name (`password`) at any depth, by being in `marked` (`key`, or `outer.key` one level
    below), or by being in one that is: its texts and numbers, but for a number of tokens (`max_token: 100`), and of a
    text with references their literal defaults (`${PW:-hunter2}`). So is a URL with a password in it; where it is made
    of references, what is literal in its password.
    """

    def each(config: Mapping[str, Any], name: str, above: str, *, secret: bool) -> dict[str, Any]:
        return {
            key: one(item, f"{name}.{key}", str(key), f"{above}{key}", secret=secret) for key, item in config.items()
        }

    def one(item: Any, name: str, field: str, place: str, *, secret: bool) -> Any:
        secret = secret or is_secret_field(field) or place in marked
        if isinstance(item, Mapping):
            return each(item, name, f"{place}.", secret=secret)
        if isinstance(item, list):
            return [one(part, f"{name}.{at}", field, f"{place}.{at}", secret=secret) for at, part in enumerate(item)]
        if isinstance(item, str) and item:
            return _lift_text(item, lambda text: _named(name, text, values), secret=secret)
        if isinstance(item, (int, float)) and not isinstance(item, bool) and secret and not _counts_tokens(field):
            return _named(name, str(item), values)
        return item

    return each(value, prefix, "", secret=False)


def lift_known(
    value: Mapping[str, Any], prefix: str, left_out: Collection[str], secrets: Collection[str], values: dict[str, str]
) -> dict[str, Any]:
    """
    `value` with a reference in place of each text that is known to be a secret from elsewhere, wherever it stands.

    Only what is searched for in running text is. Fields in `left_out` stay as they are.
    """
    known = sorted(map(escape, filter(is_searchable, secrets)), key=lambda text: (-len(text), text))
    if not known:
        return dict(value)
    pattern = re.compile("|".join(map(re.escape, known)))

    def one(item: Any, name: str) -> Any:
        if isinstance(item, Mapping):
            return {key: one(part, f"{name}.{key}") for key, part in item.items()}
        if isinstance(item, list):
            return [one(part, f"{name}.{at}") for at, part in enumerate(item)]
        if not isinstance(item, str) or pattern.search(item) is None:
            return item

        def lifted(text: str) -> str:
            return pattern.sub(lambda match: _named(name, str(substitute(match[0], {})), values), text)

        return _rebuilt(item, lifted, lambda match: _with_default(match, lifted))

    return {key: item if key in left_out else one(item, f"{prefix}.{key}") for key, item in value.items()}


def _lift_text(text: str, named: Callable[[str], str], *, secret: bool) -> str:
    def literal(part: str) -> str:
        return named(str(substitute(part, {})))

    def default(match: re.Match[str]) -> str:
        return _with_default(match, named)

    def password(match: re.Match[str]) -> str:
        return match[1] + _rebuilt(match[2], literal, default)

    plain = not any(True for _ in references(text))
    if plain and (secret or has_url_password(text)):
        return literal(text)
    if plain:
        return text
    return _rebuilt(text, str, default) if secret else _URL_PASSWORD.sub(password, text)


def _rebuilt(text: str, literal: Callable[[str], str], reference: Callable[[re.Match[str]], str]) -> str:
    """`text` with `literal` applied to what stands between its references, and `reference` to these."""
    made, begun = [], 0
    found = [match for match in REFERENCE.finditer(text) if not match["escaped"]]
    for match in found:
        made += [literal(text[begun : match.start()]) if match.start() > begun else "", reference(match)]
        begun = match.end()
    return "".join([*made, literal(text[begun:]) if begun < len(text) else ""])


def _with_default(match: re.Match[str], named: Callable[[str], str]) -> str:
    """A reference with its literal default put through `named`: it is as secret as the value."""
    default = match["default"]
    if not default or "${" in default:
        return match[0]
    return f"${{{match['name']}:-{named(default)}}}"


def _counts_tokens(field: str) -> bool:
    return field.lower().endswith("token") and _WORD_END.split(field, maxsplit=1)[0].lower() in _COUNTED


def _named(name: str, value: str, values: dict[str, str]) -> str:
    name = name.replace("}", "_")
    while name in values and values[name] != value:  # ids have dots: two paths may read the same
        name += "'"
    values[name] = value
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
