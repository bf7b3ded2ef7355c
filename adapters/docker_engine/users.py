"""Which numbers a user's name stands for in an image."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from adapters.docker_engine.client import Client

MAX_PASSWD_BYTES = 1 << 20


def uid_gid(client: Client, container: str, user: str) -> tuple[int, int]:
    """
    The numbers of `user`: written as they are, or looked up in the container's `/etc/passwd`.

    Raises:
        SandboxError: The image has no such user.
    """
    name, _, gid = user.partition(":")
    if name.isdigit():
        return int(name), int(gid or name)
    stream, _ = client.api.get_archive(container, "/etc/passwd")
    data = b""
    for piece in stream:
        data += piece
        if len(data) > MAX_PASSWD_BYTES:
            break
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None and member.isreg() else None
        lines = file.read().decode("utf-8", "replace").splitlines() if file is not None else []
    for line in lines:
        fields = line.split(":")
        if len(fields) > 3 and fields[0] == name and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    message = f"the image has no user {name!r}: set user to a uid, as in 1000:1000"
    raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
