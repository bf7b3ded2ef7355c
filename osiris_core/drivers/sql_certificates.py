"""Certificates and keys of a connection as the files that client libraries want, without their texts on any disk."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from osiris_core.drivers.sql_errors import DatabaseFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osiris_core.drivers.sql_connection import SqlConnection

PEM_START = "-----BEGIN "


@contextmanager
def certificate_files(connection: SqlConnection) -> Iterator[dict[str, str]]:
    """
    The paths of what the connection has of `tls_ca`, `tls_cert` and `tls_key`; those of texts are gone afterwards.

    Raises:
        DatabaseFailed: A file that is named is not there, or may not be read.
    """
    with ExitStack() as opened:
        found = {}
        for name in ("tls_ca", "tls_cert", "tls_key"):
            value = getattr(connection, name)
            if value is None:
                continue
            text = value if isinstance(value, str) else value.get_secret_value()
            if PEM_START in text:
                found[name] = opened.enter_context(_in_memory(text if text.endswith("\n") else text + "\n"))
            else:
                _check_readable(name, text)
                found[name] = text
        yield found


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A file that only this process has. libpq wants that of a key to be nobody else's."""
    if not hasattr(os, "memfd_create"):  # not Linux
        with tempfile.NamedTemporaryFile("w", prefix="osiris-", suffix=".pem", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            yield file.name
        return
    number = os.memfd_create("osiris-pem")
    try:
        os.fchmod(number, 0o600)
        with open(number, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a path"
    # What should have been a text of PEM may stand there: a key is not shown.
    shown = "" if name == "tls_key" else f" {path[:200]!r}"
    raise DatabaseFailed(
        f"{name}: the file{shown} cannot be read: {reason}",
        remedy="name a file where the step runs, or give its text (PEM), which travels with the run",
    )
