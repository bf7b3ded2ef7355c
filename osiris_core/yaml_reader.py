"""
Reads YAML by the rules of YAML 1.2's core schema, and refuses what no honest file has: keys that stand twice, aliases
that contain themselves or multiply beyond reason, nesting that would overflow the parser.

`documents.py` is the only user: it turns what is raised here into problems with file and line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def flatten_mapping(self, node: Any) -> None:
        """Put in what `<<` names. An own key wins, then the first mapping that has it; PyYAML 6.0.4 lets others win."""
        merged: dict[Any, Any] = {}
        own: list[Any] = []
        for key, value in node.value:
            if key.tag != f"{_TAG}merge":
                own.append((key, value))
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise RefusedError(None, None, "what << merges is a mapping or a list of them", source.start_mark)
                self.flatten_mapping(source)
                for pair in source.value:
                    merged.setdefault(_identity(pair[0]), pair)
        if merged:
            taken = {_identity(key) for key, _ in own}
            node.value = [*(pair for name, pair in merged.items() if name not in taken), *own]


def _identity(key: Any) -> Any:
    """What makes two keys of a mapping one."""
    return key.value if isinstance(key, yaml.ScalarNode) else id(key)


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


@dataclass(frozen=True)
class Include:
    """`!include path`, where another file's content is to stand."""

    path: str
    line: int


class _IncludingLoader(_Loader):
    """The same with `!include`, also as what is merged (`<<: !include base.yaml`)."""


def _include(_loader: Any, node: yaml.Node) -> Include:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise RefusedError(None, None, "!include takes the path of one file", node.start_mark)
    return Include(node.value.strip(), node.start_mark.line + 1)


_IncludingLoader.add_constructor("!include", _include)


class RefusedError(yaml.error.MarkedYAMLError):
    """YAML that is well formed, and that we do not take."""


def load_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        _refuse_depth(text)
        root = loader.get_single_node()
        if root is None:
            return None
        check_nodes(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def load_all(text: str) -> list[Any]:
    loader = _IncludingLoader(text)
    found = []
    try:
        _refuse_depth(text)
        while loader.check_node():
            root = loader.get_node()
            _keep_included_merges(root)
            check_nodes(root)
            found.append(loader.construct_document(root))
    finally:
        loader.dispose()
    return found


def _keep_included_merges(root: Any) -> None:
    """Make `<<` an ordinary key where an `!include` is merged: only who reads that file can merge it."""
    stack, seen = [root], set()
    while stack:
        node = stack.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        stack.extend(_children(node))
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == f"{_TAG}merge" and value.tag == "!include":
                key.tag = f"{_TAG}str"


def compose(text: str, index: int = 0) -> yaml.Node | None:
    _refuse_depth(text)
    if index == 0:
        loader = _Loader(text)
        try:
            first: yaml.Node | None = loader.get_node() if loader.check_node() else None
            return first
        finally:
            loader.dispose()
    return list(yaml.compose_all(text, Loader=_Loader))[index]


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
                raise RefusedError(None, None, "nested too deeply", event.start_mark)  # type: ignore[arg-type]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def check_nodes(root: Any) -> None:
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
                raise RefusedError(None, None, "its aliases multiply to too much text", node.start_mark)
        elif isinstance(node, yaml.ScalarNode):
            sizes[id(node)] = 1 + len(node.value)
        elif id(node) not in sizes:
            if isinstance(node, yaml.MappingNode):
                _refuse_duplicates(node)
            sizes[id(node)] = is_open
            stack.append((node, True))
            stack.extend((child, False) for child in _children(node))
        elif sizes[id(node)] == is_open:
            raise RefusedError(None, None, "an alias stands inside of what it names", node.start_mark)


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
                raise RefusedError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
