"""
The start request of a worker that begins when nobody may be connected to it: a file in its folder, and a key apart.

The file is encrypted, because it has the values of secrets; the key travels another way (a batch job's environment).
Neither alone tells anything. The file stays, so that a worker that is started again finds it again.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remote import folders

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLE = "OSIRIS_ORDER_KEY"
RESTARTS_VARIABLE = "OSIRIS_RESTARTS"
"""How often the worker of this run was started before, by whoever starts it."""
PASS_ON_VARIABLE = "OSIRIS_PASS_ON"  # noqa: S105 - no password
"""
Names of variables that steps are to see though nobody declared them, with spaces between: those of their allocation,
and of the site's environment that was set up for them. `NAME*` is all that begin so.
"""
ORDER_ID = "order"
"""The id of the request in the file: no host that calls has it."""
_NONCE_BYTES = 12


class OrderError(Exception):
    """The order cannot be read; says what to do about it."""


def new_key() -> str:
    """A key for one run."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def seal(message: bytes, key: str) -> bytes:
    """What `message` looks like in the file. Needs the package `cryptography`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed: bytes = _cipher(key).encrypt(nonce, message, None)
    return nonce + sealed


def unseal(sealed: bytes, key: str) -> bytes:
    """
    The message again.

    Raises:
        OrderError: It was sealed with another key, was changed, or `cryptography` is not installed.
    """
    try:
        opened: bytes = _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except ImportError as exc:
        raise OrderError("cryptography is not installed where the worker runs; install it there") from exc
    except Exception as exc:
        raise OrderError("the order was not written with the key that came with the job") from exc
    return opened


def write_order(path: str, sealed: bytes) -> None:
    """The file is there, whole, for nobody but its owner, on return."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, sealed)
    finally:
        os.close(fd)
    os.replace(f"{path}.new", path)  # noqa: PTH105 - a plain path, as everywhere in a worker


def take_key() -> str | None:
    """The key that this process was started with; no process that it starts inherits it."""
    return os.environ.pop(KEY_VARIABLE, None)


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Which of these variables steps are to see, because whoever started the worker says so."""
    names = environment.get(PASS_ON_VARIABLE, "").split()
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {name: value for name, value in environment.items() if name in names or name.startswith(prefixes)}


def read_order(work_dir: str, key: str, restarts: int) -> bytes:
    """
    The start request in a worker's folder; for a worker that was started again, as the next attempt of its run.

    Raises:
        OrderError: There is none that this key opens.
    """
    try:
        with open(f"{work_dir}/{folders.ORDER_FILE}", "rb") as file:
            message = unseal(file.read(), key)
    except OSError as exc:
        raise OrderError(f"the order cannot be read: {exc.strerror}") from exc
    if not restarts:
        return message
    request: dict[str, Any] = json.loads(message)
    params = request["params"]
    params["attempt"] += restarts
    params["resume"] = True
    params["earlier"] = _earlier(work_dir, restarts)
    return json.dumps(request).encode()


def is_superseded(work_dir: str, restarts: int) -> bool:
    """Whether the run goes on without this worker: a later start has its folder, or what it came to was fetched."""
    base = _base(work_dir, restarts)
    return os.path.exists(f"{base}/{folders.RESTART_PREFIX}{restarts + 1}") or _is_over(base)  # noqa: PTH110


def clear_up(work_dir: str, restarts: int) -> None:
    """What a worker made again of a folder that was taken away because its run is over, is gone on return."""
    if _is_over(base := _base(work_dir, restarts)):
        shutil.rmtree(base, ignore_errors=True)


def _is_over(base: str) -> bool:
    return not os.path.exists(f"{base}/{folders.PREPARED_FILE}")  # noqa: PTH110


def _base(work_dir: str, restarts: int) -> str:
    return os.path.dirname(work_dir) if restarts else work_dir  # noqa: PTH120 - pathlib comes after `hello`


def _earlier(work_dir: str, restarts: int) -> str:
    """The session folder of the last start before this one that came to write a journal."""
    base = os.path.dirname(work_dir)  # noqa: PTH120 - pathlib comes after `hello`
    for number in range(restarts - 1, -1, -1):
        place = f"{base}/{folders.RESTART_PREFIX}{number}" if number else base
        with suppress(OSError):
            if os.path.getsize(f"{place}/{folders.SESSION_FOLDER}/events.jsonl"):  # noqa: PTH202
                return f"{place}/{folders.SESSION_FOLDER}"
    return ""


def _cipher(key: str) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(base64.urlsafe_b64decode(key))
