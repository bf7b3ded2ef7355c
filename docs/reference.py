"""
Writes the reference part of configurations.md from the schemas: python docs/reference.py

A test says when that has to be done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from osiris_core.cli.keys import key_rows
from osiris_core.models.model_run import ModelRun
from osiris_core.models.pipeline_file import SECTIONS, PipelineOptions
from osiris_core.models.registries import CONFIGS, POSTPROCESSOR_CONFIGS

PAGE = Path(__file__).parent / "configurations.md"
MARK = "<!-- made by `python docs/reference.py`; do not edit below -->\n"


def reference() -> str:
    """The part of the page below the mark."""
    parts = []
    for what, registry in (("backend", CONFIGS), ("postprocessor", POSTPROCESSOR_CONFIGS)):
        own = [name for name in registry.names() if registry.source(name) == "built in"]
        parts += [section(f"{what} `{name}`", registry.load(name)) for name in own]
    parts.append(section("model run", ModelRun, without=("config",)))
    sections = ", ".join(f"`{name}` ({text})" for name, text in SECTIONS.items())
    parts.append(section("pipeline", PipelineOptions, f"Sections {sections}, and:"))
    return "\n".join(parts)


def section(title: str, model: type[Any], text: str = "", without: tuple[str, ...] = ()) -> str:
    """One configuration: what it is, and a row for each key."""
    lines = [f"### {title}", "", text or " ".join((model.__doc__ or "").split("\n\n")[0].split()), ""]
    lines += ["| key | type | default | |", "|---|---|---|---|"]
    for row in sorted(key_rows(model.model_json_schema()), key=lambda row: row["key"] != "type"):
        if row["key"] in without:
            continue
        default = "required" if row["required"] else f"`{json.dumps(row['default'])}`" if "default" in row else ""
        if row.get("default") == sys.executable:
            default = "the one that runs this"
        cells = [f"`{row['key']}`", row["type"], default, row["description"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def page() -> str:
    """The whole page as it should be."""
    above, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return f"{above}{MARK}\n{reference()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
