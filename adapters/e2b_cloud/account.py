"""An E2B account as a configuration names it; with `errors.py` and the files beside it the only room of the SDK."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from e2b import E2B

from adapters.e2b_cloud.errors import translate
from osiris_core.redaction import Redactor
from osiris_core.secret_sources import find_value
from osiris_core.secrets import references, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from adapters.e2b_cloud.config import E2BConfig

KEY_VARIABLE = "E2B_API_KEY"
MISSING_KEY_HINT = f"export {KEY_VARIABLE}, or set api_key to ${{NAME}}; keys are at https://e2b.dev/dashboard?tab=keys"


def key_of(config: E2BConfig, environment: Mapping[str, str]) -> str | None:
    """The account's key: of the configuration, of the variable that it names, or of E2B_API_KEY; None for none."""
    written = config.api_key.get_secret_value() if config.api_key is not None else f"${{{KEY_VARIABLE}}}"
    values = {name: environment.get(name) or find_value(name) or "" for name, _ in references(written)}
    return str(substitute(written, values)) or None


class Account:
    """
    Bound to one key and one far end; several may live in one process.

    Attributes:
        sandboxes: The SDK's `AsyncSandbox`, so bound.
        templates: Its `AsyncTemplate`.
        redactor: Masks the key, and what else is told to E2B that is secret (`also`).
        address: The control plane's, for people.
    """

    def __init__(self, config: E2BConfig, key: str, *also: str) -> None:
        options: dict[str, Any] = {"api_key": key, "debug": False, "request_timeout": config.request_timeout_s}
        # Two of these the SDK calls deprecated: when they go, this is where another way to a far end belongs.
        for name in ("domain", "api_url", "sandbox_url"):
            if (value := getattr(config, name)) is not None:
                options[name] = value
        client = E2B(**options)
        self.sandboxes = client.AsyncSandbox
        self.templates = client.AsyncTemplate
        self.redactor = Redactor([key, *also])
        self.address = (
            config.api_url
            or os.environ.get("E2B_API_URL")
            or f"https://api.{config.domain or os.environ.get('E2B_DOMAIN') or 'e2b.app'}"
        )

    def errors(self, what: str) -> AbstractContextManager[None]:
        """What the control plane answers in the block, as our errors; `what` begins their message."""
        return translate(what, self.redactor, self.address)
