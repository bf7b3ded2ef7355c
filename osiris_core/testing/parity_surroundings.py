"""Parity scenarios about what surrounds a step: its environment, its streams, and secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.testing.parity_scenario import Scenario, step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.testing.parity_outcome import Outcome

SECRET = "tr0ub4dor&3/Žluťák+x"  # noqa: S105 - it is looked for in what the run leaves
UNDECLARED = {"PARITY_UNDECLARED": "of the caller's", "PYTHONWARNINGS": "ignore::UserWarning:parity"}
LOUD_MODULE = '''
"""Prints while it is imported, from Python, past Python and from C."""
import ctypes, os
print("at import")
print('\\x1e{"jsonrpc": "2.0", "method": "hello"}')
os.write(1, b"at import, past Python\\n")
ctypes.CDLL(None).puts(b"at import, from C")

class Driver:
    def run(self, step_id, config, inputs, ctx):
        print("in the step")
        return {"done": True}
'''
_OWN = "`local` runs Python drivers in the caller's process: os.environ and the working directory are the caller's"
_STREAMS = "`local` runs Python drivers in the caller's process: what they print goes where the caller's prints go"


def _is_printed(event: Mapping[str, Any]) -> bool:
    return "stream" in event and "step_id" not in event and event["event"] == "log"


def _is_own(event: Mapping[str, Any]) -> bool:
    return bool(event["event"] == "step.event" and event["name"] == "own")


def _check_environment(outcome: Outcome) -> None:
    (given,) = outcome.told("given")
    assert given["PARITY_DECLARED"] == "a value", given
    assert given["TZ"] == "UTC", given
    assert not set(UNDECLARED) & set(given["names"]), "an undeclared variable came through"
    listing = (outcome.session_dir / "artifacts/shell/stdout.log").read_text()
    assert "PARITY_DECLARED" in listing, listing
    assert not any(name in listing for name in UNDECLARED), "an undeclared variable came through"
    assert (outcome.session_dir / "artifacts/shell/zone.txt").read_text() == "+0000\n", "a command is not in UTC"
    if not outcome.runs_here:
        (own,) = outcome.told("own")
        assert own.pop("zone") == "UTC", own
        assert Path(own.pop("cwd")) not in (Path.cwd(), Path.home()), "a driver starts in a folder of the caller's"
        assert set(own) == {"LANG", "LC_ALL", "TZ", "PARITY_DECLARED"}, own


def _check_prints(outcome: Outcome) -> None:
    if outcome.runs_here:
        return
    lines, text = outcome.printed(), "\n".join(outcome.printed())
    for line in ("from Python ☃", "from os.write \ufffd", "from printf", "from a child", "without an end"):
        assert line in lines, f"{line!r} is not in {lines}"
    assert '"method": "event"' in text, "what looks like a message of ours was swallowed"
    assert "from Python, to stderr" in outcome.printed("stderr"), outcome.printed("stderr")
    assert "the password is ***" in lines, lines


def _check_loud(outcome: Outcome) -> None:
    if outcome.runs_here:
        return
    lines = outcome.printed()
    for line in ("at import", "at import, past Python", "at import, from C", "in the step"):
        assert lines.count(line) == 1, f"{line!r} is there {lines.count(line)} times: {lines}"


def _check_long_line(outcome: Outcome) -> None:
    lengths = [len(line) for line in outcome.printed() if set(line) == {"x"}]
    assert sum(lengths) == 50_000_000, f"{sum(lengths)} bytes of the line came through, in {len(lengths)} pieces"


def _check_masked(outcome: Outcome) -> None:
    error = outcome.report["error"]
    assert "***" in error["message"], error
    assert "***" in error["traceback"], error
    assert error["details"]["sent"] == "***", error["details"]
    (told,) = outcome.told("environment")
    assert told == {"PARITY_DECLARED": "a value", "PARITY_SECRET": "***"}, told


ENVIRONMENT = Scenario(
    "environment",
    "a step sees what is declared, and nothing else of the caller's environment",
    (
        step("python", "Surroundings"),
        step(
            "shell",
            "command",
            {
                "shell": "env | grep -v ^SLURM | cut -d= -f1 | sort; "
                "date +%z > zone.txt; pwd | grep -c work; ls -A | sort",
                "env": {"LOCAL_TO_STEP": "1"},
                "artifacts": ["zone.txt"],
            },
        ),
    ),
    settings={
        "environment": {"PARITY_DECLARED": "a value"},
        "public_environment": frozenset({"PARITY_DECLARED"}),
    },
    variables=UNDECLARED,
    check=_check_environment,
    gap=_OWN,
    left_out=_is_own,
)
PRINTS = Scenario(
    "prints",
    "what user code prints, from Python or C, breaks nothing and becomes log events",
    (step("prints", "Prints", {"password": "${PARITY_SECRET}"}), step("next", "Tells", {"text": ""}, needs=["prints"])),
    settings={"environment": {"PARITY_SECRET": SECRET}},
    check=_check_prints,
    gap=_STREAMS,
    left_out=_is_printed,
)
LOUD = Scenario(
    "prints-at-import",
    "a user's module that prints while it is imported breaks nothing",
    ({"id": "loud", "driver": "osiris_parity_loud:Driver"},),
    modules={"osiris_parity_loud": LOUD_MODULE},
    check=_check_loud,
    gap=_STREAMS,
    left_out=_is_printed,
)
LONG_LINE = Scenario(
    "long-line",
    "one printed line of 50 MB: in pieces, and whole",
    (step("prints", "LongLine", {"size_bytes": 50_000_000}),),
    check=_check_long_line,
    without_local=_STREAMS,
)
SECRETS = Scenario(
    "secret-in-exception",
    "a secret in events, messages, tracebacks and details, in clear, base64 and URL form, is nowhere to be found",
    (step("leaks", "Leaks", {"password": "${PARITY_SECRET}"}),),
    settings={
        "environment": {"PARITY_SECRET": SECRET, "PARITY_DECLARED": "a value"},
        "public_environment": frozenset({"PARITY_DECLARED"}),
    },
    secrets=(SECRET,),
    status="failed",
    check=_check_masked,
)
SECRET_IN_COMMAND = Scenario(
    "secret-in-command",
    "a command gets a secret by its environment; what it prints of it is masked",
    (
        step(
            "shell",
            "command",
            {"shell": 'echo "with $PARITY_SECRET"; env | grep SECRET >&2; echo "$PARITY_SECRET" | base64 >&2; exit 1'},
        ),
    ),
    settings={"environment": {"PARITY_SECRET": SECRET}},
    secrets=(SECRET,),
    status="failed",
)

SURROUNDINGS_SCENARIOS = (ENVIRONMENT, PRINTS, LOUD, LONG_LINE, SECRETS, SECRET_IN_COMMAND)
