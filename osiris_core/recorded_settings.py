"""What is written down of an adapter's settings, for whoever attaches to its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel


def recordable(config: BaseModel, secrets: Iterable[str]) -> dict[str, Any]:
    """
    An adapter's settings that are not defaults, as they may be written down: for whoever attaches to the run.

    What holds one of `secrets`, or stands in a field that is secret, is left out; references (`${NAME}`) stay.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    if not settings:
        return {}
    if "code" in settings:
        settings["code"] = [str(Path(path).expanduser().resolve()) for path in settings["code"]]
    found: dict[str, Any] = _kept(settings, config.model_dump(exclude_defaults=True), Redactor(secrets))
    return found


def _kept(settings: dict[str, Any], plain: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    kept = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            kept[name] = _kept(value, plain[name], redactor)
        elif not hasattr(plain[name], "get_secret_value") and redactor.value({name: value}) == {name: value}:
            kept[name] = value
    return kept
