"""Parity scenarios about runs that do not go well: the same class, the same words, the same frames."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from osiris_core.testing.parity_scenario import DRIVERS, Scenario, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from osiris_core.testing.parity_outcome import Outcome

_RAGGED = b"a,b\n1,2\n3,4,5\n"
_LONG_LIFE = {name: str(31_536_000 + 10 * os.getpid() + number) for number, name in enumerate(("command", "cancel"))}
"""Seconds that nobody else sleeps: the mark of this process's own children."""
_DETACH = (
    "python3 -c 'import os; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0);"
    ' os.execvp("sleep", ["sleep", "{0}"])\'; setsid sleep {0} & (sleep {0} &) ; echo ready; exec sleep {0}'
)


def failed_with(failure_class: str, *words: str) -> Callable[[Outcome], None]:
    """A check: the run's error has this class, and these words in its message."""

    def check(outcome: Outcome) -> None:
        error = outcome.report["error"]
        assert error["failure_class"] == failure_class, error
        missing = [word for word in words if word not in error["message"]]
        assert not missing, f"{missing} is not in the message {error['message']!r}"

    return check


def _statuses(**wanted: str) -> Callable[[Outcome], None]:
    def check(outcome: Outcome) -> None:
        found = {record["step_id"]: record["status"] for record in outcome.report["steps"]}
        assert found == wanted, found

    return check


def _refused(*words: str) -> Callable[[Outcome], None]:
    def check(outcome: Outcome) -> None:
        text = "\n".join(outcome.problems)
        missing = [word for word in words if word not in text]
        assert not missing, f"{missing} is not in {text!r}"
        assert not outcome.session_dir.exists(), "a run that cannot start left a session directory"

    return check


def _driver_fails(name: str, how: str, promise: str, failure_class: str, *words: str) -> Scenario:
    steps = (
        step("fine", "Numbers", {"rows": 3}),
        step("bad", "Fails", {"how": how}, inputs={"df": "fine"}),
        step("next", "Tells", {"text": ""}, needs=["bad"]),
    )
    return Scenario(name, promise, steps, status="failed", check=failed_with(failure_class, *words))


def _check_user_frames(outcome: Outcome) -> None:
    failed_with("user_error", "the second: naïve")(outcome)
    text = outcome.report["error"]["traceback"]
    for words in ("in run", "in _parse", "ValueError: invalid literal", "direct cause", f"{DRIVERS}.py"):
        assert words in text, f"{words!r} is not in the traceback: {text}"
    assert "osiris_core/engine.py" not in text, "the engine's own frames are no help"
    assert "attempt.py" not in text, "the engine's own frames are no help"


def _check_retried(outcome: Outcome) -> None:
    assert outcome.step("flaky")["attempts"] == 2, outcome.step("flaky")
    assert [item["path"] for item in outcome.report["artifacts"]] == ["flaky/try-2.txt"], "the first try left its files"


def _check_timeout(outcome: Outcome) -> None:
    assert outcome.step("slow")["status"] == "timeout", outcome.step("slow")
    assert outcome.report["error"]["failure_class"] == "timeout", outcome.report["error"]


def _reads(
    name: str, driver: str, files: dict[str, bytes], promise: str, *words: str, config: Mapping[str, Any] | None = None
) -> Scenario:
    path = next(iter(files))
    steps = (step("read", driver, {"path": path, **(config or {})}),)
    return Scenario(name, promise, steps, files=files, status="failed", check=failed_with("user_error", *words))


FAILURE_SCENARIOS = (
    Scenario(
        "sql-error",
        "an SQL error names line and column",
        (
            step("numbers", "Numbers", {"rows": 3}),
            step("query", "duckdb.processor", {"query": "SELECT n\nFROM t WHERE nowhere > 1"}, inputs={"t": "numbers"}),
        ),
        status="failed",
        check=failed_with("user_error", "line 2", "nowhere"),
    ),
    Scenario(
        "sql-conversion",
        "an error in the middle of a query",
        (
            step(
                "query", "duckdb.processor", {"query": "SELECT CAST(s AS INTEGER) AS n FROM (VALUES ('1'), ('x')) v(s)"}
            ),
        ),
        status="failed",
        check=failed_with("user_error", "x"),
    ),
    Scenario(
        "command-fails",
        "a command's exit code and last line",
        (
            step(
                "shell",
                "command",
                {"shell": "echo out; echo some reason >&2; echo kept > f; exit 3", "artifacts": ["f"]},
            ),
        ),
        status="failed",
        check=failed_with("user_error", "code 3", "some reason"),
    ),
    Scenario(
        "command-not-found",
        "a program that is not there",
        (step("shell", "command", {"argv": ["./not-there-at-all", "x"]}),),
        status="failed",
        check=failed_with("user_error", "not-there-at-all"),
    ),
    Scenario(
        "command-killed",
        "a command that is killed by a signal",
        (step("shell", "command", {"shell": "kill -SEGV $$"}),),
        status="failed",
        check=failed_with("user_error", "SIGSEGV"),
    ),
    _reads(
        "csv-ragged",
        "filesystem.csv_extractor",
        {"in/ragged.csv": _RAGGED},
        "a broken CSV file",
        "line 3",
        "ragged.csv",
    ),
    _reads(
        "csv-type",
        "filesystem.csv_extractor",
        {"in/types.csv": b"a\n1\nx\n"},
        "a value that does not fit its type",
        "types.csv",
        config={"dtype": {"a": "int64"}},
    ),
    _reads(
        "parquet-broken",
        "filesystem.parquet_extractor",
        {"in/no.parquet": b"PAR?"},
        "a file that is no Parquet",
        "no.parquet",
    ),
    _reads(
        "user-path",
        "Reader",
        {"in/a file.txt": b"x"},
        "a path in a user's own message",
        "not what",
        config={"parse": True},
    ),
    Scenario(
        "exception",
        "a chained exception in a user's driver, with the user's frames and no others",
        (step("bad", "Fails", {"how": "chained"}),),
        status="failed",
        check=_check_user_frames,
    ),
    _driver_fails(
        "details", "details", "an error with a class and details of the driver's", "resource_denied", "disk is full"
    ),
    _driver_fails("sys-exit", "exit", "sys.exit in a driver fails its step, and no more", "user_error", "leaving"),
    _driver_fails(
        "sys-exit-code", "exit-code", "sys.exit(7) in a driver fails its step, and no more", "user_error", "7"
    ),
    _driver_fails("interrupt", "interrupt", "KeyboardInterrupt raised in a driver fails its step", "user_error"),
    _driver_fails("exception-group", "group", "an ExceptionGroup keeps its parts", "user_error", "several"),
    _driver_fails("memory-error", "memory", "a MemoryError is out_of_memory", "out_of_memory"),
    _driver_fails("no-message", "silent", "an exception without a message", "user_error", "AssertionError"),
    _driver_fails("wrong-type", "type", "a driver that returns a list", "user_error", "returned a list"),
    _driver_fails("wrong-value", "value", "a driver that returns what is no table and no JSON", "user_error", "df"),
    Scenario(
        "keep-going",
        "after a failure, what does not depend on it goes on; the rest is skipped with the reason",
        (
            step("bad", "Fails", {"how": "chained"}),
            step("after", "Tells", {"text": "never"}, needs=["bad"]),
            step("after-that", "Tells", {"text": "never"}, needs=["after"]),
            step("free", "Numbers", {"rows": 3}),
            step("free-too", "Sums", inputs={"df": "free"}),
        ),
        settings={"on_failure": "continue"},
        status="failed",
        check=_statuses(
            **{
                "bad": "failed",
                "after": "skipped",
                "after-that": "skipped",
                "free": "completed",
                "free-too": "completed",
            }
        ),
    ),
    Scenario(
        "retry",
        "a step that succeeds at its second try, without the files of the first",
        (
            step("flaky", "Flaky", retry={"attempts": 3, "backoff_s": 0.05, "jitter_s": 0}),
            step("next", "Tells", {"text": "ok"}, needs=["flaky"]),
        ),
        check=_check_retried,
    ),
    Scenario(
        "retries-used-up",
        "a step that fails at every try",
        (step("bad", "Fails", {"how": "details"}, retry={"attempts": 2, "backoff_s": 0.05, "jitter_s": 0}),),
        status="failed",
        check=failed_with("resource_denied"),
    ),
    Scenario(
        "timeout",
        "a command that runs out of time leaves no process: not its children, not those that left its session",
        (
            step("slow", "command", {"shell": _DETACH.format(_LONG_LIFE["command"])}, timeout_s=1.5),
            step("next", "command", {"argv": ["true"]}, needs=["slow"]),
        ),
        status="timeout",
        check=_check_timeout,
        marker=_LONG_LIFE["command"],
    ),
    Scenario(
        "timeout-driver",
        "a driver that runs out of time and notices",
        (step("slow", "Waits", timeout_s=0.5),),
        status="timeout",
        check=_check_timeout,
    ),
    Scenario(
        "timeout-of-run",
        "a run that runs out of time",
        (step("slow", "Waits"), step("next", "Tells", {"text": ""}, needs=["slow"])),
        settings={"timeout": 1.0},
        status="timeout",
        check=failed_with("timeout", "1 s"),
    ),
    Scenario(
        "cancel",
        "a run that is cancelled from another thread leaves no process of its command",
        (
            step("shell", "command", {"shell": _DETACH.format(_LONG_LIFE["cancel"])}),
            step("next", "command", {"argv": ["true"]}, needs=["shell"]),
        ),
        cancel="shell",
        status="cancelled",
        check=failed_with("cancelled", "enough"),
        marker=_LONG_LIFE["cancel"],
    ),
    Scenario(
        "cancel-driver",
        "a run that is cancelled from another thread stops its drivers, and starts no other",
        (step("waits", "Waits"), step("next", "Tells", {"text": ""}, needs=["waits"])),
        cancel="waits",
        status="cancelled",
        check=_statuses(waits="cancelled", next="skipped"),
    ),
    Scenario(
        "cancel-before",
        "a run that is cancelled before it starts runs nothing",
        (step("never", "Fails", {"how": "exit"}),),
        cancel="before",
        status="cancelled",
        check=failed_with("cancelled", "changed my mind"),
    ),
    Scenario(
        "missing-secret",
        "a variable that is not set is found before anything is started",
        (
            step("a", "Tells", {"text": "${PARITY_NOT_SET_A}"}),
            step("b", "command", {"argv": ["echo", "${PARITY_NOT_SET_B}"]}),
        ),
        status="refused",
        check=_refused("PARITY_NOT_SET_A", "PARITY_NOT_SET_B"),
    ),
    Scenario(
        "bad-manifest",
        "everything that is wrong is said at once",
        (
            step("a", "no.such.driver"),
            step("b", "filesystem.csv_extractor", {"path": "not/there.csv", "nonsense": 1}),
            step("c", "Sums", inputs={"df": "nobody"}),
        ),
        status="refused",
        check=_refused("no.such.driver", "there.csv", "nonsense", "nobody"),
    ),
)
