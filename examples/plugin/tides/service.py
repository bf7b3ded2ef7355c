"""
The far end of the example: a job service over HTTP, as small as one can be and still be one.

    python -m tides.service            prints its address, and serves until it is ended

POST /jobs?token=T&command=C with a tar: a job, its number. Every POST is a job: the service does not look at tokens.
GET /jobs?token=T: the jobs that carry the token.  GET /jobs/N: how it is.  GET /jobs/N/outputs: its folder as a tar.
DELETE /jobs/N: end it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Job:
    """One command in a folder of its own."""

    def __init__(self, number: int, token: str, command: str, root: Path, package: bytes) -> None:
        self.number, self.token = number, token
        self.folder = root / str(number)
        self.folder.mkdir()
        with tarfile.open(fileobj=io.BytesIO(package)) as archive:
            archive.extractall(self.folder, filter="data")
        self.log = (self.folder / "job.log").open("wb")
        self.process = subprocess.Popen(
            shlex.split(command), cwd=self.folder, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def state(self) -> dict[str, Any]:
        code = self.process.poll()
        return {
            "id": self.number,
            "token": self.token,
            "state": "running" if code is None else "done",
            "return_code": code,
        }

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Service(ThreadingHTTPServer):
    def __init__(self, answer_after_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer_after_s = answer_after_s
        self.jobs: list[Job] = []
        self.lock = threading.Lock()
        self.root = tempfile.TemporaryDirectory()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        package = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number = len(self.server.jobs)
            job = Job(number, asked["token"][0], asked["command"][0], Path(self.server.root.name), package)
            self.server.jobs.append(job)
        time.sleep(self.server.answer_after_s)
        self._answer(job.state())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if len(parts) == 1:
            token = parse_qs(url.query).get("token", [""])[0]
            self._answer([job.state() for job in self.server.jobs if token in ("", job.token)])
        elif len(parts) == 2:
            self._answer(self.server.jobs[int(parts[1])].state())
        else:
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(self.server.jobs[int(parts[1])].folder, ".")
            self._send(packed.getvalue(), "application/x-tar")

    def do_DELETE(self) -> None:
        job = self.server.jobs[int(self.path.strip("/").split("/")[1])]
        job.end()
        self._answer(job.state())

    def log_message(self, *_: Any) -> None:
        """Quiet: the address is all that is printed."""

    def _answer(self, document: Any) -> None:
        self._send(json.dumps(document).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked is gone
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description="A job service for the example.")
    parser.add_argument("--answer-after", type=float, default=0.0, metavar="S", help="wait before a POST is answered")
    service = Service(parser.parse_args().answer_after)
    print(service.url, flush=True)
    try:
        service.serve_forever()
    finally:
        for job in service.jobs:
            job.end()
        service.root.cleanup()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(0)))
    main()
