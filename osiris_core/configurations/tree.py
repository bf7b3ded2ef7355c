"""One document of a configuration file with what it includes, and where each value of it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from osiris_core.documents import Document

KeyPath = tuple[str | int, ...]
Origin = tuple["Document", KeyPath]


@dataclass
class ConfigurationTree:
    """
    Attributes:
        data: What the document says, includes put in.
        origins: Where a part comes from: the document, and its path in there. What lies below comes from there too.
        base_dir: The folder of relative paths where a document is no file.
    """

    data: Any = field(repr=False)
    origins: dict[KeyPath, Origin] = field(repr=False)
    base_dir: Path = field(default_factory=Path.cwd)

    @property
    def file(self) -> str | None:
        return self.origins[()][0].file

    def place(self, path: Sequence[str | int]) -> tuple[str | None, int | None]:
        """The file and the line of the value at `path`, or of the nearest ancestor."""
        document, own = self._origin(tuple(path))
        return document.file, document.line_of(own)

    def folder(self, path: Sequence[str | int]) -> Path:
        """The folder of the file in which the value at `path` stands."""
        document, _ = self._origin(tuple(path))
        return folder_of(document) or self.base_dir

    def problem(self, message: str, path: Sequence[str | int] = (), hint: str | None = None) -> Problem:
        """A problem of the value at `path`, with its key, file and line."""
        file, line = self.place(path)
        return Problem(message, key=".".join(map(str, path)) or None, file=file, line=line, hint=hint)

    def below(self, *path: str | int) -> ConfigurationTree:
        """The part at `path` as a tree of its own; it must be there."""
        data = self.data
        for part in path:
            data = data[part]
        document, own = self._origin(path)
        inner = {key[len(path) :]: origin for key, origin in self.origins.items() if key[: len(path)] == path}
        return ConfigurationTree(data, {(): (document, own), **inner}, self.base_dir)

    def _origin(self, path: KeyPath) -> Origin:
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                document, own = self.origins[path[:length]]
                return document, (*own, *path[length:])
        raise AssertionError("the root has an origin")


def folder_of(document: Document) -> Path | None:
    """The folder of the document's file; None for one that is no file."""
    return Path(document.file).parent if document.file and Path(document.file).is_file() else None
