"""The third-party packages of a worker image: which ones, and their wheels, got by the host's pip."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from adapters.docker_image.errors import ImageError
from adapters.docker_image.watch import MakingLog, Watch, cache_folder
from osiris_core.errors import FailureClass
from remote.requirements import required_packages, requirement_problem, with_driver_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adapters.docker_engine.config import DockerConfig
    from adapters.docker_image.base import BasePython

_PIP = (sys.executable, "-m", "pip")
_QUIET = ("--no-input", "--progress-bar=off")
_NO_WHEEL = re.compile(r"No matching distribution found for (.+?)(?: \(from .*)?$")
_NETWORK = ("connection", "timed out", "name resolution", "max retries", "ssl", "proxy")
POLL_S = 0.2


def required(extra: Sequence[str], *, pinned: bool = True) -> list[str]:
    """What is installed; see `required_packages`. Raises ImageError when a requirement cannot be used."""
    try:
        return required_packages(extra, pinned=pinned)
    except ValueError as exc:
        raise ImageError(str(exc)) from exc


def with_packages(config: DockerConfig, drivers: Iterable[str]) -> DockerConfig:
    """
    The settings with the packages that these drivers ask for.

    An image that is ready, or made from a Dockerfile, holds what it holds.
    """
    if config.image is not None or config.dockerfile is not None:
        return config
    requirements = with_driver_packages(config.requirements, drivers, pinned=config.wheels_dir is None)
    return config if requirements == config.requirements else config.model_copy(update={"requirements": requirements})


def wheel_names(folder: Path) -> list[str]:
    """
    The names of the wheels in a folder, sorted.

    Raises:
        ImageError: There are none.
    """
    try:
        found = sorted(path.name for path in folder.iterdir() if path.suffix == ".whl" and path.is_file())
    except OSError as exc:
        raise ImageError(f"wheels_dir {folder} cannot be read: {exc.strerror}") from exc
    if not found:
        raise ImageError(f"there is no wheel in wheels_dir {folder}; fill it: pip download -d {folder} PACKAGE ...")
    return found


def wheel_digests(folder: Path) -> dict[str, str]:
    """The wheels in a folder with their sha256, sorted. Raises as `wheel_names` does."""
    digests = {}
    for name in wheel_names(folder):
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def downloaded_wheels(requirements: Sequence[str], python: BasePython, watch: Watch) -> Path:
    """
    A folder with wheels of all requirements and what they need, for the Python of an image.

    The host's pip gets them, with its own configuration (index, credentials, proxy), so that none of that comes near
    the image. What was downloaded once is used again.

    Raises:
        ImageError: pip is missing, or could not get them; the message names the file with the whole log.
        RunCancelled: The watch says so.
    """
    key = hashlib.sha256("\n".join([*requirements, python.version, *python.platforms]).encode()).hexdigest()[:24]
    folder = cache_folder("wheels") / key
    if folder.is_dir():
        return folder
    parts = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=folder.parent))
    try:
        with MakingLog(watch, f"wheels-{key}") as log:
            _download(requirements, python, parts, watch, log)
        try:
            parts.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise somebody else was quicker
                raise
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return folder


def _download(requirements: Sequence[str], python: BasePython, folder: Path, watch: Watch, log: MakingLog) -> None:
    log.line(f"downloading wheels for Python {python.version}")
    platforms = [f"--platform={platform}" for platform in python.platforms]
    with tempfile.TemporaryDirectory(prefix="osiris-wheels-") as made:
        argv = [*_PIP, "download", *_QUIET, f"--dest={folder}", f"--find-links={made}", "--only-binary=:all:"]
        argv += ["--implementation=cp", f"--python-version={python.version}", *platforms]
        tried: set[str] = set()
        while True:
            exit_code, lines = _run([*argv, "--", *requirements], watch, log)
            if exit_code == 0:
                return
            without_wheel = {found[1].strip() for line in lines if (found := _NO_WHEEL.search(line))} - tried
            if not without_wheel or not _make_wheels(without_wheel, Path(made), watch, log):
                break
            tried |= without_wheel
    _give_up(exit_code, lines, python, log)


def _make_wheels(requirements: Iterable[str], folder: Path, watch: Watch, log: MakingLog) -> bool:
    """
    Wheels of packages that are published as source only; False if they cannot be made.

    Those that are pure Python are the same on every platform; another kind is of no use to the image and the next
    download says so.
    """
    wanted = sorted(item for item in requirements if requirement_problem(item) is None)
    if not wanted:
        return False
    log.line(f"making wheels of what is published as source only: {', '.join(wanted)}")
    exit_code, _ = _run([*_PIP, "wheel", *_QUIET, "--no-deps", f"--wheel-dir={folder}", "--", *wanted], watch, log)
    return exit_code == 0


def _give_up(exit_code: int, lines: Iterable[str], python: BasePython, log: MakingLog) -> NoReturn:
    said = "\n".join(lines).lower()
    if "no module named pip" in said:
        message = f"{sys.executable} has no pip to get the worker's packages with; install pip, or set wheels_dir"
        raise ImageError(message)
    kind = FailureClass.INFRA_LOST if any(word in said for word in _NETWORK) else FailureClass.USER_ERROR
    message = (
        f"pip cannot get the worker's packages as wheels for Python {python.version} (exit code {exit_code}); "
        "change requirements, or set wheels_dir to a folder that has them all"
    )
    raise ImageError(log.described(message), failure_class=kind)


def _run(argv: Sequence[str], watch: Watch, log: MakingLog) -> tuple[int, list[str]]:
    """Run a command, its output going to the log as it comes; it is dead on return, whatever happens."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=_forward, args=(process.stdout, lines, log), name="osiris-pip", daemon=True)
    reader.start()
    try:
        while True:
            try:
                exit_code = process.wait(timeout=POLL_S)
                break
            except subprocess.TimeoutExpired:
                watch.check()
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
    return exit_code, lines


def _forward(output: Iterable[str], lines: list[str], log: MakingLog) -> None:
    for line in output:
        lines.append(line)
        log.line(line)
