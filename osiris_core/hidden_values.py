"""What a call is given that nobody may read afterwards: known by name, it is masked wherever it comes out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from osiris_core.redaction import Redactor, is_secret_field
from osiris_core.secrets import escape, references

HIDDEN_FIELD = "secret"
"""Where they stand in a step's configuration: every text below a field of this name is taken out of it."""

_FOLDER_VARIABLES = ("PWD", "OLDPWD")
"""Secret by custom as names of fields; a shell's are no passwords."""


def inherited_secrets() -> dict[str, str]:
    """The variables of this process that are secret by their names."""
    secret = [name for name in os.environ if is_secret_field(name) and name not in _FOLDER_VARIABLES]
    return {name: os.environ[name] for name in secret if os.environ[name]}


def hidden_values(settings: Mapping[str, Any], config: BaseModel | None = None) -> dict[str, Any]:
    """What of settings, and of a configuration's fields, is secret: by its name, its type, or as `${NAME}`."""
    fields = {} if config is None else {name: getattr(config, name) for name in type(config).model_fields}
    return _hidden({**fields, **settings})


def redactor_of(*given: Mapping[str, Any] | BaseModel | None) -> Redactor:
    """What masks all that is secret of settings and configurations, by the values here, and what is inherited."""
    hidden = [text for item in given for text in _texts(_hidden_of(item))]
    named = (os.environ.get(name) or default or "" for text in hidden for name, default in references(text))
    return Redactor([*inherited_secrets().values(), *(text.replace("$${", "${") for text in hidden), *named])


def _hidden_of(given: Mapping[str, Any] | BaseModel | None) -> dict[str, Any]:
    return hidden_values({}, given) if isinstance(given, BaseModel) else hidden_values(given or {})


def _texts(hidden: Mapping[str, Any]) -> list[str]:
    return [text for item in hidden.values() for text in (_texts(item) if isinstance(item, Mapping) else [str(item)])]


def _hidden(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            inner = _variables(value) if name == "env_vars" else _hidden(value)
            found.update({str(name): inner} if inner else {})
        elif isinstance(value, SecretStr):
            found[str(name)] = escape(value.get_secret_value())
        elif isinstance(value, str) and is_secret_field(str(name)):
            found[str(name)] = escape(value)
    return found


def _variables(variables: Mapping[Any, Any]) -> dict[str, str]:
    return {
        str(name): value
        for name, value in variables.items()
        if isinstance(value, str) and (is_secret_field(str(name)) or any(references(value)))
    }
