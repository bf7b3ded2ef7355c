"""Paths in configurations: which fields hold them, and that no output leaves its folder."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from osiris_core.paths import InputPath, OutputPath, PathEscapes, map_paths, path_fields, safe_relative


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("a.csv", "a.csv"),
        ("a/b/c.csv", "a/b/c.csv"),
        ("./a//b/./c", "a/b/c"),
        ("a/", "a"),
        ("..a/b..", "..a/b.."),
        ("100%25.csv", "100%25.csv"),
        ("žluť 🎉/\n.csv", "žluť 🎉/\n.csv"),
        (".hidden", ".hidden"),
        ("a~", "a~"),
        ("x" * 255, "x" * 255),
    ],
)
def test_plain_paths(path: str, plain: str) -> None:
    """An ordinary relative path is taken, without its detours."""
    assert safe_relative(path) == PurePosixPath(plain)


ESCAPES = """.. ../a a/../b a/.. /etc/passwd //a ~ ~/a ~root/a . ./ a\\b ..\\a %2e%2e/a %2E%2e/a .%2e/a %2e./a
a/%2e%2e/b
..%2fa a%2f..%2fb %2fetc/passwd %252e%252e/a %25252e./a a%5c..%5cb a%00b""".split()  # noqa: SIM905


@pytest.mark.parametrize("path", [*ESCAPES, "", "a\0b", "x" * 256, "ž" * 128])
def test_paths_that_leave_or_hide_it(path: str) -> None:
    """Whatever climbs out, is absolute, or hides that by encoding it (also more than once) is refused."""
    with pytest.raises(PathEscapes):
        safe_relative(path)


@given(st.text("./~%2eE5cfF\\a\0", max_size=20))
def test_what_is_taken_stays_inside(path: str) -> None:
    """However a path is made up, what is accepted names something below the folder."""
    try:
        plain = safe_relative(path)
    except PathEscapes:
        return
    assert not plain.is_absolute()
    assert ".." not in plain.parts
    assert plain.parts


class Config(BaseModel):
    plain: InputPath
    optional: InputPath | None = None
    many: list[InputPath] = []
    named: dict[str, OutputPath] = {}
    both: OutputPath | list[OutputPath] = "x"
    other: str = ""


def test_path_fields_are_found_in_every_shape() -> None:
    """A path, an optional one, lists and mappings of them; other texts are none."""
    roles = {name: role.role for name, role in path_fields(Config)}
    assert roles == {"plain": "input", "optional": "input", "many": "input", "named": "output", "both": "output"}


def test_every_path_of_a_value_is_changed() -> None:
    """Strings at any depth are changed, keys and other values are not, and the original stays."""
    value = {"a": ["x", {"b": "y"}], "c": None, "d": 1}
    assert map_paths(value, str.upper) == {"a": ["X", {"b": "Y"}], "c": None, "d": 1}
    assert value["a"] == ["x", {"b": "y"}]
    assert map_paths("x", str.upper) == "X"
    assert map_paths(None, str.upper) is None
