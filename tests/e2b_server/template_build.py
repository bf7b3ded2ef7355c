"""Builds a template: archives are unpacked and commands run for real, below a directory of the template's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Literal

from tests.e2b_server.pythons import make_python
from tests.e2b_server.sandbox import timestamp
from tests.e2b_server.templates import Template

if TYPE_CHECKING:
    from tests.e2b_server.templates import Templates


class BuildFailed(Exception):
    """A step did not work; `step` is its number, counted from 1, or the name of a phase."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.message, self.step = message, step


@dataclass
class Build:
    """
    One build, from its request on.

    Attributes:
        log: What the client reads piece by piece.
        archives: Where the files of COPY steps are, by hash.
    """

    template_id: str
    name: str
    tags: list[str]
    cpu_count: int
    memory_mb: int
    folder: Path
    archives: Path
    build_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Literal["waiting", "building", "ready", "error"] = "waiting"
    log: list[dict[str, str]] = field(default_factory=list)
    reason: dict[str, Any] | None = None

    def say(self, message: str, level: str = "info") -> None:
        self.log.append({"timestamp": timestamp(time()), "message": message, "level": level})

    def run(self, recipe: dict[str, Any], templates: Templates) -> None:
        """Ends `ready`, with the template among `templates`, or `error`, with the reason."""
        self.status = "building"
        try:
            templates.ready.append(self._made(recipe, templates))
        except BuildFailed as exc:
            self.say(exc.message, "error")
            self.reason = {"message": exc.message, "step": exc.step}
            self.status = "error"
        else:
            self.say("Build finished")
            self.status = "ready"

    def _made(self, recipe: dict[str, Any], templates: Templates) -> Template:
        base = templates.find(recipe.get("fromTemplate", "base"))
        if base is None:
            raise BuildFailed(f"base template '{recipe['fromTemplate']}' not found", "base")
        place = self.folder / self.build_id
        home = place / "home"
        shutil.copytree(base.home, home, symlinks=True)
        packages = make_python(place / "python", base.layers)
        template = Template(
            self.name,
            home,
            (packages, *base.layers),
            template_id=self.template_id,
            build_id=self.build_id,
            cpu_count=self.cpu_count,
            memory_mb=self.memory_mb,
            envs=dict(base.envs),
            workdir=base.workdir,
            tags=set(self.tags),
        )
        for number, step in enumerate(recipe.get("steps", []), 1):
            self.say(f"[builder {number}/{len(recipe['steps'])}] {step['type']} {' '.join(step.get('args') or [])}")
            try:
                self._take(step, template, place)
            except (OSError, tarfile.TarError, ValueError) as exc:
                raise BuildFailed(f"failed to run {step['type']}: {exc}", str(number)) from exc
        if recipe.get("startCmd") or recipe.get("readyCmd"):
            raise BuildFailed("this test server starts no commands of templates", "finalize")
        return template

    def _take(self, step: dict[str, Any], template: Template, place: Path) -> None:
        arguments = step.get("args") or []
        match step["type"]:
            case "ENV":
                template.envs.update(zip(arguments[::2], arguments[1::2], strict=True))
            case "WORKDIR":
                folder = _inside(arguments[0], template.home)
                folder.mkdir(parents=True, exist_ok=True)
                template.workdir = str(folder.relative_to(template.home.resolve()))
            case "USER":
                pass
            case "COPY":
                self._copy(self.archives / step["filesHash"], arguments, template.home)
            case "RUN":
                self._run(arguments[0], template, place)
            case other:
                raise ValueError(f"unknown step {other}")

    def _copy(self, archive: Path, arguments: list[str], home: Path) -> None:
        source, target, *rest = arguments
        target_path = _inside(target, home)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            for found in sorted(Path(folder).glob(source.removeprefix("./"))):
                if found.is_dir():
                    shutil.copytree(found, target_path, symlinks=True, dirs_exist_ok=True)
                    continue
                into = target_path / found.name if target.endswith("/") or target_path.is_dir() else target_path
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)
                if rest[1:] and rest[1]:
                    into.chmod(int(rest[1], 8))

    def _run(self, command: str, template: Template, place: Path) -> None:
        environment = {
            "PATH": f"{place / 'python/bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(template.home),
            "TMPDIR": str(place),
            **template.envs,
        }
        process = subprocess.Popen(
            # No login shell: that would put the machine's own programs before the template's.
            ["/bin/bash", "-c", command],
            env=environment,
            cwd=template.home / template.workdir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.say(line.rstrip("\n"))
        if process.wait():
            raise ValueError(f"exit status {process.returncode}")


def _inside(text: str, home: Path) -> Path:
    text = str(home) + text[1:] if text == "~" or text.startswith("~/") else text
    path = Path(os.path.normpath(home.resolve() / text))
    if not path.is_relative_to(home.resolve()):
        raise ValueError(f"'{text}' is outside of this test server's template; write it relative to the home directory")
    return path
