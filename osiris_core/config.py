"""The base of every adapter's configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
