"""Connections: which one a reference means, and that a literal secret leaves its file by name only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from osiris_core.connections import ConnectionBook
from osiris_core.documents import parse_document
from osiris_core.errors import ManifestError
from osiris_core.secrets import substitute

if TYPE_CHECKING:
    from pathlib import Path


def book(connections: Any, **top: Any) -> ConnectionBook:
    return ConnectionBook(parse_document(yaml.safe_dump({"connections": connections, **top}), "c.yaml"))


MYSQL = {"billing": {"default": True, "host": "${HOST:-localhost}", "password": "${PW}"}, "other": {"host": "x"}}


def test_references_and_defaults() -> None:
    """`@family.alias`, the marked default, the alias called `default`; the mark itself is not handed on."""
    found = book({"mysql": MYSQL, "pg": {"default": {"host": "d"}, "x": {"host": "e"}}, "s3": {"a.b": {"host": "dot"}}})
    assert found.get("@mysql.billing") == {"host": "${HOST:-localhost}", "password": "${PW}"}
    assert found.get("@mysql") == found.get("@mysql.billing")
    assert found.get("@pg") == {"host": "d"}
    assert found.get("@pg.x") == {"host": "e"}
    assert found.get("@s3.a.b") == {"host": "dot"}
    assert found.names() == ["@mysql.billing", "@mysql.other", "@pg.default", "@pg.x", "@s3.a.b"]
    assert found.lifted == {}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("@mysq.billing", "did you mean 'mysql'?"),
        ("@mysql.biling", "did you mean 'billing'?"),
        ("@mysql.zzz", "known: billing, other"),
        ("@two", "more than one default: a, b"),
        ("@none", "has no default; name one: a, b"),
        ("@", "names no connection"),
        ("@.x", "names no connection"),
        ("@empty", "has no default"),
    ],
)
def test_a_wrong_reference_names_the_nearest(reference: str, words: str) -> None:
    """A reference to nothing says what there is."""
    families = {
        "mysql": MYSQL,
        "two": {"a": {"default": True}, "b": {"default": True}},
        "none": {"a": {}, "b": {"default": False}},
        "empty": {},
    }
    with pytest.raises(LookupError) as caught:
        book(families).get(reference)
    assert words in str(caught.value)


def test_without_a_file_that_is_said() -> None:
    """A reference without any connections file says that there is none."""
    with pytest.raises(LookupError, match=r"no osiris_connections\.yaml"):
        ConnectionBook().get("@mysql.billing")


SECRET = "hunter2-hunter2"
LITERALS = {
    "password": SECRET,
    "nested": {"api_key": SECRET},
    "replicas": [{"password": SECRET}, {"tokens": [1], "token": [SECRET]}],
    "url": f"mysql://root:{SECRET}@db/x",
    "pin": {"secret": 7777777},
    "client_secret": f"${{PW:-{SECRET}}}",
    "dsn": f"a ${{U:-{SECRET}}} b ${{V:-{SECRET}}}",
    "escaped_password": f"$${{{SECRET}",
}


def test_literal_secrets_are_lifted_out() -> None:
    """Passwords written in the file, at any depth, as a default, in a URL: all go by name, none by value."""
    found = book({"mysql": {"a": {**LITERALS, "host": "db", "port": 3306, "ssl_secret": True}}})
    connection = found.get("@mysql.a")
    for shown in (json.dumps(connection), repr(found), str(found), repr(vars(found)["_document"])):
        assert SECRET not in shown
        assert "7777777" not in shown
    assert (connection["host"], connection["port"], connection["ssl_secret"]) == ("db", 3306, True)
    assert all(f"${{{name}}}" in json.dumps(connection) for name in found.lifted)
    assert substitute(connection, found.lifted) == {
        **{key: value for key, value in LITERALS.items() if key != "pin"},
        "pin": {"secret": "7777777"},
        "client_secret": SECRET,
        "dsn": f"a {SECRET} b {SECRET}",
        "escaped_password": f"${{{SECRET}",
        "host": "db",
        "port": 3306,
        "ssl_secret": True,
    }
    assert substitute(connection, {**found.lifted, "PW": "set"})["client_secret"] == "set"


def test_fields_that_a_driver_marks_are_lifted() -> None:
    """What a driver's model calls secret goes by name whatever it is called, with all that is below it."""
    found = book({"acme": {"a": {"pin": "1234567", "headers": {"X": "hunter2", "Y": "${Y}"}, "host": "h", "on": True}}})
    connection = found.get("@acme.a", {"pin", "headers", "on", "absent"})
    assert connection == {
        "pin": "${@acme.a.pin}",
        "headers": {"X": "${@acme.a.headers.X}", "Y": "${Y}"},
        "host": "h",
        "on": True,
    }
    assert found.lifted == {"@acme.a.pin": "1234567", "@acme.a.headers.X": "hunter2"}


def test_the_line_of_a_connection(tmp_path: Path) -> None:
    """Of the alias, of a key in it, and of the default; None for what is not there."""
    path = tmp_path / "c.yaml"
    path.write_text("connections:\n  acme:\n    a: {default: true}\n    b:\n      host: h\n      ports: [1]\n")
    found = ConnectionBook.find(path, tmp_path)
    lines = [found.line_of("@acme.a"), found.line_of("@acme"), found.line_of("@acme.b", ["host"])]
    assert lines == [3, 3, 5]
    assert found.line_of("@acme.zzz") is None
    assert ConnectionBook().line_of("@acme.a") is None


def test_only_the_asked_connection_is_lifted() -> None:
    """Secrets of connections that nobody uses are not in the run's hands."""
    found = book({"mysql": {"a": {"password": "hunter2"}, "b": {"password": "other-secret"}}})
    found.get("@mysql.a")
    assert list(found.lifted.values()) == ["hunter2"]


def test_another_alias_may_be_broken() -> None:
    """A connection whose variables are nowhere set harms only those who use it."""
    found = book({"mysql": {"good": {"host": "x"}, "bad": {"host": "${NOWHERE}", "password": "${NEITHER}"}}})
    assert found.get("@mysql.good") == {"host": "x"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "a mapping with 'connections'"),
        ("- a\n", None, "a mapping with 'connections'"),
        ("connections: [a]\n", None, "a mapping with 'connections'"),
        ("version: 1\nconections: {}\n", 2, "no such key"),
        ("connections:\n  mysql: x\n", 2, "a family is a mapping"),
        ("connections:\n  mysql:\n    a: x\n", 3, "a connection is a mapping"),
        ("connections:\n  mysql:\n    1: {host: x}\n", 3, "write it in quotes"),
        ("connections:\n  mysql:\n    a: {}\n    a: {}\n", 4, "stands twice"),
        ("connections:\n\tx: 1\n", 2, "tab"),
    ],
)
def test_a_broken_file_has_its_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    """A file that is not of the format is refused with the line."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        ConnectionBook.find(path, tmp_path)
    (problem,) = caught.value.problems
    assert words in problem.message
    assert problem.line == line
    assert problem.file == str(path)


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$OSIRIS_HOME`, then the manifest's folder, the working directory, its parent; a named file or none at all."""
    folders = {name: tmp_path / name for name in ("home", "base", "cwd/inner", "cwd")}
    for name, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "osiris_connections.yaml").write_text(f"connections: {{f: {{a: {{host: {name}}}}}}}\n")
    monkeypatch.setenv("OSIRIS_HOME", str(folders["home"]))
    monkeypatch.chdir(folders["cwd/inner"])
    for name in ("home", "base", "cwd/inner", "cwd"):
        assert ConnectionBook.find(None, folders["base"]).get("@f.a") == {"host": name}
        (folders[name] / "osiris_connections.yaml").unlink()
    assert ConnectionBook.find(None, folders["base"]).names() == []
    with pytest.raises(ManifestError, match="no such file"):
        ConnectionBook.find(tmp_path / "nope.yaml", tmp_path)
