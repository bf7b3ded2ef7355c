"""Reading YAML and JSON: the types of YAML 1.2, one line for every error, and nothing that a hostile file could do."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_core.documents import Document, parse_document, parse_documents, read_document
from osiris_core.errors import ManifestError, Problem
from osiris_core.yaml_reader import Include

if TYPE_CHECKING:
    from pathlib import Path


def data(text: str, file: str | None = None) -> Any:
    return parse_document(text, file).data


def problem(text: str, file: str = "m.yaml") -> Problem:
    with pytest.raises(ManifestError) as caught:
        parse_document(text, file)
    (found,) = caught.value.problems
    assert found.file == file
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0123", 123),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
        ("=", "="),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    """A plain scalar has the type that YAML 1.2's core schema gives it."""
    found = data(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float() -> None:
    """`.nan` is the float that is not a number."""
    assert math.isnan(data("a: .NaN")["a"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_reads_as_itself(value: Any) -> None:
    """Whatever JSON can hold comes back unchanged from a .json file."""
    assert data(json.dumps(value), "x.json") == value


@pytest.mark.parametrize("file", ["m.yaml", "m.json"])
def test_a_key_that_stands_twice_is_refused_with_its_line(file: str) -> None:
    """Neither YAML nor JSON lets the last of two equal keys win."""
    found = problem(
        '{\n\t"a": 1,\n  "b": {"x": 1,\n "x": 2}}' if file == "m.json" else "a: 1\nb:\n  x: 1\n  x: 2\n", file
    )
    assert found.line == 4
    assert "'x' stands twice" in found.message


def test_a_number_and_its_text_are_the_same_key() -> None:
    """`1` and `"1"` would be one key in JSON, so they are refused side by side."""
    assert "stands twice" in problem('1: a\n"1": b\n').message


def test_a_merge_may_be_overridden_and_merged_again() -> None:
    """`<<` takes the other mapping's keys, an own key wins, and a merged mapping may itself have merged."""
    text = "z: &z {k: 1, l: 1}\nouter: {inner: &a {<<: *z, k: 2}}\nb: {<<: *a}\n"
    assert data(text) == {"z": {"k": 1, "l": 1}, "outer": {"inner": {"k": 2, "l": 1}}, "b": {"k": 2, "l": 1}}


def test_aliases_are_written_out() -> None:
    """An alias stands for what it names."""
    assert data("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {k0: 1, k1: 2, k2: 3}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)
LONG_TEXT = "a: &a " + "x" * 1_000_000 + "\nb: [" + ", ".join(["*a"] * 100) + "]\n"


@pytest.mark.parametrize("text", [LAUGHS, MERGES, LONG_TEXT], ids=["lists", "merges", "long text"])
def test_an_alias_bomb_is_refused(text: str) -> None:
    """A small file whose aliases multiply is refused with a line, before it costs memory or time."""
    found = problem(text)
    assert "multiply" in found.message
    assert found.line is not None


def test_an_alias_inside_itself_is_refused() -> None:
    """A structure that contains itself has no end, so it is no manifest."""
    assert "inside of what it names" in problem("a: &a\n  - 1\n  - *a\n").message


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" * 100_000 + "]" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "[\n" * 100_000],
    ids=["open", "closed", "mappings", "dashes", "keys", "lines"],
)
def test_deep_nesting_is_an_error_not_a_crash(text: str) -> None:
    """However deep a file is nested, there is a message; the parser's stack is never overflowed."""
    assert "nested too deeply" in problem(text).message


def test_deep_indentation_is_an_error_not_a_crash() -> None:
    """Block nesting is bounded too."""
    text = "".join(f"{' ' * n}a:\n" for n in range(2000))
    assert "nested too deeply" in problem(text).message


def test_deep_json_is_an_error() -> None:
    """JSON nested beyond the interpreter's limit is refused with a message."""
    assert "nested too deeply" in problem("[" * 200_000, "m.json").message


def test_reasonable_nesting_is_read() -> None:
    """Sixty levels are no problem, and brackets in texts are not nesting."""
    assert data("[" * 60 + "]" * 60)
    assert data('a: "' + "[" * 500 + '"\n') == {"a": "[" * 500}


def test_a_second_document_is_refused_with_its_line() -> None:
    """A file holds one document; the message says where the second starts."""
    found = problem("a: 1\n---\nb: 2\n")
    assert "second document" in found.message
    assert found.line == 2
    assert data("---\na: 1\n...\n") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n\tb: 1\n", "tab"),
        ("a: @x\n", "needs quotes"),
        ("a: *x\n", "needs quotes"),
        ("a: [1\nb: 2\n", "not YAML"),
        ("a: 'x\n", "not YAML"),
        ("a: !!timestamp 2026-11-20\n", "timestamp"),
        ("a: !!python/object/apply:os.system [ls]\n", "python"),
        ("a: !!set {x}\n", "set"),
        ("a: !!bool maybe\n", "maybe"),
        ("a: !!int x1\n", "x1"),
        ("? [1, 2]\n: a\n", "unhashable"),
        ("a: \0\n", "not allowed"),
        ("a: " + "9" * 5000 + "\n", "cannot be read"),
    ],
)
def test_bad_yaml_is_said_in_words(text: str, words: str) -> None:
    """Every kind of bad YAML is one problem that says what is wrong."""
    assert words in problem(text).message


@pytest.mark.parametrize(
    ("text", "line"),
    [('{\n"a": 1\n"b"}', 3), ("", 1), ("{'a': 1}", 1), ('{"a": "x\ny"}', 1), ('{"a": 1}\n{"b": 2}', 2)],
)
def test_bad_json_has_its_line(text: str, line: int) -> None:
    """JSON errors carry the line."""
    found = problem(text, "m.json")
    assert "not JSON" in found.message
    assert found.line == line


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": ' + "9" * 5000 + "}"])
def test_what_only_python_calls_json_is_refused(text: str) -> None:
    """NaN, Infinity and endless integers are no JSON for anybody else."""
    assert problem(text, "m.json").message


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    """A byte-order mark and CRLF are no part of the values, and lines are counted right."""
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n  - y\r\n")
    document = read_document(path)
    assert document.data == {"a": 1, "b": ["x", "y"]}
    assert document.line_of(["b", 1]) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfea\0:\0", "not UTF-8"), (bytes(range(256)), "not UTF-8"), (b"\x7fELF\0\0\1", "not allowed")],
)
def test_a_binary_file_is_said_to_be_one(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that is no text is refused without its bytes in the message."""
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=words):
        read_document(path)


def test_missing_files_and_folders_are_problems(tmp_path: Path) -> None:
    """A path that names no readable file is a problem with that path, not a bare OSError."""
    for path in (tmp_path / "no.yaml", tmp_path, tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(ManifestError) as caught:
            read_document(path)
        assert caught.value.problems[0].file == str(path)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n...\n"])
def test_an_empty_file_is_nothing(text: str) -> None:
    """A file without content has no data and no lines."""
    document = parse_document(text, "m.yaml")
    assert document.data is None
    assert document.line_of(["a"]) is None


def test_lines_are_those_of_the_nearest_that_exists() -> None:
    """A path that ends in nothing gets the line of its last known part; an unknown first part gets none."""
    document = parse_document("a:\n  b:\n    - c: 1\n    - d: 2\n")
    assert document.line_of(["a", "b", 1, "d"]) == 4
    assert document.line_of(["a", "b", 1, "nope", "deeper"]) == 4
    assert document.line_of(["a", "b", 99]) == 2
    assert document.line_of(["a", "b", -1]) == 2
    assert document.line_of(["x"]) is None
    assert document.line_of([]) is None


def test_lines_of_json_with_tabs_and_pairs() -> None:
    """JSON indented by tabs, with escapes that YAML does not know, still has lines."""
    document = parse_document('{\n\t"e": "\\ud83d\\ude00\\/",\n\t"list": [\n\t\t1,\n\t\t{"x": 2}\n\t]\n}', "m.json")
    assert document.line_of(["list", 1, "x"]) == 5


def test_a_document_shows_nothing_of_its_content() -> None:
    """The repr of a document, which a traceback may show, holds no value of it."""
    assert "hunter2" not in repr(parse_document("password: hunter2", "c.yaml"))
    assert "hunter2" not in repr(Document({"password": "hunter2"}, "password: hunter2"))


def test_a_megabyte_is_read_in_reasonable_time() -> None:
    """A file of a megabyte is read within seconds, in both formats (a generous bound against quadratic work)."""
    steps = [{"id": f"s{n}", "driver": "d", "config": {"a": n, "b": "x" * 60}} for n in range(9000)]
    text = json.dumps(steps)
    assert len(text) > 1_000_000
    started_s = time.monotonic()
    assert data(text, "m.json") == data(text) == steps
    assert time.monotonic() - started_s < 30


def test_a_file_may_hold_several_documents() -> None:
    """Each knows its own lines; empty ones are left out; a file with nothing is one document without data."""
    first, second = parse_documents("a: 1\n---\n---\nb:\n  c: !include other.yaml\n<<: !include base.yaml\n", "m.yaml")
    assert (first.data, first.line_of(["a"]), first.line_of([])) == ({"a": 1}, 1, None)
    assert second.data == {"b": {"c": Include("other.yaml", 5)}, "<<": Include("base.yaml", 6)}
    assert (second.line_of(["b", "c"]), second.line_of(["b", "gone"]), second.line_of([])) == (5, 4, 4)
    assert [document.data for document in parse_documents("# nothing\n---\n")] == [None]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: !include [x]\n", 2, "!include takes the path of one file"),
        ("a: !include ''\n", 1, "!include takes the path of one file"),
        ("<<: !include a\n<<: !include b\n", 2, "stands twice"),
        ("a: 1\n---\n\nb: {\n", 5, "not YAML"),
        ("a: 1\n---\nb: !!python/object:os.system x\n", 3, "not YAML"),
    ],
)
def test_several_documents_are_as_strict_as_one(text: str, line: int, words: str) -> None:
    """What is wrong in any document of a file is an error with its line."""
    with pytest.raises(ManifestError) as caught:
        parse_documents(text, "m.yaml")
    assert words in caught.value.problems[0].message
    assert caught.value.problems[0].line == line
