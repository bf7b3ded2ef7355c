"""The settings of `mysql.extractor`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from osiris_core.drivers.sql_connection import MysqlConnection  # noqa: TC001 - pydantic needs it at run time
from osiris_core.drivers.sql_extractor_config import SqlExtractorConfig


class MysqlExtractorConfig(SqlExtractorConfig):
    """Settings of `mysql.extractor`; the names are those of Osiris."""

    connection: MysqlConnection = Field(description="A connection of family mysql.")
    zero_dates: Literal["error", "null", "text"] = Field(
        default="error",
        description="Dates like 0000-00-00 and 2024-00-10: an error, null, or every date and timestamp as text.",
    )
    times: Literal["time", "duration", "text"] = Field(
        default="time", description="What TIME becomes: a time of a day (others are an error), a duration, or text."
    )
    tinyint1: Literal["bool", "int"] = Field(
        default="bool", description="What tinyint(1), MariaDB's BOOLEAN, becomes; bool: other numbers are an error."
    )
    pool_size: int | None = Field(
        default=None, ge=1, description="Accepted because compiled manifests carry it; a step has one connection."
    )
    pool_recycle: int | None = Field(
        default=None, ge=1, description="Accepted because compiled manifests carry it; a step has one connection."
    )
    echo: Literal[False] = Field(
        default=False, description="Accepted because compiled manifests carry it; statements are not logged."
    )
    host: Literal["localhost"] | None = Field(
        default=None, description="Accepted because compiled manifests carry this default; the connection has the host."
    )
    port: Literal[3306] | None = Field(
        default=None, description="Accepted because compiled manifests carry this default; the connection has the port."
    )
