"""What sandboxes are made from."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

from tests.e2b_server.pythons import installed_packages, make_python

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Template:
    """
    One build of a template, ready for use.

    Attributes:
        layers: Folders of packages that its Python sees.
        home: The files that every sandbox of it starts with.
        workdir: Where commands start, seen from the home directory.
        tags: The name's tags that mean this build.
    """

    name: str
    home: Path
    layers: tuple[Path, ...]
    template_id: str = field(default_factory=lambda: secrets.token_hex(10))
    build_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    cpu_count: int = 2
    memory_mb: int = 1024
    envs: dict[str, str] = field(default_factory=dict)
    workdir: str = "."
    tags: set[str] = field(default_factory=lambda: {"default"})
    made_at: float = field(default_factory=time)


class Templates:
    """
    All that the account can use: `base` has a bare Python, `osiris-ready` the packages of this interpreter.

    Attributes:
        taken: Names of which a build was asked for, whatever became of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: set[str] = set()
        self.ready: list[Template] = []
        for name, layers in (("base", ()), ("osiris-ready", (installed_packages(),))):
            place = folder / name
            home = place / "home"
            home.mkdir(parents=True)
            packages = make_python(place / "python", layers)
            self.ready.append(Template(name, home, (packages, *layers)))

    def find(self, name: str) -> Template | None:
        """By id or name; a tag follows after a colon."""
        plain, _, tag = name.partition(":")
        for template in reversed(self.ready):
            if plain in (template.name, template.template_id) and (tag or "default") in template.tags:
                return template
        return None
