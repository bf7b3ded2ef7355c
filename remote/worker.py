"""
The engine process of a worker: waits for `start`, runs the steps, writes the journal and the summary, and leaves.

It is forked by the supervisor before anything is imported, has no part in the wire, and obeys a pipe: a line of JSON
starts the run, further ones cancel it, and its end means that the supervisor is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from osiris_core.rooms import load
from remote import folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

    from osiris_core.prepared import PreparedRun
    from remote.output_spool import PrintedOutput

ORPHAN_GRACE_S = 8.0
"""How long an engine whose supervisor is gone may take to stop its steps."""


def run_engine(work_dir: str, control_fd: int, printed: PrintedOutput) -> NoReturn:
    """The whole life of the engine process. Leaves by `os._exit`: no thread that a step left behind is waited for."""
    code = 1
    supervisor = os.getppid()
    try:
        _take_output_away(printed)
        _run(work_dir, control_fd, printed)
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here; the supervisor finds this text
        import traceback

        traceback.print_exc()
    finally:
        _flush_output()
        if os.getppid() != supervisor:
            _end_what_is_below()
        os._exit(code)


def _run(work_dir: str, control_fd: int, printed: PrintedOutput) -> None:
    prepared, drivers, package = _load(work_dir)
    control = open(control_fd, "rb", buffering=0, closefd=True)  # noqa: SIM115 - open as long as the process lives
    lines = _lines(control)
    order = next(lines, None)
    if order is None:  # nobody ever asked for the run
        return
    job = load("remote.engine_job").EngineJob(work_dir, prepared, drivers, package, order, printed)
    threading.Thread(target=_obey, args=(lines, job), name="osiris-control", daemon=True).start()
    job.run()


def _load(work_dir: str) -> tuple[PreparedRun, dict[str, str], bytes]:
    """Read the package, and import meanwhile what the run will need."""
    from osiris_core.driver import BUILTIN, DriverRegistry
    from osiris_core.prepared import PreparedRun

    with open(f"{work_dir}/{folders.PACKAGE_FILE}", "rb") as file:
        package = file.read()
    with open(f"{work_dir}/{folders.PREPARED_FILE}", "rb") as file:
        prepared = PreparedRun.from_json(json.loads(file.read()))
    load("remote.engine_job")  # imported now, before `start` comes

    for step in prepared.manifest["steps"]:
        if step["driver"] in BUILTIN:
            DriverRegistry.get(step["driver"])
    return prepared, json.loads(package)["drivers"], package


def _lines(control: Any) -> Iterator[dict[str, Any]]:
    pending = b""
    while piece := control.read(1 << 16):
        *whole, pending = (pending + piece).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _obey(lines: Iterable[dict[str, Any]], job: Any) -> None:
    for line in lines:
        job.cancel(line["cancel"])
    job.cancel("the worker's supervisor is gone")
    threading.Event().wait(ORPHAN_GRACE_S)
    _end_what_is_below()
    os._exit(70)


def _end_what_is_below() -> None:
    """What the supervisor would do, if it were still there."""
    load("remote.engine_process").kill_descendants(lambda: None)


def _take_output_away(printed: PrintedOutput) -> None:
    """Point both standard streams at files: a writer is never blocked, and nothing reaches the wire."""
    printed.take_over()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    import faulthandler

    faulthandler.enable(all_threads=False)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
