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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_DEPTH = 100
"""How deep lists and mappings may be nested; the parser, which is in C, would overflow its stack at some depth."""
MAX_EXPANDED_CHARS = 64_000_000
"""How much text a document may come to once every alias (`*name`) is written out."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader with the types of YAML 1.2's core schema, implicit or by tag, and no others."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own name and shape
    yaml_constructors = {  # noqa: RUF012 - as above
        tag: constructor
        for tag, constructor in _Base.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in {"map", "seq", "str", "int", "float", "bool", "null"}
    }


_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+.0123456789"),
)


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    special = text.lstrip("-+").startswith((".i", ".n"))
    return float(text.replace(".inf", "inf").replace(".nan", "nan") if special else text)


_Loader.add_constructor(f"{_TAG}int", _int)
_Loader.add_constructor(f"{_TAG}float", _float)


@dataclass
class Document:
    """A parsed file: its data, and where each value of it stands."""

    data: Any = field(repr=False)
    text: str = field(repr=False)
    file: str | None = None
    _root: yaml.Node | None = field(default=None, repr=False)

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """
        The line (from 1) of the value at `path`, or of the nearest ancestor that exists; None if unknown.

        Positions are found on the first call only: a document without a problem never pays for them.
        """
        if self._root is None:
            if not self.text:
                return None
            try:
                self._root = _compose(_as_yaml(self.text) if _is_json(self.file) else self.text)
            except (yaml.YAMLError, ValueError):
                return None
        node, line = self._root, None
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError([Problem("there is no such file", file=str(path))]) from None
    except UnicodeDecodeError as exc:
        message = f"not UTF-8 text: byte {exc.object[exc.start]:#04x} at position {exc.start}"
        raise ManifestError([Problem(message, file=str(path))]) from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise ManifestError([Problem(f"cannot be read: {reason}", file=str(path))]) from exc
    return parse_document(text, file=str(path))


def parse_document(text: str, file: str | None = None) -> Document:
    """Parse YAML or JSON text (JSON where `file` ends in `.json`). Raises ManifestError naming the line."""
    try:
        if _is_json(file):
            return Document(_load_json(text), text, file)
        return Document(_load_yaml(text), text, file)
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


class _RefusedError(yaml.error.MarkedYAMLError):
    """YAML that is well formed, and that we do not take."""


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, _RefusedError):
        return str(error.problem)
    if isinstance(error, yaml.reader.ReaderError):
        return f"not YAML: the character {error.character!r} is not allowed in a text file"
    problem = getattr(error, "problem", None) or str(error)
    if "found another document" in problem:
        return "a second document starts here; a file holds one"
    if "cannot start any token" in problem:
        return f"not YAML: {problem} (a tab? indent with blanks; a text that starts with @, ` or % needs quotes)"
    if "alias" in problem and "undefined" in problem:
        return f"not YAML: {problem} (a text that starts with * needs quotes)"
    return f"not YAML: {problem}"


def _is_json(file: str | None) -> bool:
    return file is not None and file.lower().endswith(".json")


def _load_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        _refuse_depth(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_nodes(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _compose(text: str) -> yaml.Node | None:
    _refuse_depth(text)
    return yaml.compose(text, Loader=_Loader)


def _load_json(text: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            twice = next(key for index, (key, _) in enumerate(items) if key in dict(items[:index]))
            _check_nodes(_compose(_as_yaml(text)))  # says the same with the line, if it can
            raise ValueError(f"the key {twice!r} stands twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def _as_yaml(text: str) -> str:
    """JSON text as YAML with everything on the same line: YAML refuses tabs between values, and halves of pairs."""
    return re.sub(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", "??????", text.replace("\t", " "))


_COMPACT = re.compile(r"(?:[-?][ \t]+){50}|^ {200}", re.MULTILINE)


def _refuse_depth(text: str) -> None:
    """Refuse what is nested too deeply before the parser overflows. Counts exactly only where it looks suspicious."""
    depth = deepest = 0
    for match in re.finditer(r"[\[{]+|[\]}]+", text):
        depth += len(match[0]) if match[0][0] in "[{" else -len(match[0])
        deepest = max(deepest, depth)
    if deepest <= MAX_DEPTH // 2 and not _COMPACT.search(text):
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _RefusedError(None, None, "nested too deeply", event.start_mark)  # type: ignore[arg-type]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_nodes(root: Any) -> None:
    """
    Refuse keys that stand twice, aliases that contain themselves, and aliases that multiply beyond reason.

    On the nodes, not while constructing: there a mapping that others merge (`<<`) may already have been rewritten.
    """
    is_open = -1
    sizes: dict[int, int] = {}
    stack: list[tuple[Any, bool]] = [(root, False)] if root is not None else []
    while stack:
        node, is_done = stack.pop()
        if is_done:
            sizes[id(node)] = size = 1 + sum(sizes[id(child)] for child in _children(node))
            if size > MAX_EXPANDED_CHARS:
                raise _RefusedError(None, None, "its aliases multiply to too much text", node.start_mark)
        elif isinstance(node, yaml.ScalarNode):
            sizes[id(node)] = 1 + len(node.value)
        elif id(node) not in sizes:
            if isinstance(node, yaml.MappingNode):
                _refuse_duplicates(node)
            sizes[id(node)] = is_open
            stack.append((node, True))
            stack.extend((child, False) for child in _children(node))
        elif sizes[id(node)] == is_open:
            raise _RefusedError(None, None, "an alias stands inside of what it names", node.start_mark)


def _children(node: yaml.CollectionNode) -> Iterator[yaml.Node]:
    for item in node.value:
        if isinstance(item, tuple):
            yield from item
        else:
            yield item


def _refuse_duplicates(node: Any) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
            if key.value in seen:
                raise _RefusedError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
