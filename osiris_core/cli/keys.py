"""The keys of a configuration as a table: what a JSON Schema says, in the words of a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from osiris_core.cli import formatting, stdout

if TYPE_CHECKING:
    from osiris_core.cli.catalogue import Entry


def key_rows(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Each key with `type`, `required`, `default` (where there is one) and `description`."""
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", []))
    rows = []
    for name, field in schema.get("properties", {}).items():
        row = {"key": name, "type": type_name(field, definitions), "required": name in required}
        if "default" in field:
            row["default"] = field["default"]
        rows.append({**row, "description": " ".join(str(field.get("description", "")).split())})
    return rows


def key_lines(schema: dict[str, Any]) -> list[str]:
    """The keys for a terminal: a line for the key, one below it for what it does."""
    lines = []
    for row in key_rows(schema):
        rest = (
            "required"
            if row["required"]
            else f"default {json.dumps(row['default'])}"
            if "default" in row
            else "optional"
        )
        lines.append(f"  {row['key']}: {row['type']} ({rest})")
        if row["description"]:
            lines.append(f"      {row['description']}")
    return lines or ["  any: there is no model of its keys"]


def type_name(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """`string or null`, `list of integer`, `"a" | "b"`."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        target = definitions.get(name, {})
        return (
            type_name(target, definitions)
            if "properties" not in target
            else f"mapping ({', '.join(target['properties'])})"
        )
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(type_name(item, definitions) for item in field[union]))
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {type_name(field.get('items', {}), definitions)}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping to {type_name(values, definitions)}" if isinstance(values, dict) else "mapping"
    return str(kind)


def described(title: str, description: str, schema: dict[str, Any], example: str) -> str:
    """The page that `show` prints."""
    lines = [title, "", description or "It says nothing about itself.", "", "keys", *key_lines(schema)]
    if example.strip():
        lines += ["", "example", *(f"  {line}" if line else "" for line in example.strip("\n").splitlines())]
    return "\n".join(lines)


def write_list(entries: list[Entry], problems: list[str], *, as_json: bool) -> None:
    """Write the entries as the result, and what is wrong with any of them as messages, each once."""
    broken = [entry.problem for entry in entries if entry.problem and not entry.missing]
    for problem in dict.fromkeys([*broken, *problems]):
        stdout.say(f"osiris: {problem}")
    found = [entry.to_json() for entry in entries]
    if as_json:
        stdout.write_json(found)
    else:
        stdout.write_result("\n".join(listed(found)))


def listed(entries: list[dict[str, Any]]) -> list[str]:
    """The table that `list` prints."""
    kinds = len({entry.get("kind") for entry in entries}) > 1
    rows = [
        (
            *((entry["kind"],) if kinds else ()),
            *(entry["name"], entry["state"], entry["source"], formatting.first_line(entry["summary"], 100)),
        )
        for entry in entries
    ]
    return formatting.table((*(("kind",) if kinds else ()), "name", "state", "from", "what it does"), rows)
