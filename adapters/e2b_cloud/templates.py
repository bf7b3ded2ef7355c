"""The template that has the worker's packages: what it is called, and how it is built."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

import e2b

from adapters.e2b_cloud.loop import PrivateLoop
from osiris_core.errors import FailureClass
from remote.requirements import required_packages, with_driver_packages
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.config import E2BConfig

BASE_TEMPLATE = "base"
"""What every account has: Debian with a Python, without the worker's packages."""
NAME = "osiris-worker"
READY_TAG = "default"
"""The tag that a name without one means."""
LAST_LINES = 12


def python_version(config: E2BConfig) -> str:
    """The template's. Byte code that travels with a run is for this host's: with another one it is made anew."""
    return config.python_version or f"{sys.version_info.major}.{sys.version_info.minor}"


def template_name(config: E2BConfig) -> str:
    """The name of the template that the settings ask for: a hash of its packages, its Python, cpu and memory."""
    parts = {
        "python": python_version(config),
        "requirements": required_packages(config.requirements),
        "apt_packages": sorted(set(config.apt_packages)),
        "cpu": config.cpu,
        "memory_mb": config.memory_mb,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{NAME}-{digest[:16]}"


def with_packages(config: E2BConfig, drivers: Iterable[str]) -> E2BConfig:
    """
    The settings with the packages that these drivers declare. A ready template holds what it holds.

    What `requirements` names already stays as it is.
    """
    if config.template is not None:
        return config
    requirements = with_driver_packages(config.requirements, drivers, pinned=True)
    return config if requirements == config.requirements else config.model_copy(update={"requirements": requirements})


def set_up(account: Account, config: E2BConfig, progress: Callable[[str], None]) -> str | None:
    """
    Build the template beforehand; says what was built, None when there was nothing to build.

    Raises:
        SandboxError: E2B cannot be asked, or the build failed; with the last lines of its log.
    """
    if config.template is not None:
        progress(f"template {config.template} is a ready one: nothing is built")
        return None
    name = template_name(config)
    loop = PrivateLoop.shared()
    with account.errors(f"template {name} cannot be looked up"):
        if READY_TAG in loop.run(_tags(account, name)):
            return None
    started_s = monotonic()
    progress(f"building template {name}")
    lines: list[str] = []

    def note(entry: Any) -> None:
        for line in str(entry.message).splitlines():
            text = account.redactor.text(line.strip())
            if text:
                lines.append(text)
                progress(text)

    try:
        with account.errors(f"template {name} cannot be built"):
            loop.run(_build(account, config, name, note))
    except SandboxError as exc:
        last = "".join(f"\n  {line}" for line in lines[-LAST_LINES:])
        raise SandboxError(f"{exc}; the build said last:{last}", failure_class=exc.failure_class) from None
    return f"built template {name} in {monotonic() - started_s:.1f} s"


async def _tags(account: Account, name: str) -> set[str]:
    """What is there of it; a name alone is taken as soon as a build is asked for, whatever became of that."""
    try:
        return {str(item.tag) for item in await account.templates.get_tags(name)}
    except e2b.TemplateException as exc:
        if exc.status_code == HTTPStatus.NOT_FOUND:
            return set()
        raise


async def _build(account: Account, config: E2BConfig, name: str, note: Callable[[Any], None]) -> None:
    """Under a tag of its own, so that a build that fails, or that nobody waits for any more, passes for nothing."""
    built = f"{name}:build-{secrets.token_hex(4)}"
    template = account.templates().from_python_image(python_version(config))
    if config.apt_packages:
        template = template.apt_install(sorted(set(config.apt_packages)))
    template = template.pip_install(required_packages(config.requirements))
    try:
        await account.templates.build(
            template,
            built,
            cpu_count=config.cpu,
            memory_mb=config.memory_mb,
            on_build_logs=note,
        )
        await account.templates.assign_tags(built, READY_TAG)
    except e2b.BuildException as exc:
        message = (
            f"template {name} cannot be built: {' '.join(str(exc).split())} (change requirements, apt_packages or "
            "python_version)"
        )
        raise SandboxError(message, failure_class=FailureClass.USER_ERROR) from None
