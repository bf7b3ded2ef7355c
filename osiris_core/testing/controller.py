"""
A controller of its own: `python -m osiris_core.testing.controller`, told on its standard input what to run.

It is there to be killed and interrupted. The last line that it prints is what came of the run, as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from osiris_core.context import ExecutionContext
from osiris_core.errors import OsirisError
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
    print(json.dumps(outcome))  # noqa: T201 - read by whoever started it


def _run(told: Mapping[str, Any]) -> dict[str, Any]:
    with made_from(told) as adapter:
        return adapter.run(told["manifest"], ExecutionContext(**told["context"])).to_json()


if __name__ == "__main__":
    main()
