"""What single values of the configuration may be: each check gives the reason why not, or None."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

VOLUME_DIR = PurePosixPath("/osiris")
"""Where a run's own volume is mounted; its folders are below it."""

CAPABILITIES = frozenset(
    """AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
    FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM""".split()  # noqa: SIM905
)
"""Those that Linux knows; an engine's kernel may be older."""

MAX_IMAGE_NAME_CHARS = 255
_RESERVED = tuple(map(PurePosixPath, ("/proc", "/sys", "/dev", "/opt/osiris", str(VOLUME_DIR))))
_SIZE = re.compile(r"(\d+)([bkmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?P<name>(?:{_REGISTRY}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


def refuse(problems: Iterable[str | None]) -> None:
    """Raises ValueError with every problem, when there are any."""
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ValueError("; ".join(found))


def size_bytes(value: int | str) -> int:
    """A size as Docker writes it: bytes, or a number with b, k, m or g."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("give a size in bytes, or a whole number with b, k, m or g: 512m, 2g")
    return int(match[1]) * _UNITS[match[2].lower()]


def image_problem(image: str) -> str | None:
    """The value is not repeated: somebody's password may be in a URL that was put here."""
    match = _IMAGE.fullmatch(image)
    if match is not None and len(match["name"]) <= MAX_IMAGE_NAME_CHARS:
        return None
    remedy = (
        "write it as name[:tag][@digest], in lower case, with its registry as in registry.example.org:5000/team/model:4"
    )
    return f"this is no reference to an image; {remedy}"


def capability_problem(name: str) -> str | None:
    known = name.removeprefix("CAP_")
    if known in CAPABILITIES:
        return None
    hint = did_you_mean(known.upper().removeprefix("CAP_"), sorted(CAPABILITIES))
    return f"{name!r} is no capability; {hint or 'name each, as in NET_BIND_SERVICE'}"


def container_path(text: str) -> PurePosixPath:
    """
    A place in the container where something may be mounted. `//a` is `/a`, as it is for Linux.

    Raises:
        ValueError: There is none such, or the container needs it itself.
    """
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"{text!r} must be an absolute path in the container")
    path = PurePosixPath("/" + text.lstrip("/"))
    if ".." in path.parts:
        raise ValueError("the path in the container must not contain '..'")
    if path == PurePosixPath("/") or any(
        path.is_relative_to(place) or place.is_relative_to(path) for place in _RESERVED
    ):
        raise ValueError(f"{path} belongs to the container itself; take another path")
    return path


def tmpfs_problem(path: str, size: int | str) -> str | None:
    try:
        if ":" in path:
            raise ValueError("a folder in memory must not have a ':' in its path")
        container_path(path)
        size_bytes(size)
    except ValueError as exc:
        return f"{path!r}: {exc}"
    return None


def variable_problem(name: str, value: str) -> str | None:
    if not _VARIABLE.fullmatch(name):
        return f"{name!r} is no name of an environment variable"
    return f"the value of {name} contains a NUL character" if "\0" in value else None


def find_dockerfile(dockerfile: str, build_context: str | None) -> Path:
    """Where a Dockerfile is: below its build context if it is there, else as it is written."""
    written = Path(dockerfile).expanduser()
    if build_context is not None and not written.is_absolute():
        below = Path(build_context).expanduser() / written
        if below.exists() or not written.exists():
            return below.absolute()
    return written.absolute()


def label_problem(name: str) -> str | None:
    is_ours = not name or name == "osiris" or name.startswith("osiris.")
    return f"the label {name!r} is ours; take another name" if is_ours else None
