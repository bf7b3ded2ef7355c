"""What an adapter's configuration says about every manifest that it runs: variables, a limit, and what is refused."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from osiris_core.config import BaseBackendConfig
from osiris_core.errors import PreparationError, Problem
from osiris_core.redaction import is_secret_field
from osiris_core.secret_sources import find_value
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext


def with_config(config: AdapterConfig, context: ExecutionContext) -> ExecutionContext:
    """The context with the variables and the limit of `config`, where it has none of its own."""
    if not isinstance(config, BaseBackendConfig):
        return context
    if context.timeout is None and config.manifest_timeout_s is not None:
        context = replace(context, timeout=config.manifest_timeout_s)
    return declared(config.env_vars, context)


def config_problems(config: AdapterConfig, context: ExecutionContext) -> list[Problem]:
    """What of `config` no manifest can be run with, here and now."""
    if not isinstance(config, BaseBackendConfig):
        return []
    name = str(getattr(config, "type", type(config).__name__))
    return [
        *config.manifest_problems(),
        *(
            Problem(f"{source} has no value here", key=f"{name}.env_vars.{variable}", hint=f"export {source}")
            for variable, source in missing(config.env_vars, context).items()
        ),
    ]


@contextmanager
def also(problems: list[Problem]) -> Iterator[None]:
    """What the block finds wrong with a run is raised together with `problems`."""
    try:
        yield
    except PreparationError as exc:
        if problems:
            raise PreparationError([*problems, *exc.problems]) from None
        raise


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
