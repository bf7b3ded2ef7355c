"""Whether a Supabase project answers, either way that its connection names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osiris_core.drivers.http_check import check_api
from osiris_core.drivers.http_transport import PACKAGES as HTTP_PACKAGES
from osiris_core.drivers.postgres_client import PACKAGES as POSTGRES_PACKAGES
from osiris_core.drivers.postgres_server import check_postgres

if TYPE_CHECKING:
    from osiris_core.drivers.supabase_connection import SupabaseConnection

PACKAGES = (*HTTP_PACKAGES, *POSTGRES_PACKAGES)


def check_supabase(connection: SupabaseConnection, timeout_s: float) -> str:
    """
    Log in to the server, ask the REST interface, whichever of them there is; changes nothing.

    Raises:
        Exception: One of them cannot be used, as in a run.
    """
    found = []
    if connection.has_postgres:
        found.append(check_postgres(connection.postgres(), timeout_s))
    if connection.has_rest:
        found.append(f"REST: {check_api(connection.rest(), timeout_s)}")
    return "; ".join(found)
