"""Parity scenarios about data: what flows between steps, and what they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.testing.parity_scenario import Scenario, step

if TYPE_CHECKING:
    from pathlib import Path

    from osiris_core.testing.parity_outcome import Outcome

ORDERS = "id,city,amount\n1,Łódź,10.5\n2,Zürich,\n3,東京,7\n4,Łódź,1e3\n".encode()
BY_CITY = "SELECT city, sum(amount) AS total, count(*) AS n FROM orders GROUP BY city ORDER BY city"
ODD_FILES: dict[str, dict[str, Any]] = {
    "empty": {"text": ""},
    "binary.bin": {"hex": "00ff0a0d1a80" * 100},
    "with space.txt": {"text": "a"},
    "-rf": {"text": "b"},
    "--": {"text": "c"},
    "žluťoučký ☃.txt": {"text": "d"},
    "new\nline.txt": {"text": "e"},
    "tab\t'quote\" $(x) `y` \\z": {"text": "f"},
    ".hidden": {"text": "g"},
    "~": {"text": "h"},
    "a/b/c/d/e/f/g/deep.txt": {"text": "i"},
    "n" * 200: {"text": "j"},
    "/".join(["p" * 60] * 5): {"text": "k"},
    "runs.sh": {"text": "#!/bin/sh\n", "mode": 0o755},
    "private": {"text": "l", "mode": 0o600},
    "read-only": {"text": "m", "mode": 0o444},
    "nothing in it": {"folder": True},
    "for the group": {"folder": True, "mode": 0o750},
    "for the group/inside": {"text": "p"},
    "CON": {"text": "n"},
    "with:colon": {"text": "o"},
}
LINKS: dict[str, dict[str, Any]] = {
    "data.txt": {"text": "pointed to"},
    "sub/up": {"link": "../data.txt"},
    "beside": {"link": "data.txt"},
    "absolute": {"link": "{artifacts}/data.txt"},
    "to folder": {"link": "sub"},
    "out": {"link": "/etc/hostname"},
    "out relative": {"link": "../../../elsewhere"},
    "broken": {"link": "nowhere"},
    "itself": {"link": "itself"},
    "pipe": {"pipe": True},
}
LINKED = {"links/data.txt", "links/sub/up", "links/beside", "links/absolute"}


def _check_odd_names(outcome: Outcome) -> None:
    wanted = {f"odd/{name}" for name, item in ODD_FILES.items() if "folder" not in item}
    assert {str(item["path"]) for item in outcome.report["artifacts"]} == wanted, "artifacts are missing, or too many"
    assert outcome.tree["odd/nothing in it"][0] == "folder", "the empty folder is gone"


def _check_links(outcome: Outcome) -> None:
    assert {item["path"] for item in outcome.report["artifacts"]} == LINKED, "artifacts are missing, or too many"
    for path in LINKED:
        content = (outcome.session_dir / "artifacts" / path).read_text()
        assert content == "pointed to", f"{path} reads {content!r}"


def _check_spilled(outcome: Outcome) -> None:
    (took,) = outcome.told("took")
    assert took == {"name": "df", "kind": "SpilledTable", "rows": 400_000}, took


def _check_many_events(outcome: Outcome) -> None:
    values = [event["value"] for event in outcome.named("metric", "chatter") if event["tags"] == {}]
    assert values == list(range(50_000)), "events are missing, doubled or out of order"


def _check_resumed(outcome: Outcome) -> None:
    assert outcome.report["attempt"] == 2, outcome.report["attempt"]
    statuses = {record["step_id"]: record["status"] for record in outcome.report["steps"]}
    assert statuses == {"numbers": "reused", "query": "completed"}, statuses


LINEAR = Scenario(
    "linear",
    "CSV, SQL, CSV: the same bytes",
    (
        step("read", "filesystem.csv_extractor", {"path": "in/orders.csv"}),
        step("sum", "duckdb.processor", {"query": BY_CITY}, inputs={"orders": "read"}),
        step("write", "filesystem.csv_writer", {"path": "out/by city.csv"}, inputs={"df": "sum"}),
        step("keep", "filesystem.parquet_writer", {"path": "by_city.parquet"}, inputs={"df": "sum"}),
    ),
    files={"in/orders.csv": ORDERS},
)
FAN_IN = Scenario(
    "fan-in",
    "a step gets the tables of several",
    (
        step("a", "Numbers", {"rows": 1000}),
        step("b", "Numbers", {"rows": 10, "first": -5}),
        step("c.d", "Numbers", {"rows": 0}),
        step("all", "Sums", inputs={"one": "a", "two": "b.df", "three": "c.d"}),
    ),
)
FAN_OUT = Scenario(
    "fan-out",
    "several steps get the table of one, side by side",
    (
        step("source", "Numbers", {"rows": 5000}),
        step("left", "Sums", inputs={"df": "source"}),
        step("right", "Sums", inputs={"df": "source"}),
        step(
            "sql",
            "duckdb.processor",
            {"query": "SELECT label, max(n) AS n FROM t GROUP BY 1 ORDER BY 1"},
            inputs={"t": "source"},
        ),
        step("last", "filesystem.csv_writer", {"path": "last.csv"}, inputs={"df": "sql"}, needs=["left", "right"]),
    ),
    settings={"max_parallel_steps": 3},
)
COMMAND = Scenario(
    "command",
    "a command's tables, files, artifacts and output",
    (
        step("numbers", "Numbers", {"rows": 100}),
        step(
            "shell",
            "command",
            {
                "shell": 'cat "$OSIRIS_INPUT_N" | wc -l; cat names.txt; echo to stderr >&2; '
                'mkdir o; head -3 "$OSIRIS_INPUT_N" > o/t.csv',
                "files": ["in/names.txt"],
                "outputs": {"df": {"path": "o/t.csv"}},
                "artifacts": ["o/*.csv"],
            },
            inputs={"n": "numbers"},
        ),
        step("sums", "Sums", inputs={"df": "shell"}),
    ),
    files={"in/names.txt": "Jiří\nŁucja\n".encode()},
)
ODD_NAMES = Scenario(
    "odd-names",
    "artifacts come home whatever they are called, with their bytes and modes",
    (step("odd", "WritesFiles", {"files": ODD_FILES}),),
    check=_check_odd_names,
)
RAW_NAME = Scenario("raw-name", "a file name that is no UTF-8", (step("raw", "RawName"),))
LINKS_AND_PIPES = Scenario(
    "links",
    "links within a step's artifacts come home; others, and what is no file, are left out with a warning",
    (step("links", "WritesFiles", {"files": LINKS}),),
    check=_check_links,
)
UNICODE = Scenario(
    "unicode",
    "texts of any script and every shape of event",
    (step("tells", "Tells", {"text": "🧵 naïve \u202e \x1e \x00 \ud800 end"}),),
)
SPILL = Scenario(
    "spill",
    "a table larger than the memory budget passes through",
    (step("wide", "Wide", {"rows": 400_000}), step("sums", "Sums", inputs={"df": "wide"})),
    settings={"memory_budget_bytes": 32 << 20},
    check=_check_spilled,
)
POOL = Scenario(
    "pool",
    "a driver that shares its work among processes of its own",
    (step("pool", "Shares", {"numbers": list(range(20))}),),
)
MANY_EVENTS = Scenario(
    "many-events",
    "50,000 events of one step: none lost, none twice, in order",
    (step("chatter", "Chatters", {"events": 50_000}),),
    check=_check_many_events,
)
RESUMED = Scenario(
    "resumed",
    "a second attempt takes over what the first one finished",
    (
        step("numbers", "Numbers", {"rows": 50}),
        step("query", "duckdb.processor", {"query": "SELECT nothing FROM t"}, inputs={"t": "numbers"}),
    ),
    again=(
        step("numbers", "Numbers", {"rows": 50}),
        step("query", "duckdb.processor", {"query": "SELECT n FROM t"}, inputs={"t": "numbers"}),
    ),
    settings={"checkpoint": "always"},
    check=_check_resumed,
)

DATA_SCENARIOS = (
    LINEAR,
    FAN_IN,
    FAN_OUT,
    COMMAND,
    ODD_NAMES,
    RAW_NAME,
    LINKS_AND_PIPES,
    UNICODE,
    SPILL,
    POOL,
    MANY_EVENTS,
    RESUMED,
)


def compiled_by_osiris(folder: Path) -> Scenario:
    """A pipeline that Osiris compiled, unchanged: `folder` holds `compiled/manifest.yaml` and its input files."""
    return Scenario(
        "compiled-by-osiris",
        "what Osiris compiled runs unchanged",
        manifest=folder / "compiled" / "manifest.yaml",
        base_dir=folder,
    )
