"""
A controller of its own: `python -m osiris_core.testing.controller`, told on its standard input what to run.

It is there to be killed, interrupted and told to end; with `hears_signals` as
the command line is. The last line that it prints is what came of the run, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from osiris_core.cli.signals import StopSignals
from osiris_core.context import ExecutionContext
from osiris_core.errors import OsirisError
from osiris_core.memory_evidence import peak_rss_bytes
from osiris_core.testing.candidate import made_from

if TYPE_CHECKING:
    from collections.abc import Mapping


def main() -> None:
    told = json.load(sys.stdin)
    outcome: dict[str, Any] = {}
    try:
        outcome["report"] = _run(told)
    except KeyboardInterrupt:
        outcome["raised"] = "KeyboardInterrupt"
    except OsirisError as exc:
        outcome |= {"raised": type(exc).__name__, "message": str(exc)}
    outcome["peak_memory_bytes"] = peak_rss_bytes(os.getpid())
    print(json.dumps(outcome))  # noqa: T201 - read by whoever started it


def _run(told: Mapping[str, Any]) -> dict[str, Any]:
    with made_from(told) as adapter:
        signals = StopSignals(adapter.cancel, os.abort) if told["hears_signals"] else nullcontext()
        with signals:
            return adapter.run(told["manifest"], ExecutionContext(**told["context"])).to_json()


if __name__ == "__main__":
    main()
