"""Many runs as one job array: each makes its folder, and the last one that is ready hands all of them in."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.slurm_cluster.options import batch_options, output_path
from adapters.slurm_cluster.place import ARRAY_FILE, SCRIPT_FILE, write_owner
from adapters.slurm_cluster.sandbox import ADOPT_LIMIT_S, SlurmSandbox
from adapters.slurm_cluster.script import job_script
from adapters.slurm_cluster.submit import find_again, submit
from osiris_core.errors import FailureClass
from osiris_core.session import read_json
from remote import folders
from remote.file_transport import FileTransport
from remote.order_file import new_key
from remote.pipe_transport import FolderFiles
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.slurm_cluster.config import SlurmConfig
    from adapters.slurm_cluster.submit import SubmitRate
    from remote.sandbox import Transport

ARRAYS_FOLDER = "arrays"
WAIT_S = 0.2


class JobArray:
    """
    One array on its way to Slurm. Thread-safe; used by one thread for each of its runs.

    Args:
        expected: How many runs there will be; each either joins or leaves.
        token: Marks the array's job.
    """

    def __init__(self, config: SlurmConfig, rate: SubmitRate, expected: int, token: str) -> None:
        assert config.shared_dir is not None
        self.key = new_key()
        self.token = token
        self.folder = Path(config.shared_dir).expanduser().absolute() / ARRAYS_FOLDER / f"osiris-{token}"
        self._config, self._rate = config, rate
        self._changed = threading.Condition()
        self._expected = self._alive = expected
        self._places: list[Path] = []
        self._job_id: str | None = None
        self._error: Exception | None = None

    def join(self, place: Path, argv: Sequence[str], sandbox: ArraySandbox) -> str:
        """
        The id of this run's element, once all others have joined or left and Slurm has them.

        Raises:
            SandboxError: Slurm did not take the array, or this run was stopped meanwhile.
        """
        with self._changed:
            index = len(self._places)
            self._places.append(place)
            (place / ARRAY_FILE).write_text(json.dumps({"token": self.token, "index": index}), encoding="utf-8")
            self._hand_in_when_complete(argv)
            while self._job_id is None and self._error is None:
                if sandbox.is_stopped:
                    raise SandboxError("the run was stopped", failure_class=FailureClass.CANCELLED)
                self._changed.wait(WAIT_S)
                self._hand_in_when_complete(argv)
            if self._error is not None:
                raise self._error
        return f"{self._job_id}_{index}"

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

    def _hand_in_when_complete(self, argv: Sequence[str]) -> None:
        if self._job_id is not None or self._error is not None or len(self._places) < self._expected:
            return
        try:
            self._job_id = self._hand_in(argv)
        except Exception as exc:  # noqa: BLE001 - every run of the array has this error
            self._error = exc
        self._changed.notify_all()

    def _hand_in(self, argv: Sequence[str]) -> str:
        self.folder.mkdir(parents=True, mode=0o700)
        write_owner(self.folder, self.token, "array")
        for index, place in enumerate(self._places):
            (self.folder / str(index)).symlink_to(place)
        script = self.folder / SCRIPT_FILE
        script.write_text(job_script(self._config, argv), encoding="utf-8")
        self._rate.wait()
        options = batch_options(self._config, "array", self.token, str(self.folder))
        array = f"--array=0-{len(self._places) - 1}"
        return submit(["sbatch", *options, array, str(script), str(self.folder)], self.token, self.key)


class ArraySandbox(SlurmSandbox):
    """See `SlurmSandbox`; `array` is what its run is an element of, None for one that is taken over."""

    def __init__(self, array: JobArray | None, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self._array = array
        self._joined = False
        if array is not None:
            self._key = array.key

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def submit(self, argv: Sequence[str]) -> str:
        assert self._array is not None
        self._joined = self._submitted = True
        self._job_id = self._array.join(self.place.root, argv, self)
        self._board.watch(self._job_id)
        return self._job_id

    def adopt(self, native_id: str | None) -> bool:
        known = read_json(self.place.root / ARRAY_FILE)
        if native_id is None and known is not None:
            array_id = find_again(str(known["token"]), ADOPT_LIMIT_S)
            native_id = f"{array_id}_{known['index']}" if array_id is not None else None
        return super().adopt(native_id) if native_id is not None else False

    def reconnect(self) -> Transport:
        place = self.place.current(self.restarts)
        own = self.place.root / folders.STDERR_FILE
        stderr = output_path(self._config, self._id) or str(own)
        return FileTransport(FolderFiles(place), self.is_alive, stderr)

    def stop(self, *, keep: bool = False) -> str:
        try:
            return super().stop(keep=keep)
        finally:
            if self._array is not None:
                if not self._joined:
                    self._array.leave()
                self._array.is_left()
                self._array = None
