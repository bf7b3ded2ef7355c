"""
What of an object decides what is done with it: its plain data, and the code that it brings.

Told by what pickle would keep of it, so it is exact for whatever can be pickled; functions, which pickle knows by name
only, by their code and all that they refer to. What is installed is told by its name and the file that it comes from.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from copyreg import dispatch_table
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partialmethod
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from osiris_core.redaction import MASK, is_secret_field
from osiris_core.secrets import references

MAX_DEPTH = 60
MAX_PARTS = 20_000
"""How much is looked at before it counts as not describable: a few milliseconds' worth."""
_PLAIN = (str, int, float, bool, type(None))
_OUR_ROOMS = ("osiris_core", "adapters", "remote")
_NO_CODE = frozenset({"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"})
_OF_ITS_MAKING = frozenset({"model_config", "_abc_impl", "__slots__", "__firstlineno__", "__static_attributes__"})


class NotDescribable(Exception):
    """An object holds what nobody can tell the state of: a lock, an open file, a generator, the memory of C code."""


def described(*things: Any) -> Any:
    """
    The things as JSON. What is other afterwards is described otherwise, in another process too.

    A text that names variables (`${GRID}`) counts with the values that these have here; a field of a secret's type, and
    what stands under a secret's name in `env_vars`, does not count. Other secrets are in it as they are: only a digest
    may be written down.

    Raises:
        NotDescribable: It cannot be told exactly.
    """
    try:
        return _Description().of(list(things), 0)
    except NotDescribable:
        raise
    except Exception as exc:  # pickling is the object's own code
        raise NotDescribable(str(exc)) from exc


def digest_of(description: Any, salt: str) -> str:
    """What may be written down of a description; nobody guesses a short value from it by a table made elsewhere."""
    return hashlib.sha256(f"{salt}\0{json.dumps(description)}".encode()).hexdigest()


@dataclass
class _Description:
    """One pass; what was met before is referred to, so that a circle ends."""

    parts: list[Any] = field(default_factory=list)
    """All that was looked at, alive: the next object may not get its identity."""
    met: dict[int, int] = field(default_factory=dict)

    def of(self, thing: Any, depth: int) -> Any:
        kind = type(thing)
        if kind in _PLAIN:
            return self._text(thing) if kind is str else thing if kind is not float else repr(thing)
        if kind is bytes:
            return ["bytes", hashlib.sha256(thing).hexdigest()]
        if (number := self.met.get(id(thing))) is not None:
            return ["as", number]
        self.met[id(thing)] = len(self.met)
        self.parts.append(thing)
        if depth > MAX_DEPTH or len(self.parts) > MAX_PARTS:
            raise NotDescribable("it is too large, or too deep")
        found = self._composed(thing, depth + 1)
        return [_name(kind), found] if not isinstance(found, list) or kind in (set, frozenset) else found

    @staticmethod
    def _text(text: str) -> Any:
        if "${" not in text:
            return text
        return [text, {name: os.environ.get(name) for name, _ in references(text)}]

    def _composed(self, thing: Any, depth: int) -> Any:
        if isinstance(thing, (SecretStr, SecretBytes)):
            return MASK
        if isinstance(thing, BaseModel):
            return self._of_model(thing, depth)
        if type(thing) is dict:
            return {"items": [[self.of(key, depth), self._item(key, value, depth)] for key, value in thing.items()]}
        if type(thing) in (list, tuple):
            return [type(thing).__name__, *(self.of(item, depth) for item in thing)]
        if type(thing) in (set, frozenset):
            # Each by itself: the order in which they come is another one in each process.
            return sorted(json.dumps(_Description(self.parts).of(item, depth)) for item in thing)
        if isinstance(thing, type):
            return self._of_class(thing, depth)
        if isinstance(thing, FunctionType):
            return self._of_function(thing, depth)
        if isinstance(thing, ModuleType):
            return ["module", thing.__name__, _file_state(thing.__name__)]
        if isinstance(thing, MethodType):
            return ["method", self.of(thing.__func__, depth), self.of(thing.__self__, depth)]
        if isinstance(thing, BuiltinFunctionType) and isinstance(thing.__self__, (ModuleType, type(None))):
            return ["builtin", _name(thing)]
        return self._of_object(thing, depth)

    def _item(self, key: Any, value: Any, depth: int) -> Any:
        if key == "env_vars" and isinstance(value, Mapping):
            return self._of_variables(value, depth)
        return self.of(value, depth)

    def _of_variables(self, variables: Mapping[Any, Any], depth: int) -> Any:
        shown = {key: MASK if is_secret_field(str(key)) else value for key, value in variables.items()}
        return self.of(shown, depth)

    def _of_model(self, model: BaseModel, depth: int) -> Any:
        hidden = getattr(model, "NOT_DESCRIBED", ())
        private = {key: value for key, value in (model.__pydantic_private__ or {}).items() if key not in hidden}
        values = {name: getattr(model, name) for name in type(model).model_fields}
        found = [[name, self._item(name, value, depth)] for name, value in values.items()]
        return [self.of(type(model), depth), found, self.of([model.model_extra, private], depth)]

    def _of_object(self, thing: Any, depth: int) -> Any:
        reducer = dispatch_table.get(type(thing))
        reduced = thing.__reduce_ex__(4) if reducer is None else reducer(thing)
        if isinstance(reduced, str):
            return ["name", _name(thing), reduced, self.of(getattr(thing, "__wrapped__", None), depth)]
        made_by, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        within = [list(part) for part in (items, pairs) if part is not None]
        return ["object", *(self.of(part, depth) for part in (made_by, arguments, state, within))]

    # Code.

    def _of_class(self, kind: type[Any], depth: int) -> Any:
        if (where := _installed(str(kind.__module__))) is not None:
            return ["class", _name(kind), where]
        bases = [self.of(base, depth) for base in kind.__bases__]
        members = []
        for name, value in sorted(vars(kind).items()):
            if name in _NO_CODE or name in _OF_ITS_MAKING or isinstance(value, MemberDescriptorType):
                continue
            code = _function_of(value)
            if name.startswith("__") and not isinstance(code, FunctionType):
                continue  # what pydantic, dataclasses and abc keep there is made of the rest
            members.append([name, self.of(code, depth)])
        return ["class", _name(kind), bases, members]

    def _of_function(self, function: FunctionType, depth: int) -> Any:
        if (where := _installed(str(function.__module__))) is not None and "<locals>" not in function.__qualname__:
            return ["function", _name(function), where]
        cells = [self._cell(cell, depth) for cell in function.__closure__ or ()]
        names = _names_in(function.__code__)
        used = [[name, self.of(function.__globals__[name], depth)] for name in names if name in function.__globals__]
        defaults = self.of([function.__defaults__, function.__kwdefaults__], depth)
        return ["function", _name(function), self._code(function.__code__, depth), cells, defaults, used]

    def _cell(self, cell: Any, depth: int) -> Any:
        try:
            value = cell.cell_contents
        except ValueError:
            return ["empty"]
        return self.of(value, depth)

    def _code(self, code: CodeType, depth: int) -> Any:
        constants = [
            self._code(item, depth) if isinstance(item, CodeType) else self.of(item, depth) for item in code.co_consts
        ]
        return [code.co_code.hex(), constants, list(code.co_names), list(code.co_freevars)]


def _function_of(member: Any) -> Any:
    """What a member of a class has code in; the member where that is itself."""
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    if isinstance(member, property):
        return [member.fget, member.fset, member.fdel]
    if isinstance(member, cached_property):
        return member.func
    if isinstance(member, partialmethod):
        return [member.func, member.args, member.keywords]
    return member


def _names_in(code: CodeType) -> list[str]:
    names = {*code.co_names}
    for item in code.co_consts:
        if isinstance(item, CodeType):
            names.update(_names_in(item))
    return sorted(names)


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', thing)}"


def _installed(module: str) -> Any:
    """The file that an installed module comes from, with its size and time; None for the user's own."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return []
    file = getattr(sys.modules.get(module), "__file__", None)
    return _file_state(module) if top in _OUR_ROOMS or (file and _is_installed(file)) else None


@lru_cache(maxsize=1024)
def _is_installed(file: str) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _file_state(module: str) -> list[Any]:
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        status = os.stat(file) if file else None  # noqa: PTH116 - asked for each class
    except OSError:
        return [file]
    return [] if status is None else [file, status.st_size, status.st_mtime_ns]
