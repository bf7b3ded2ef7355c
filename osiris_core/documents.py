"""
Reads YAML and JSON files, and knows on which line of them a value stands.

YAML is read by the rules of YAML 1.2's core schema: `no`, `on`, `1:30` and `2026-11-20` are texts, as their
authors meant them. A key that stands twice in one mapping is an error, not a silent last-one-wins.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from osiris_core.errors import ManifestError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader with the implicit types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name and shape

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+.0123456789"),
)


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(
        text.replace(".inf", "inf").replace(".nan", "nan") if text.lstrip("-+").startswith((".i", ".n")) else text
    )


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


@dataclass
class Document:
    """A parsed file: its data, and where each value of it stands."""

    data: Any
    text: str
    file: str | None = None
    _root: yaml.Node | None = field(default=None, repr=False)

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """
        The line (from 1) of the value at `path`, or of the nearest ancestor that exists; None if unknown.

        Positions are found on the first call only: a document without a problem never pays for them.
        """
        if self._root is None:
            try:
                self._root = yaml.compose(self.text, Loader=_Loader)
            except yaml.YAMLError:
                return None  # JSON that is not YAML (tabs)
        node, line = self._root, None
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError([Problem("there is no such file", file=str(path))]) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ManifestError([Problem(f"cannot be read: {exc}", file=str(path))]) from exc
    return parse_document(text, file=str(path))


def parse_document(text: str, file: str | None = None) -> Document:
    """Parse YAML or JSON text. Raises ManifestError naming the line."""
    try:
        if file and file.endswith(".json"):
            return Document(json.loads(text), text, file)
        return Document(yaml.load(text, Loader=_Loader), text, file)  # noqa: S506 - _Loader is a safe loader
    except json.JSONDecodeError as exc:
        raise ManifestError([Problem(f"not JSON: {exc.msg}", file=file, line=exc.lineno)]) from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        reason = getattr(exc, "problem", None) or str(exc)
        line = mark.line + 1 if mark else None
        raise ManifestError([Problem(f"not YAML: {reason}", file=file, line=line)]) from exc
    except RecursionError:
        raise ManifestError([Problem("nested too deeply", file=file)]) from None
