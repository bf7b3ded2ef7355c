"""JSON read so that nothing in it changes, and written back the same way. Does no I/O."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, NoReturn

_encode_text = json.JSONEncoder(ensure_ascii=False).encode


class NotJson(ValueError):
    """What came is no JSON, or holds what no table can."""


def read_json(body: bytes, *, decimals: bool) -> Any:
    """
    The value in a body. Integers have all their digits; fractions are the nearest float, or with `decimals` a
    `Decimal` with all of theirs.

    Raises:
        NotJson: It is none, by the standard: `NaN` is none either. Or a number is beyond a float, or text is broken.
    """
    try:
        value = json.loads(body, parse_float=Decimal if decimals else _finite, parse_constant=_no_number)
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except UnicodeDecodeError as exc:
        raise NotJson(f"it is no text in UTF-8 at byte {exc.start}") from None
    except NotJson:
        raise
    except json.JSONDecodeError as exc:
        raise NotJson(f"{exc.msg} at character {exc.pos}") from None
    except (ValueError, ArithmeticError) as exc:  # an integer of thousands of digits, an exponent of as many
        raise NotJson(str(exc) or "a number in it is too large") from None
    return value


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotJson(f"the number {text[:40]} does not fit a float; decimals: true keeps it")
    return number


def _no_number(text: str) -> NoReturn:
    raise NotJson(f"it holds {text}, which JSON does not have")


def json_text(value: Any) -> str:
    """A value as compact JSON: keys in their order, a `Decimal` with its digits, no character escaped without need."""
    if isinstance(value, str):
        return _encode_text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_encode_text(key)}:{json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return plain_text(value)


def plain_text(value: Any) -> str:
    """A value that is no text itself, as it stands in a column of texts: as JSON has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return str(value).replace("E+", "E")
    if isinstance(value, (dict, list)):
        return json_text(value)
    return repr(value)
