"""An image from the user's own Dockerfile: named by the content of everything that decides it, so built only once."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from docker.utils.build import exclude_paths  # type: ignore[import-untyped, unused-ignore]

from adapters.docker_engine.values import find_dockerfile
from adapters.docker_image.errors import ImageError
from osiris_core.redaction import has_url_password, is_secret_field
from osiris_core.secrets import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class BuildContext:
    """
    A folder that is sent to a build, without what its `.dockerignore` leaves out.

    `dockerfile` may lie outside; it is then sent along as `sent_dockerfile`.
    """

    folder: Path
    dockerfile: Path
    members: tuple[str, ...]

    @property
    def is_inside(self) -> bool:
        return self.dockerfile.is_relative_to(self.folder)

    @property
    def sent_dockerfile(self) -> str:
        """The Dockerfile's name in the context."""
        if self.is_inside:
            return self.dockerfile.relative_to(self.folder).as_posix()
        return f".osiris-{hashlib.sha256(self.dockerfile.read_bytes()).hexdigest()[:16]}.dockerfile"

    def digest(self, build_args: Mapping[str, str], platform: str | None) -> str:
        """Of the contents alone: names, modes and bytes, the arguments and the platform. No path and no time."""
        found = hashlib.sha256()
        settings = [self.sent_dockerfile, dict(sorted(build_args.items())), platform]
        for part in [settings, hashlib.sha256(self.dockerfile.read_bytes()).hexdigest(), *self._described()]:
            found.update(json.dumps(part).encode() + b"\n")
        return found.hexdigest()

    def _described(self) -> Iterator[list[str | int]]:
        for name in self.members:
            path = self.folder / name
            state = path.lstat()
            if stat.S_ISLNK(state.st_mode):
                content = f"-> {os.readlink(path)}"  # noqa: PTH115 - as bytes of the link, never as a path
            elif stat.S_ISREG(state.st_mode):
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            else:
                content = "folder" if stat.S_ISDIR(state.st_mode) else "special"
            yield [name, stat.S_IFMT(state.st_mode), stat.S_IMODE(state.st_mode), content]

    def packed(self) -> BinaryIO:
        """The context as a tar in a temporary file, which is gone when closed. Everything in it is root's."""
        file = tempfile.TemporaryFile(prefix="osiris-context-")  # noqa: SIM115 - the caller's to close
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for name in self.members:
                    archive.add(self.folder / name, name, recursive=False, filter=_owned_by_root)
                if not self.is_inside:
                    archive.add(self.dockerfile, self.sent_dockerfile, recursive=False, filter=_owned_by_root)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file


def read_context(dockerfile: str, build_context: str | None) -> BuildContext:
    """
    Look at a Dockerfile and its context; relative paths start at the context, or at the current directory.

    Raises:
        ImageError: One of them is not there or cannot be read.
    """
    file = find_dockerfile(dockerfile, build_context).resolve()
    folder = Path(build_context).expanduser().resolve() if build_context is not None else file.parent
    if not file.is_file():
        raise ImageError(f"there is no dockerfile {file}")
    if not folder.is_dir():
        raise ImageError(f"build_context {folder} is no folder")
    inside = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else "Dockerfile"
    try:
        names = exclude_paths(str(folder), _ignored(folder), dockerfile=inside)
    except OSError as exc:
        raise ImageError(f"build_context {folder} cannot be read: {exc}") from exc
    return BuildContext(folder, file, tuple(sorted(names)))


def check_build_args(build_args: Mapping[str, str]) -> None:
    """
    Refuse arguments that are secret: they would stay readable in the image's history.

    Raises:
        ImageError: Naming each.
    """
    wrong = [
        name
        for name, value in build_args.items()
        if is_secret_field(name) or has_url_password(value) or any(True for _ in references(value))
    ]
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ImageError(
            f"build_args {names}: no secret can be an argument of a build, it stays in the image's history for all who "
            "get the image; give it to the run as an environment variable (env_vars, or osiris run --env NAME)"
        )


def _ignored(folder: Path) -> list[str]:
    try:
        lines = (folder / ".dockerignore").read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
