"""
A controller that dies by SIGKILL at one point of a run: `mortal_controller.py ADAPTER SETTINGS SESSION POINT`.

Points are counted: every line of the journal (before it, half-way in it), every JSON file of the session, every word to
the sandbox, the order to start, and the moving in of the results. Without a POINT it lives, and prints their names.
"""

import json
import os
import signal
import sys
from pathlib import Path

from osiris_core import AdapterFactory, ExecutionContext, collection, journal, session
from osiris_core.rooms import load

HERE = Path(__file__).parent
MANIFEST = {
    "pipeline": "mortal",
    "steps": [
        {"id": "numbers", "driver": "duckdb.processor", "config": {"query": "SELECT i FROM range(1000) t(i)"}},
        {"id": "file", "driver": "filesystem.csv_writer", "inputs": {"df": "numbers"}, "config": {"path": "n.csv"}},
        {"id": "last", "driver": "worker_drivers:Write", "needs": ["file"], "config": {"text": "the end"}},
    ],
}
points: list[str] = []
deadly = None


def pass_by(name: str, torn: "bytes | None" = None, fd: int = -1, at: int = 0) -> None:
    number = sum(point.split("#")[0] == name for point in points) + 1
    points.append(f"{name}#{number}")
    if points[-1] == deadly:
        if torn is not None:
            os.pwrite(fd, torn, at)
        os.kill(os.getpid(), signal.SIGKILL)


def watch(owner: object, name: str, label: str) -> None:
    """Pass by a point before each call."""
    inner = getattr(owner, name)

    def watched(*args, **kwargs):
        pass_by(label)
        return inner(*args, **kwargs)

    setattr(owner, name, watched)


def watch_journal() -> None:
    append = journal.Journal.append

    def watched(self, line):
        event = json.loads(line)["event"]
        if event.startswith("run."):
            pass_by(f"before {event}")
        pass_by(f"within {event}", line[: len(line) // 2], self._fd, self._end)
        append(self, line)

    journal.Journal.append = watched


def watch_files() -> None:
    write_json = session.write_json

    def watched(path, data, **how):
        pass_by(f"before {Path(path).stem}")
        write_json(path, data, **how)
        pass_by(f"after {Path(path).stem}")

    session.write_json = collection.write_json = watched


def watch_moves() -> None:
    replace = Path.replace

    def watched(self, target):
        if self.name in ("artifacts", "checkpoints"):
            pass_by(f"moving in {self.name}")
        return replace(self, target)

    Path.replace = watched


def main() -> None:
    global deadly
    adapter, settings, session_dir, *rest = sys.argv[1:]
    deadly = rest[0] if rest else None
    watch_journal()
    watch_files()
    sandbox = {
        "local": lambda: None,
        "process": lambda: load("adapters.process").ProcessSandbox,
        "docker": lambda: load("adapters.docker_engine.sandbox").DockerSandbox,
        "e2b": lambda: load("adapters.e2b_cloud.sandbox").E2BSandbox,
        "slurm": lambda: load("adapters.slurm_cluster.sandbox").SlurmSandbox,
    }[adapter]()
    for name in () if sandbox is None else ("start", "put", "open", "get", "stop"):
        watch(sandbox, name, f"sandbox {name}")
    if adapter == "slurm":
        watch(sandbox, "order", "sandbox order")
        watch(load("adapters.slurm_cluster.sandbox"), "submit", "handing in")
    watch(load("remote.client").WorkerClient, "call", "call")
    watch_moves()
    if adapter == "docker":
        watch(load("adapters.docker_engine.sandbox"), "remove_volume", "volume removed")
    made = AdapterFactory.create(adapter, **json.loads(settings))
    context = ExecutionContext(
        session_dir=session_dir,
        publish_dir=f"{session_dir}.out",
        environment={"TOKEN": os.environ["TOKEN"]},
        checkpoint="always",
    )
    report = made.attach(session_dir) if os.environ.get("ATTACH") else made.run(MANIFEST, context)
    print(json.dumps({"points": points, "report": report.to_json()}))


main()
