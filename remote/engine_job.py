"""One run inside the engine process: checks the package, sets the engine up as `local` does, writes the summary."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.aftermath import Aftermath
from osiris_core.driver import DriverRegistry
from osiris_core.engine_run import EngineRun, make_place, sealed_locations
from osiris_core.errors import ExecutionError, FailureClass
from osiris_core.journal import Journal, read_events
from osiris_core.redaction import Redactor
from osiris_core.resources import cpu_count, default_memory_budget_bytes
from osiris_core.sealing import sha256_of
from osiris_core.secrets import SecretValues
from osiris_core.session import SessionLayout, write_json
from remote import folders
from remote.lineage import take_over
from remote.order_file import passed_on
from remote.output_spool import OutputSpool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary
    from remote.output_spool import PrintedOutput

_IOLBF = 1
"""The C library's line buffering."""


class EngineJob:
    """`cancel` may come from another thread, before, while and after `run`."""

    def __init__(
        self,
        work_dir: str,
        prepared: PreparedRun,
        drivers: Mapping[str, str],
        package: bytes,
        order: Mapping[str, Any],
        printed: PrintedOutput,
    ) -> None:
        self._work_dir = work_dir
        self._prepared = prepared
        self._drivers = drivers
        self._package = package
        self._order = order
        self._printed = printed
        self._cancelled: str | None = None
        self._engine_run: EngineRun | None = None
        self._passed_on: dict[str, str] = {}

    def cancel(self, reason: str) -> None:
        self._cancelled = self._cancelled or reason
        if self._engine_run is not None:
            self._engine_run.cancel(reason)

    def run(self) -> None:
        """The journal has its end and the summary is there on return, whatever happened."""
        layout = SessionLayout(Path(self._work_dir, folders.SESSION_FOLDER))
        layout.root.mkdir(exist_ok=True)
        prepared, order = self._prepared, self._order
        if order["earlier"]:
            take_over(order["earlier"], layout)
        prepared.secrets = SecretValues(order["secrets"])
        for file in prepared.input_files:  # what was sent is named by its place in the package
            file.source = str(Path(self._work_dir, file.source))
        redactor = Redactor(prepared.secrets[name] for name in prepared.secret_names)
        with Journal(layout.events_file, order["session_id"], order["attempt"]) as journal:
            try:
                self._check_package()
                self._surround(layout)
                self._load_drivers()
                summary = self._run_steps(layout, journal, redactor)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the journal is to have an end
                error = exc if isinstance(exc, ExecutionError) else _as_bug(exc)
                told = Aftermath(prepared.steps, read_events(layout.events_file), journal.attempt)
                origin = journal.origin("engine", redactor, told.last_seq)
                summary = told.conclude(error, redactor, origin)
            journal.sync()
        write_json(Path(self._work_dir, folders.SUMMARY_FILE), summary.to_json())

    def _run_steps(self, layout: SessionLayout, journal: Journal, redactor: Redactor) -> RunSummary:
        spool: OutputSpool | None = None

        def take_the_last_output() -> None:
            sys.stdout.flush()
            ctypes.CDLL(None).fflush(None)
            if spool is not None:
                spool.drain()

        engine_run = self._engine_run = EngineRun(
            self._prepared,
            layout,
            journal,
            redactor,
            resume=self._order["resume"],
            elsewhere=self._at_home(),
            before_end=take_the_last_output,
            passed_on=self._passed_on,
        )
        spool = OutputSpool(self._printed, engine_run.origin, redactor)
        spool.start()
        if self._cancelled is not None:
            engine_run.cancel(self._cancelled)
        return engine_run.run()

    def _at_home(self) -> frozenset[str]:
        """What of earlier attempts was verified where the run was asked for, and stayed there."""
        try:
            return frozenset(json.loads(Path(self._work_dir, folders.AT_HOME_FILE).read_bytes()))
        except FileNotFoundError:
            return frozenset()

    def _check_package(self) -> None:
        """See that what came up is what was sent."""
        broken = []
        if hashlib.sha256(self._package).hexdigest() != self._order["package_sha256"]:
            broken.append(folders.PACKAGE_FILE)
        else:
            for name, item in json.loads(self._package)["files"].items():
                path = Path(self._work_dir, name)
                if not path.is_file() or sha256_of(path) != item["sha256"]:
                    broken.append(name)
        if broken:
            message = f"the package did not arrive as it was sent: {', '.join(broken[:5])}"
            raise ExecutionError(message, failure_class=FailureClass.PROTOCOL)

    def _surround(self, layout: SessionLayout) -> None:
        """Give this process what every step gets: the declared environment, UTC, a working directory of the run's."""
        settings = self._prepared.settings
        # What a batch job was given stands in variables that no step sees.
        settings["max_parallel_steps"] = settings.get("max_parallel_steps") or cpu_count()
        settings["memory_budget_bytes"] = settings.get("memory_budget_bytes") or default_memory_budget_bytes()
        self._passed_on = passed_on(os.environ)
        locate = sealed_locations(self._prepared)
        place = make_place(self._prepared, layout, self._order["session_id"], locate, passed_on=self._passed_on)
        for name in list(os.environ):
            if name not in ("PATH", "HOME", "TMPDIR"):
                del os.environ[name]
        os.environ.update(place.environment)
        time.tzset()
        layout.work_dir.mkdir(parents=True, exist_ok=True)
        os.chdir(layout.work_dir)
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)

    def _load_drivers(self) -> None:
        sys.path.append(f"{self._work_dir}/{folders.CODE_FOLDER}")
        for name, place in self._drivers.items():
            module, _, attribute = place.partition(":")
            try:
                found: Any = import_module(module)
                for part in attribute.split("."):
                    found = getattr(found, part)
            except (Exception, SystemExit) as exc:  # a module may also leave
                message = f"driver '{name}' ({place}) cannot be loaded where the run is: {type(exc).__name__}: {exc}"
                hint = "packages that it needs must be installed there, its own modules named in `code`"
                raise ExecutionError(f"{message} ({hint})", failure_class=FailureClass.USER_ERROR) from exc
            if ":" not in name:
                DriverRegistry.register(name, found)


def _as_bug(error: Exception) -> ExecutionError:
    message = f"the engine could not be set up: {type(error).__name__}: {error}"
    made = ExecutionError(message, failure_class=FailureClass.ADAPTER_BUG)
    made.__cause__ = error
    return made
