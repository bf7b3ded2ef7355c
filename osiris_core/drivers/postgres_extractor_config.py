"""The settings of `postgres.extractor`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from osiris_core.drivers.sql_connection import PostgresConnection  # noqa: TC001 - pydantic needs it at run time
from osiris_core.drivers.sql_extractor_config import SqlExtractorConfig


class PostgresExtractorConfig(SqlExtractorConfig):
    """Settings of `postgres.extractor`."""

    connection: PostgresConnection = Field(description="A connection of family postgres.")
    numeric_nan: Literal["error", "null"] = Field(
        default="error", description="NaN and Infinity in a NUMERIC that becomes an exact number."
    )
    infinite_dates: Literal["error", "null"] = Field(
        default="error", description="infinity in a date or timestamp, a time of 24:00, years after 294246."
    )
