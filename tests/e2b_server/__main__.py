"""
A server in a process of its own, for measurements: `python -m tests.e2b_server FOLDER`.

Says where it is, and then answers each line of its input, all of it JSON: {"policy": {...}} sets what is named,
{"act": "requests"} gives the record of requests, {"act": "clear"} forgets it, {"act": "cut_streams"} cuts them.
Ends with its input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.e2b_server.server import E2BServer


def answer(server: E2BServer, question: dict[str, Any]) -> Any:
    for name, value in question.get("policy", {}).items():
        setattr(server.policy, name, value)
    match question.get("act"):
        case "requests":
            return [
                {
                    "kind": request.kind,
                    "started_s": request.started_s,
                    "answered_s": request.answered_s,
                    "ended_s": request.ended_s,
                    "up_bytes": request.up_bytes,
                    "down_bytes": request.down_bytes,
                }
                for request in server.seen.requests
            ]
        case "clear":
            server.seen.clear()
        case "cut_streams":
            return server.cut_streams()
    return None


def main() -> None:
    with E2BServer(Path(sys.argv[1])) as server:
        where = {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": server.sandbox_url}
        print(json.dumps(where), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(server, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
