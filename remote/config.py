"""The settings that every adapter has whose engine runs elsewhere."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from osiris_core.arrival import MAX_UNPACKED_BYTES
from osiris_core.config import BaseBackendConfig


class RemoteConfig(BaseBackendConfig):
    """What a remote adapter's own configuration adds to."""

    start_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="How long the place may take until its worker answers. Building an image is not counted.",
    )
    start_attempts: int = Field(
        default=2,
        ge=1,
        description="How often the place is asked for when the infrastructure fails; by the same token each time, so "
        "that it is not made twice when only the answer was lost.",
    )
    unattended_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="How long a worker goes on, or keeps its results, when nobody is connected to it.",
    )
    max_result_bytes: int = Field(
        default=MAX_UNPACKED_BYTES,
        gt=0,
        description="The largest result, unpacked, that is brought home.",
    )
    keep: bool = Field(
        default=False,
        description="Leave the place as it is after the run, to look at it. `osiris runs gc` removes it.",
    )

    def get_backend_class(self) -> type[Any]:
        from osiris_core.models.run_backend import run_backend_class

        return run_backend_class(str(getattr(self, "type", "")))
