"""Parameters: what was given, what is taken, and what becomes of `${params.NAME}` in a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_core.manifest import Param
from osiris_core.parameters import ParameterError, parameter_values, put_in_parameters

DECLARED: dict[str, Any] = {
    "plain": "x",
    "count": 1,
    "ratio": 1.5,
    "flag": True,
    "nothing": None,
    "items": Param(default=["a", 1]),
    "typed": Param(type="integer", default=5),
    "text": Param(type="string", default="a"),
}


def wrong(given: dict[str, Any], declared: dict[str, Any] = DECLARED) -> dict[str, tuple[str, str | None]]:
    with pytest.raises(ParameterError) as caught:
        parameter_values(declared, given)
    return {name: (message, hint) for name, message, hint in caught.value.found}


def test_defaults_hold_without_values() -> None:
    """Each parameter has its default, of its own type."""
    values = parameter_values(DECLARED, {})
    assert values == {
        "plain": "x", "count": 1, "ratio": 1.5, "flag": True, "nothing": None,
        "items": ["a", 1], "typed": 5, "text": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("plain", "y", "y"),
        ("plain", "5", "5"),
        ("plain", 5, 5),
        ("count", "7", 7),
        ("count", 7, 7),
        ("count", "-7", -7),
        ("ratio", "2", 2.0),
        ("ratio", 2, 2),
        ("ratio", "1e3", 1000.0),
        ("flag", "false", False),
        ("flag", "TRUE", True),
        ("flag", False, False),
        ("nothing", "x", "x"),
        ("items", ("b",), ["b"]),
        ("typed", "9", 9),
        ("text", "9", "9"),
        ("count", None, None),
    ],
)
def test_a_given_value_is_read_as_its_type(name: str, given: Any, value: Any) -> None:
    """Texts, as the command line gives them, become the declared type or the default's; fitting values stay."""
    found = parameter_values(DECLARED, {name: given})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("count", "x"),
        ("count", "1.5"),
        ("count", 1.5),
        ("count", True),
        ("count", [1]),
        ("ratio", "nan"),
        ("ratio", float("inf")),
        ("ratio", True),
        ("flag", "yes"),
        ("flag", 1),
        ("text", 1),
        ("plain", {"a": 1}),
        ("plain", object()),
        ("items", {}),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, given: Any) -> None:
    """What cannot be read as the type is a problem that shows the value."""
    message, _ = wrong({name: given})[name]
    assert str(given)[:5] in message or repr(given)[:5] in message


def test_all_of_it_at_once() -> None:
    """Unknown names with the nearest, bad values, missing ones and defaults that contradict their type together."""
    declared = {**DECLARED, "must": Param(required=True), "odd": Param(type="integer", default="x")}
    found = wrong({"cuont": 1, "flag": "maybe"}, declared)
    assert set(found) == {"cuont", "flag", "must", "odd"}
    assert found["cuont"][1] == "did you mean 'count'?"
    assert found["must"] == ("must be given", "--param must=VALUE")


VALUES = {"a": "x", "n": 5, "f": True, "l": [1, "b"], "z": None, "ref": "${SECRET} ${params.a}", "d-e": 1.5}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${params.n}", 5),
        ("${params.f}", True),
        ("${params.l}", [1, "b"]),
        ("${params.z}", None),
        ("n=${params.n} f=${params.f} z=${params.z} l=${params.l}", 'n=5 f=true z=null l=[1, "b"]'),
        ("${params.a}${params.a}", "xx"),
        ("${params.d-e}", 1.5),
        ("$${params.a}", "$${params.a}"),
        ("${OTHER} ${params.a}", "${OTHER} x"),
        ("${params.ref}", "${SECRET} ${params.a}"),
        ("plain", "plain"),
    ],
)
def test_references_are_replaced(text: str, filled: Any) -> None:
    """Alone a reference takes the value's type, within a text its JSON text; a value is not read for references."""
    assert put_in_parameters({"x": [text], "n": 1}, VALUES) == {"x": [filled], "n": 1}


def test_every_wrong_reference_is_named() -> None:
    """Unknown parameters, and references that are none, are reported together."""
    with pytest.raises(ParameterError) as caught:
        put_in_parameters(
            {"a": "${params.nn} ${params.n}", "b": ["${params.q}", "${params.a:-x}", "${params.}"]}, VALUES
        )
    assert [name for name, _, _ in caught.value.found] == ["nn", "q", "a:-x", ""]
    assert caught.value.found[0][2] == "did you mean 'n'?"
