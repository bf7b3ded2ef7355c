"""References to values by name: what is one, what is put in, and that values show up nowhere by themselves."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_core.secrets import SecretValues, escape, references, substitute

VALUES = {"A": "alpha", "EMPTY": "", "@db.x.password": "lifted", "ODD": "${A} $${A}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("${A}", "alpha"),
        ("x${A}y${A}", "xalphayalpha"),
        ("${B:-beta}", "beta"),
        ("${A:-beta}", "alpha"),
        ("${EMPTY:-beta}", "beta"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${@db.x.password}", "lifted"),
        ("${B:-${@db.x.password}}", "lifted"),
        ("${A:-${@db.x.password}}", "alpha"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("${ODD}", "${A} $${A}"),
        ("$A ${} ${1} ${a-b} ${A", "$A ${} ${1} ${a-b} ${A"),
    ],
)
def test_texts(text: str, filled: str) -> None:
    """References are replaced once, defaults stand in for the unset and empty, and everything else is text."""
    assert substitute(text, VALUES) == filled
    assert substitute({"a": [text, (text,)], "n": 1}, VALUES) == {"a": [filled, [filled]], "n": 1}


def test_a_missing_name_is_a_key_error() -> None:
    """A name without value and default is an error that names it."""
    with pytest.raises(KeyError, match="NOPE"):
        substitute({"a": ["${NOPE}"]}, VALUES)


def test_references_are_found_everywhere() -> None:
    """Names and defaults are found at any depth; what is escaped or no name is none."""
    value = {"a": ["${A} ${B:-b}", {"c": "${C:-}"}], "d": "$${D} ${1}", "e": 1, "f": ("${F}",)}
    assert list(references(value)) == [("A", None), ("B", "b"), ("C", ""), ("F", None)]


@given(st.text())
def test_what_is_escaped_comes_back(text: str) -> None:
    """Any text, escaped and then filled in, is itself, whatever looks like a reference in it."""
    assert substitute(escape(text), {}) == text
    assert list(references(escape(text))) == []


def test_values_are_not_shown_or_written() -> None:
    """Neither repr nor str nor format shows a value; pickling, copying and JSON do not take them along."""
    values: Any = SecretValues({"NAME": "hunter2"})
    assert values["NAME"] == "hunter2"
    assert dict(values) == {"NAME": "hunter2"}
    for text in (repr(values), str(values), f"{values}", repr({"v": values}), json.dumps(values, default=repr)):
        assert "hunter2" not in text
        assert "NAME" in text
    assert b"hunter2" not in pickle.dumps(values)
    assert dict(copy.copy(values)) == dict(copy.deepcopy(values)) == {}
