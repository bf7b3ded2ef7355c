"""
Reads YAML and JSON files, and knows on which line of them a value stands: `read_document` for a file that holds
one, `read_documents` for one that may hold several and name others with `!include`.

YAML is read by the rules of YAML 1.2's core schema: `no`, `on`, `1:30` and `2026-11-20` are texts, as their
authors meant them. A key that stands twice in one mapping is an error, not a silent last-one-wins.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from osiris_core.errors import ManifestError, Problem
from osiris_core.yaml_reader import RefusedError, check_nodes, compose, load_all, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass
class Document:
    """A parsed file, or one document of it: its data, and where each value of it stands."""

    data: Any = field(repr=False)
    text: str = field(repr=False)
    file: str | None = None
    index: int = 0
    _root: yaml.Node | None = field(default=None, repr=False)

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """
        The line (from 1) of the value at `path`, or of the nearest ancestor that exists; None if unknown. The whole
        of a document that is not the file's first has a line too.

        Positions are found on the first call only: a document without a problem never pays for them.
        """
        if self._root is None:
            if not self.text:
                return None
            try:
                self._root = compose(_as_yaml(self.text) if _is_json(self.file) else self.text, self.index)
            except (yaml.YAMLError, ValueError, IndexError):
                return None
        node, line = self._root, None
        if self.index and node is not None:
            line = node.start_mark.line + 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line


def read_document(path: Path) -> Document:
    """
    Parse a YAML or JSON file.

    Raises:
        ManifestError: It is missing, unreadable, not UTF-8 or not YAML, with the line where that shows.
    """
    return parse_document(_text_of(path), file=str(path))


def read_documents(path: Path) -> list[Document]:
    """
    Parse a file of one or more documents (`---` between them), whose data may have an `Include` anywhere. Empty ones
    are left out. Raises as `read_document` does.
    """
    return parse_documents(_text_of(path), file=str(path))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError([Problem("there is no such file", file=str(path))]) from None
    except UnicodeDecodeError as exc:
        message = f"not UTF-8 text: byte {exc.object[exc.start]:#04x} at position {exc.start}"
        raise ManifestError([Problem(message, file=str(path))]) from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ManifestError([Problem(f"cannot be read: {reason}", file=str(path))]) from exc


def parse_document(text: str, file: str | None = None) -> Document:
    """Parse YAML or JSON text (JSON where `file` ends in `.json`). Raises ManifestError naming the line."""
    with _errors_of(file):
        return Document(_load_json(text) if _is_json(file) else load_yaml(text), text, file)


def parse_documents(text: str, file: str | None = None) -> list[Document]:
    """Like `read_documents`, of a text; at least one, whose data is None where there is nothing."""
    if _is_json(file):
        return [parse_document(text, file)]
    with _errors_of(file):
        found = [Document(data, text, file, index) for index, data in enumerate(load_all(text))]
    return [document for document in found if document.data is not None] or [Document(None, text, file)]


@contextmanager
def _errors_of(file: str | None) -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as exc:
        raise ManifestError([Problem(f"not JSON: {exc.msg}", file=file, line=exc.lineno)]) from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise ManifestError([Problem(_reason(exc), file=file, line=line)]) from None
    except (ValueError, KeyError) as exc:
        raise ManifestError([Problem(f"a value cannot be read: {exc}", file=file)]) from None
    except RecursionError:
        raise ManifestError([Problem("nested too deeply", file=file)]) from None


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, RefusedError):
        return str(error.problem)
    if isinstance(error, yaml.reader.ReaderError):
        return f"not YAML: the character {error.character!r} is not allowed in a text file"
    problem = getattr(error, "problem", None) or str(error)
    if "maximum nesting depth" in problem:
        return "nested too deeply"
    if "found another document" in problem:
        return "a second document starts here; a file holds one"
    if "cannot start any token" in problem:
        return f"not YAML: {problem} (a tab? indent with blanks; a text that starts with @, ` or % needs quotes)"
    if "alias" in problem and "undefined" in problem:
        return f"not YAML: {problem} (a text that starts with * needs quotes)"
    return f"not YAML: {problem}"


def _is_json(file: str | None) -> bool:
    return file is not None and file.lower().endswith(".json")


def _load_json(text: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            twice = next(key for index, (key, _) in enumerate(items) if key in dict(items[:index]))
            check_nodes(compose(_as_yaml(text)))  # says the same with the line, if it can
            raise ValueError(f"the key {twice!r} stands twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def _as_yaml(text: str) -> str:
    """JSON text as YAML with everything on the same line: YAML refuses tabs between values, and halves of pairs."""
    return re.sub(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", "??????", text.replace("\t", " "))
