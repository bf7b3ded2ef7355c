"""
The drivers of the parity scenarios. Not imported here: its text is written into a folder of the user's code, so that
it travels with a run as a user's own drivers do.
"""

# The signature is that of every driver.
# ruff: noqa: ARG002

from __future__ import annotations

import base64
import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pyarrow as pa
from pydantic import BaseModel

from osiris_core.errors import StepError
from osiris_core.paths import InputPath  # noqa: TC001 - pydantic reads it when it runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.step_context import StepContext

DETACHED = "import os, subprocess, sys; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.execvp"


class Numbers:
    """A table of `rows` rows: `n` and a text."""

    deterministic = True

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        first, rows = config.get("first", 0), config["rows"]
        numbers = pa.array(range(first, first + rows), pa.int64())
        return {"df": pa.table({"n": numbers, "label": [f"{step_id} č.{n % 7}" for n in range(rows)]})}


class Sums:
    """Adds up column `n` of every input, and says what kind of table each was."""

    deterministic = True

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        sums = {}
        for name in sorted(inputs):
            batches = inputs[name].to_batches()
            sums[name] = sum(sum(batch.column("n").to_pylist()) for batch in batches)
            ctx.event("took", name=name, kind=type(inputs[name]).__name__, rows=inputs[name].num_rows)
        (ctx.artifacts_dir / "sums.txt").write_text("".join(f"{name} {sums[name]}\n" for name in sums))
        return {"sums": sums}


class Wide:
    """Far more rows than the run may hold in memory, made batch by batch."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        def batch(start: int, rows: int) -> pa.RecordBatch:
            numbers = range(start, start + rows)
            texts = pa.array([f"{n:0100d}" for n in numbers], pa.string())
            return pa.record_batch({"n": pa.array(numbers, pa.int64()), "filler": texts})

        batches = (batch(start, 10_000) for start in range(0, config["rows"], 10_000))
        return {"df": pa.RecordBatchReader.from_batches(batch(0, 0).schema, batches)}


class WritesFiles:
    """Leaves the files of `config`: each with `text` or `hex`, a `mode`, or as a `link`, `folder` or `pipe`."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        for name, item in config["files"].items():
            path = ctx.artifacts_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if "link" in item:
                path.symlink_to(item["link"].replace("{artifacts}", str(ctx.artifacts_dir)))
            elif "folder" in item:
                path.mkdir()
                path.chmod(item.get("mode", 0o755))
            elif "pipe" in item:
                os.mkfifo(path)
            else:
                path.write_bytes(bytes.fromhex(item["hex"]) if "hex" in item else item["text"].encode())
                path.chmod(item.get("mode", 0o644))


class RawName:
    """Leaves a file whose name is no UTF-8."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        Path(os.fsdecode(os.fsencode(ctx.artifacts_dir) + b"/caf\xe9.bin")).write_bytes(b"\0\1")


class Tells:
    """Metrics, events, log lines and progress of every shape."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        ctx.metric("rows_read", 7)
        ctx.log_metric("ratio", 0.5, city="Łódź")
        ctx.metric("not a number", float("nan"), sign="±")
        ctx.event("snow ☃", text=config["text"], nested={"a": [1, None, True, "\U0001f600"]})
        ctx.log("warned: ďáblické ódy\n\ttab", level="warning", clé="\x00\x1b[31m")
        ctx.progress(1, 2, "kusů")
        return {"said": {"text": config["text"], "bool": True, "nothing": None}}


class Reader:
    """Opens a file that the manifest names."""

    class Config(BaseModel):
        path: InputPath
        parse: bool = False

    def run(self, step_id: str, config: Reader.Config, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        with Path(config.path).open("rb") as file:
            data = file.read()
        if config.parse:
            raise ValueError(f"{config.path}: not what was expected")
        return {"size_bytes": len(data)}


class Fails:
    """Raises what `config.how` says."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> Any:
        ctx.log("about to fail")
        (ctx.artifacts_dir / "until then.txt").write_text("kept\n")
        how = config["how"]
        if how == "chained":
            try:
                self._parse("ž€")
            except ValueError as exc:
                raise RuntimeError("the second: naïve") from exc
        if how == "details":
            details = {"table": "orders", "rows": 3, "where": ["a", {"b": None}]}
            raise StepError("the disk is full", failure_class="resource_denied", details=details)  # type: ignore[arg-type]
        if how == "exit":
            sys.exit("leaving")
        if how == "exit-code":
            sys.exit(7)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "group":
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        if how == "memory":
            raise MemoryError
        if how == "silent":
            raise AssertionError
        return {"type": [1, 2, 3], "value": {"df": object()}}[how]

    def _parse(self, text: str) -> int:
        return int(text)


class Flaky:
    """Succeeds at the second try."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        (ctx.artifacts_dir / f"try-{ctx.attempt}.txt").write_text("x")
        if ctx.attempt == 1:
            raise ConnectionResetError("the server closed the connection")
        return {"tries": ctx.attempt}


class Waits:
    """Goes on until it is asked to stop; with `stubborn` longer than that."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        (ctx.artifacts_dir / "started.txt").write_text("x")
        ctx.event("waiting")
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            time.sleep(0.02)
            if not config.get("stubborn"):
                ctx.raise_if_cancelled()


class LeavesChildren:
    """Starts processes that leave its session and lose their parent, and then fails or waits."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        code = f"{DETACHED}('sleep', ['sleep', {config['seconds']!r}])"
        subprocess.run([sys.executable, "-c", code], check=True)
        subprocess.Popen(["/bin/sleep", config["seconds"]], start_new_session=True)
        time.sleep(0.2)
        ctx.event("left")


class Leaks:
    """Does with its secret what a careless driver does, and fails with it."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        value = config["password"]
        encoded = base64.b64encode(f"user:{value}".encode()).decode()
        ctx.log(f"connecting with {value}", dsn=f"db://user:{quote_plus(value)}@host/x")
        ctx.event("login", password=value, header=encoded)
        ctx.metric("logins", 1, token=value)
        ctx.event("environment", **{name: ctx.environment[name] for name in ctx.environment if "PARITY" in name})
        try:
            raise ConnectionError(f"cannot log in as user:{value} ({encoded})")
        except ConnectionError as exc:
            message = f"giving up on db://user:{quote_plus(value)}@host/x"
            raise StepError(message, details={"sent": value, "header": encoded}) from exc


class Prints:
    """Writes to the standard streams from Python, past Python, and from C."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        sys.stdout.write("from Python ☃\n")
        sys.stderr.write("from Python, to stderr\n")
        sys.stdout.flush()
        os.write(1, b'\x1e{"jsonrpc": "2.0", "method": "event"}\nfrom os.write \xff\n')
        libc = ctypes.CDLL(None)
        libc.printf(b"from %s\n", b"printf")
        libc.fflush(None)
        subprocess.run(["/bin/echo", "from a child"], check=True)
        if config.get("password"):
            sys.stdout.write(f"the password is {config['password']}\n")
        sys.stdout.write("without an end")
        return {"done": True}


class LongLine:
    """Prints one line of `size_bytes`."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        sys.stdout.write("x" * config["size_bytes"] + "\n")
        sys.stdout.flush()
        return {"done": True}


class Shares:
    """Squares numbers in processes that are started anew, and import this module again."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            squares = list(pool.map(_square, config["numbers"]))
        ctx.event("squares", squares=squares)
        return {"squares": squares}


def _square(number: int) -> int:
    return number * number


class Chatters:
    """Many events, one after another."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        for number in range(config["events"]):
            ctx.metric("n", number)
        return {"done": True}


class Surroundings:
    """Says what surrounds it: by `ctx`, and (as `own`) what the process itself has."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> dict[str, Any]:
        # What a batch system says of its allocation is there for `srun` and `mpirun`, and differs.
        told = {name: value for name, value in ctx.environment.items() if not name.startswith("SLURM")}
        given = {name: value for name, value in told.items() if name not in ("PATH", "HOME")}
        ctx.event("given", names=sorted(told), **given)
        ctx.event("work_dir", empty=not list(ctx.work_dir.iterdir()), threads=ctx.threads > 0)
        own = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PATH", "HOME", "TMPDIR") and not name.startswith("SLURM")
        }
        ctx.event("own", cwd=str(Path.cwd()), zone=time.strftime("%Z"), **own)
        return {"done": True}


class HoldsTheLock:
    """Keeps the interpreter's lock in C code for some 20 s or more."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        re.match(r"(a+)+$", "a" * 31 + "b")


class Dies:
    """Ends the engine's process, as `config.how` says."""

    def run(self, step_id: str, config: Any, inputs: Mapping[str, Any], ctx: StepContext) -> None:
        (ctx.artifacts_dir / "before.txt").write_text("x")
        ctx.event("dying")
        sys.stderr.write("famous last words\n")
        sys.stderr.flush()
        how = config["how"]
        if how == "segfault":
            ctypes.string_at(0)
        if how == "exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "abort":
            os.abort()
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
