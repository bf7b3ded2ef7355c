"""Every configuration of a file, checked: what each is, and what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osiris_core.configuration_file import read_trees
from osiris_core.configurations.kinds import kind_of_tree
from osiris_core.configurations.validation import validated
from osiris_core.errors import ManifestError, OsirisError, PreparationError, Problem
from osiris_core.models.pipeline_file import is_pipeline, read_pipeline

if TYPE_CHECKING:
    from osiris_core.configurations.tree import ConfigurationTree


@dataclass
class Checked:
    """One configuration: `kind` and `name` are empty where it does not say what it is."""

    file: str
    at: int
    kind: str = ""
    name: str = ""
    problems: list[Problem] = field(default_factory=list)

    @property
    def line(self) -> str:
        what = " ".join(part for part in (self.kind, f"'{self.name}'" if self.name else "") if part)
        count = len(self.problems)
        verdict = f"{count} problem{'s' if count != 1 else ''}" if count else "valid"
        return f"{self.file}:{self.at}: {what or 'a configuration'}: {verdict}"

    def to_json(self) -> dict[str, Any]:
        status = "invalid" if self.problems else "valid"
        return {"file": self.file, "line": self.at, "kind": self.kind, "name": self.name, "status": status}


def checked_file(path: str, wanted: tuple[str, str] | None = None) -> list[Checked]:
    """
    Each document of the file; `wanted` is the kind and name of those that do not say what they are.

    Raises:
        ManifestError: The file cannot be read at all.
    """
    return [_checked(tree, path, wanted) for tree in read_trees(path)]


def _checked(tree: ConfigurationTree, path: str, wanted: tuple[str, str] | None) -> Checked:
    found = Checked(path, tree.place(())[1] or 1)
    try:
        if not isinstance(tree.data, dict):
            raise ManifestError([tree.problem("a configuration is a mapping of keys to values")])
        if wanted is None and is_pipeline(tree):
            found.kind = "pipeline"
            read_pipeline(tree, os.environ)
            return found
        meant = kind_of_tree(tree, wanted)
        found.kind, found.name = meant.kind, meant.name
        validated(tree, meant.model, os.environ, drop=meant.drop)
    except PreparationError as exc:
        found.problems = exc.problems
    except OsirisError as exc:
        found.problems = [tree.problem(str(exc))]
    return found
