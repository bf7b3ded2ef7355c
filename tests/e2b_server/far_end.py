"""Which E2B the tests speak to: the cloud, a real envd behind our control plane, or the local server alone."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2b_server.policy import Policy
from tests.e2b_server.server import E2BServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2b_server.seen import Seen

ENVD_URL = "OSIRIS_E2B_ENVD_URL"
CLOUD_TEMPLATE = "OSIRIS_E2B_TEMPLATE"


@dataclass(frozen=True)
class FarEnd:
    """
    Attributes:
        options: What the adapter's configuration takes to get there.
        record: Every request, where all of them go to the local server; None where they do not.
    """

    options: dict[str, Any]
    record: Seen | None


@contextmanager
def far_end(kind: str, folder: Path) -> Iterator[FarEnd]:
    """
    `cloud` needs E2B_API_KEY, and takes the template that OSIRIS_E2B_TEMPLATE names. `local` starts a server; if
    OSIRIS_E2B_ENVD_URL is set, that is only the control plane, and the envd there is the sandbox.
    """
    if kind == "cloud":
        template = {"template": os.environ[CLOUD_TEMPLATE]} if os.environ.get(CLOUD_TEMPLATE) else {}
        yield FarEnd({"api_key": os.environ["E2B_API_KEY"], **template}, None)
        return
    envd_url = os.environ.get(ENVD_URL)
    with E2BServer(folder, Policy(envd_url=envd_url)) as server:
        options = {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": envd_url or server.sandbox_url}
        yield FarEnd({**options, "template": "osiris-ready"}, None if envd_url else server.seen)
