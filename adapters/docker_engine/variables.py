"""`env_vars` of a configuration, as variables that a run declares."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from osiris_core.redaction import is_secret_field
from osiris_core.secret_sources import find_value
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.context import ExecutionContext


def declared(variables: Mapping[str, str], context: ExecutionContext) -> ExecutionContext:
    """
    The context with `variables` in it. Those with a `${NAME}`, or secret by their own name, are secrets.

    What the context declares itself wins. A value that is nowhere is left empty; `missing` names it.
    """
    if not variables:
        return context
    values = {
        name: context.environment[name] if name in context.environment else find_value(name) or ""
        for text in variables.values()
        for name, default in references(text)
        if default is None or name in context.environment or name in os.environ
    }
    new = {name: str(substitute(text, values)) for name, text in variables.items() if name not in context.environment}
    public = {name for name in new if not is_secret_field(name) and not any(True for _ in references(variables[name]))}
    return replace(
        context,
        environment={**new, **context.environment},
        public_environment=context.public_environment | public,
    )


def missing(variables: Mapping[str, str], context: ExecutionContext) -> dict[str, str]:
    """The name that has no value here, by the variable that needs it."""
    return {
        variable: name
        for variable, text in variables.items()
        if variable not in context.environment
        for name, default in references(text)
        if default is None and name not in os.environ and name not in context.environment and find_value(name) is None
    }
