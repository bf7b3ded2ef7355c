"""Puts included files in the place of `!include`; every file that is missing, wrong or a circle is reported at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.configurations.expressions import ExpressionError, expand, parse, secret_in
from osiris_core.configurations.tree import ConfigurationTree, KeyPath, Origin, folder_of
from osiris_core.documents import Document, read_documents
from osiris_core.errors import ManifestError, Problem
from osiris_core.suggestion import did_you_mean
from osiris_core.yaml_reader import Include

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_INCLUDE_DEPTH = 10
"""How deep files may include files."""
MAX_INCLUDED_FILES = 1000
"""How many files one document may include; files that include others twice multiply."""
MAX_VALUES = 1_000_000
"""How many values a configuration may have, aliases written out."""


def with_includes(document: Document, values: Mapping[str, str], base_dir: Path | None = None) -> ConfigurationTree:
    """
    The document with its includes in. Paths may have expressions; a relative one starts at the including file.

    Raises:
        ManifestError: With every file that cannot be included, where it is asked for.
    """
    includer = _Includer(values, base_dir or Path.cwd())
    tree = includer.tree(document, (Path(document.file).resolve(),) if document.file else ())
    if includer.problems:
        raise ManifestError(includer.problems)
    return tree


class _Includer:
    def __init__(self, values: Mapping[str, str], base_dir: Path) -> None:
        self.problems: list[Problem] = []
        self._values = values
        self._base_dir = base_dir
        self._count = 0
        self._values_left = MAX_VALUES

    def tree(self, document: Document, chain: tuple[Path, ...]) -> ConfigurationTree:
        """`chain` is the file and those that include it, outermost first."""
        origins: dict[KeyPath, Origin] = {(): (document, ())}
        data = self._walk(document.data, (), document, chain, origins)
        return ConfigurationTree(data, origins, self._base_dir)

    def _walk(
        self, value: Any, path: KeyPath, document: Document, chain: tuple[Path, ...], origins: dict[KeyPath, Origin]
    ) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise ManifestError([Problem(f"more than {MAX_VALUES:,} values in one configuration", file=document.file)])
        if isinstance(value, Include):
            tree = self._included(value, document, chain)
            if tree is None:
                return None
            origins.update({(*path, *key): origin for key, origin in tree.origins.items()})
            return tree.data
        if isinstance(value, list):
            return [self._walk(item, (*path, index), document, chain, origins) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        found: dict[Any, Any] = {}
        for key, item in value.items():
            if key == "<<" and isinstance(item, Include):
                found.update(self._merged(value, item, path, document, chain, origins))
            else:
                found[key] = self._walk(item, (*path, key), document, chain, origins)
        return found

    def _merged(
        self,
        own: dict[Any, Any],
        include: Include,
        path: KeyPath,
        document: Document,
        chain: tuple[Path, ...],
        origins: dict[KeyPath, Origin],
    ) -> dict[Any, Any]:
        """What `<<: !include` brings: the keys that are not there themselves."""
        tree = self._included(include, document, chain)
        if tree is None:
            return {}
        if not isinstance(tree.data, dict):
            message = f"{include.path} holds no mapping, so its keys cannot be merged"
            self.problems.append(Problem(message, file=document.file, line=include.line))
            return {}
        found = {key: item for key, item in tree.data.items() if key not in own}
        root, own_path = tree.origins[()]
        for key in found:
            origins[*path, key] = (root, (*own_path, key))
        origins.update({(*path, *key): origin for key, origin in tree.origins.items() if key and key[0] in found})
        return found

    def _included(self, include: Include, document: Document, chain: tuple[Path, ...]) -> ConfigurationTree | None:
        try:
            return self._read(include, document, chain)
        except ExpressionError as exc:
            self.problems.append(Problem(str(exc), file=document.file, line=include.line, hint=exc.hint))
        except ManifestError as exc:
            self.problems += exc.problems
        return None

    def _read(self, include: Include, document: Document, chain: tuple[Path, ...]) -> ConfigurationTree:
        def refused(message: str, hint: str | None = None) -> ManifestError:
            return ManifestError([Problem(message, file=document.file, line=include.line, hint=hint)])

        if secret := secret_in(parse(include.path)):
            raise refused(f"{secret} is a secret by its name, and no part of a path")
        folder = folder_of(document) or self._base_dir
        path = Path(os.path.normpath(folder / os.path.expanduser(expand(include.path, self._values))))  # noqa: PTH111
        real = path.resolve()
        if real in chain:
            circle = " -> ".join(str(file.name) for file in (*chain[chain.index(real) :], real))
            raise refused(f"the include goes round in a circle: {circle}")
        if len(chain) > MAX_INCLUDE_DEPTH:
            raise refused(f"files include files more than {MAX_INCLUDE_DEPTH} deep")
        self._count += 1
        if self._count > MAX_INCLUDED_FILES:
            raise refused(f"more than {MAX_INCLUDED_FILES} files are included")
        if not path.is_file():
            raise refused(f"the included file is not there: {path}", did_you_mean(path.name, _siblings(path)))
        documents = read_documents(path)
        if len(documents) > 1:
            raise refused(f"{path} holds {len(documents)} documents; only a file of one can be included")
        return self.tree(documents[0], (*chain, real))


def _siblings(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.parent.iterdir())[:1000]
    except OSError:
        return []
