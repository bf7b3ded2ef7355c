"""The base of every adapter's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from osiris_core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable


class AdapterConfig(BaseModel):
    """Strict and frozen: an unknown key is refused, and every key is read by something."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    allow_sql_files: bool = Field(
        default=False,
        description="Let `duckdb.processor` steps of compiled Osiris manifests read and write files.",
    )
    code: tuple[str, ...] = Field(
        default=(),
        description="Modules (.py), packages and folders of modules with your own drivers; they travel with the run.",
        examples=[["drivers.py"]],
    )
    compress_artifacts: bool = Field(
        default=False,
        description="Also keep all artifacts as one archive, `artifacts.tar.gz`, in the session directory.",
    )


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
