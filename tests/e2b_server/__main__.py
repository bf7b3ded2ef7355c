"""
A server in a process of its own, for measurements: `python -m tests.e2b_server FOLDER`.

Says where it is, and then answers each line of its input, all of it JSON: {"policy": {...}} sets what is named,
{"cut": [pattern, at_byte, times]} cuts answers, {"act": "requests"} gives the record of requests, {"act": "clear"}
forgets it and the cuts. Ends with its input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.e2b_server.server import E2BServer

FACTS = ("kind", "started_s", "answered_s", "ended_s", "up_bytes", "down_bytes")


def answer(server: E2BServer, question: dict[str, Any]) -> Any:
    for name, value in question.get("policy", {}).items():
        setattr(server.policy, name, value)
    if "cut" in question:
        server.faults.cut(*question["cut"])
    if question.get("act") == "clear":
        server.seen.clear()
        server.faults.clear()
    if question.get("act") == "requests":
        return [{name: getattr(request, name) for name in FACTS} for request in server.seen.requests]
    return None


def main() -> None:
    with E2BServer(Path(sys.argv[1])) as server:
        where = {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": server.sandbox_url}
        print(json.dumps(where), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(server, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
