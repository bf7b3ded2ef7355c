"""The report of a conformance run as a page for people: one HTML or Markdown file that needs no other."""

from __future__ import annotations

import html
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; }
td { padding: .2em .6em; vertical-align: top; border-top: 1px solid #ddd; }
td:first-child { white-space: nowrap; } td:last-child { text-align: right; white-space: nowrap; color: #777; }
.holds { color: #18703a; } .fails { color: #b3261e; font-weight: bold; } .gap { color: #8a6100; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .5em; margin: .2em 0; } code { font-size: 90%; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } pre { background: #242424; }
td { border-color: #333; } .holds { color: #6fce8f; } .fails { color: #ff8a80; } .gap { color: #e3b341; } }"""


def json_text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, ensure_ascii=False, indent=2) + "\n"


def html_page(report: Mapping[str, Any]) -> str:
    """With the JSON report inside, so that its digest can be told from the page alone."""
    title = html.escape(f"Conformance of adapter '{report['adapter']}'")
    lines = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"<h1>{title}</h1>",
        f'<p class="{"fails" if report["counts"]["fails"] else "holds"}">{html.escape(verdict_of(report))}</p>',
        "<table>",
        *(f"<tr><td>{html.escape(name)}<td colspan=2>{html.escape(value)}" for name, value in _facts(report)),
        "</table>",
    ]
    for topic, checks in groupby(report["checks"], key=lambda item: item["topic"]):
        lines += [f"<h2>{html.escape(topic)}</h2>", "<table>"]
        for item in checks:
            notes = "".join(f"<pre>{html.escape(note)}</pre>" for note in item["notes"])
            lines.append(
                f'<tr><td class="{item["state"]}">{item["state"]}<td><code>{html.escape(item["name"])}</code> '
                f"{html.escape(item['promise'])}{notes}<td>{item['took_s']:.2f} s"
            )
        lines.append("</table>")
    data = json.dumps(report, ensure_ascii=False).replace("</", "<\\/")
    return "\n".join([*lines, f'<script type="application/json" id="report">{data}</script>', ""])


def markdown_page(report: Mapping[str, Any]) -> str:
    lines = [f"# Conformance of adapter `{report['adapter']}`", "", f"**{verdict_of(report)}**", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in _facts(report))]
    for topic, checks in groupby(report["checks"], key=lambda item: item["topic"]):
        lines += ["", f"## {topic[0].upper()}{topic[1:]}", "", "| | check | promise | |", "|---|---|---|---|"]
        for item in checks:
            notes = "".join(f"<br>{_cell(note)}" for note in item["notes"])
            lines.append(
                f"| {item['state']} | `{item['name']}` | {_cell(item['promise'])}{notes} | {item['took_s']:.2f} s |"
            )
    return "\n".join([*lines, ""])


WRITERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ".json": json_text,
    ".html": html_page,
    ".md": markdown_page,
}
"""How a report is written, by the suffix of its file."""


def verdict_of(report: Mapping[str, Any]) -> str:
    """The report in a line."""
    holds, fails, gaps = (report["counts"][state] for state in ("holds", "fails", "gap"))
    held = f"{holds} of {holds + fails} checks hold, {fails} do not" if fails else f"all {holds} checks hold"
    return f"{held}, {gaps} named gap{'s' if gaps != 1 else ''}" if gaps else held


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "adapter", f"{report['adapter']} ({report['class']})"
    yield "settings", json.dumps(report["settings"], ensure_ascii=False)
    yield "versions", ", ".join(f"{name} {found}" for name, found in report["versions"].items())
    place = report["platform"]
    yield "platform", f"{place['system']}, {place['machine']}, {place['processors']} processors"
    yield "run", f"{report['started_at']}, {report['took_s']:.1f} s"
    yield "digest", report["digest"]


def _cell(text: str) -> str:
    escaped = html.escape(text, quote=False).replace("\\", "\\\\").replace("|", "\\|")
    return "<br>".join(escaped.splitlines())
