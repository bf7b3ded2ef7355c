"""Many runs as one job array: each makes its folder, and the last one that is ready hands all of them in."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.errors import ControllerSilent
from adapters.slurm_cluster.options import batch_options
from adapters.slurm_cluster.place import ARRAY_FILE, SCRIPT_FILE, write_owner
from adapters.slurm_cluster.sandbox import ADOPT_LIMIT_S, SlurmSandbox
from adapters.slurm_cluster.script import job_script
from adapters.slurm_cluster.submit import find_again, our_jobs, submit
from osiris_core.errors import FailureClass
from osiris_core.session import read_json
from remote.order_file import new_key
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.submit import SubmitRate, Submitted

ARRAYS_FOLDER = "arrays"
WAIT_S = 0.2


class JobArray:
    """
    One array on its way to Slurm. Thread-safe; used by one thread for each of its runs.

    Args:
        session_dirs: Those of its runs, which are its elements in this order; each either joins or leaves.
        token: Marks the array's job.
    """

    def __init__(self, config: SlurmConfig, rate: SubmitRate, session_dirs: Sequence[str], token: str) -> None:
        assert config.shared_dir is not None
        self.key = new_key()
        self.token = token
        self.folder = Path(config.shared_dir).expanduser().absolute() / ARRAYS_FOLDER / f"osiris-{token}"
        self._config, self._rate = config, rate
        self._changed = threading.Condition()
        self._session_dirs = list(session_dirs)
        self._expected = self._alive = len(session_dirs)
        self._places: dict[str, Path] = {}
        self._submitted: Submitted | None = None
        self._error: Exception | None = None

    def join(
        self,
        session_dir: str,
        place: Path,
        argv: Sequence[str],
        is_stopped: Callable[[], bool],
        warn: Callable[[str], None],
    ) -> tuple[Submitted, int]:
        """
        The array, once all others have joined or left and Slurm has it, and which element of it this run is.

        Raises:
            SandboxError: Slurm did not take the array, or this run was stopped meanwhile.
        """
        with self._changed:
            self._places[session_dir] = place
            self._hand_in_when_complete(argv, warn)
            while self._submitted is None and self._error is None:
                if is_stopped():
                    raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
                self._changed.wait(WAIT_S)
                self._hand_in_when_complete(argv, warn)
            if self._error is not None:
                raise self._error
            assert self._submitted is not None
            return self._submitted, self._elements.index(session_dir)

    def leave(self) -> None:
        """A run will not join."""
        with self._changed:
            self._expected -= 1
            self._changed.notify_all()

    def is_left(self) -> None:
        """A run that joined is over; the last one takes the array's folder away."""
        with self._changed:
            self._alive -= 1
            if self._alive <= 0:
                shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _elements(self) -> list[str]:
        return [session_dir for session_dir in self._session_dirs if session_dir in self._places]

    def _hand_in_when_complete(self, argv: Sequence[str], warn: Callable[[str], None]) -> None:
        if self._submitted is not None or self._error is not None or len(self._places) < self._expected:
            return
        try:
            self._submitted = self._hand_in(argv, warn)
        except Exception as exc:  # noqa: BLE001 - every run of the array has this error
            self._error = exc
        self._changed.notify_all()

    def _hand_in(self, argv: Sequence[str], warn: Callable[[str], None]) -> Submitted:
        self.folder.mkdir(parents=True, mode=0o700)
        write_owner(self.folder, self.token, "array")
        for index, session_dir in enumerate(self._elements):
            place = self._places[session_dir]
            (place / ARRAY_FILE).write_text(json.dumps({"token": self.token, "index": index}), encoding="utf-8")
            (self.folder / str(index)).symlink_to(place)
        script = self.folder / SCRIPT_FILE
        script.write_text(job_script(self._config, argv), encoding="utf-8")
        self._rate.wait()
        options = batch_options(self._config, "array", self.token, str(self.folder))
        array = f"--array=0-{len(self._places) - 1}"
        return submit(["sbatch", *options, array, str(script), str(self.folder)], self.token, self.key, warn)


class ArraySandbox(SlurmSandbox):
    """See `SlurmSandbox`; `array` is what its run is an element of, None for one that is taken over."""

    def __init__(self, array: JobArray | None, *args: object, session_dir: str, **more: object) -> None:
        super().__init__(*args, session_dir=session_dir, **more)  # type: ignore[arg-type]
        self._array, self._session_dir = array, session_dir
        self._joined = False
        if array is not None:
            self._key = array.key

    def submit(self, argv: Sequence[str]) -> str:
        assert self._array is not None
        self._joined = self._submitted = True
        try:
            array, index = self._array.join(self._session_dir, self.place.root, argv, lambda: self._stopped, self._warn)
        except SandboxError as exc:
            self._submitted = isinstance(exc, ControllerSilent)
            raise
        self._job_id, self._is_only_job = f"{array.job_id}_{index}", array.is_only_one
        self._board.watch(self._job_id)
        return self._job_id

    def _find_job(self) -> str | None:
        known = read_json(self.place.root / ARRAY_FILE)
        array_id = find_again(str(known["token"]), ADOPT_LIMIT_S) if known is not None else None
        return f"{array_id}_{known['index']}" if known is not None and array_id is not None else None

    def _others(self) -> list[str]:
        known = read_json(self.place.root / ARRAY_FILE)
        if known is None:
            return []
        found = [f"{job.job_id}_{known['index']}" for job in our_jobs(active=True) if job.token == known["token"]]
        return [job_id for job_id in found if job_id != self._job_id]

    def stop(self, *, keep: bool = False) -> str:
        try:
            return super().stop(keep=keep)
        finally:
            if self._array is not None:
                if not self._joined:
                    self._array.leave()
                self._array.is_left()
                self._array = None
