"""
A remote pipeline: generate, submit, wait, download, postprocess.

A job is submitted exactly once, whatever happens to this process: a token is on the disk before the job is asked for,
and who comes back asks the service for the job with that token before asking for another.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import secrets
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from osiris_core.models.postprocess import postprocess

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_INTERVALS_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class CloudPipelineBackend:
    """Runs the model at a job service, and brings its files home."""

    def execute(
        self,
        model_run: Any,
        *,
        service: str,
        command: str,
        processor: Any = "noop",
        process_kwargs: dict[str, Any] | None = None,
        timeout_s: float = 3600,
    ) -> dict[str, Any]:
        """
        The whole of it. May be called again after a crash: the job that runs is waited for, and none is added.

        Args:
            service: The address of the job service.
            command: What runs there, in the model's folder.
            processor: The postprocessor for what came home, by name or configuration.
            process_kwargs: Its settings, when it is given by name.
            timeout_s: How long the job may take; it is ended then.
        """
        result: dict[str, Any] = {"success": False, "run_id": model_run.run_id, "stages_completed": []}
        stage = "generate"
        try:
            with _submission(model_run) as submission:
                workspace = Path(submission.get("workspace") or model_run.generate())
                result["stages_completed"].append(stage)

                stage = "submit"
                submission.update(workspace=str(workspace))
                job = self._submit(service, command, workspace, submission)
                result["job_id"] = job
                result["stages_completed"].append(stage)

                stage = "execute"
                code = self._wait(service, job, timeout_s)
                if code is not None:
                    self._download(service, job, workspace)
                submission.forget()
                if code is None:
                    raise TimeoutError(f"job {job} took longer than {timeout_s:g} s; it was ended")
                if code != 0:
                    raise RuntimeError(f"job {job} ended with {code}; its output is in {workspace / 'job.log'}")
                result["stages_completed"].append(stage)

            stage = "postprocess"
            done = postprocess(model_run, processor, **(process_kwargs or {}))
            result["postprocess_results"] = done
            if not done["success"]:
                raise RuntimeError(done.get("error") or done["message"])
            result["stages_completed"].append(stage)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong is a result, as every pipeline's
            return {**result, "stage": stage, "error": str(exc), "message": f"{stage} failed: {exc}"}
        return {**result, "success": True, "message": "Pipeline completed successfully"}

    def _submit(self, service: str, command: str, workspace: Path, submission: Submission) -> int:
        """The number of the job; of the one that is there already, if an earlier process got as far."""
        if "token" in submission:
            known = _ask("GET", f"{service}/jobs?{urlencode({'token': submission['token']})}")
            if known:
                return int(known[0]["id"])
        else:
            submission.update(token=secrets.token_hex(16))  # on the disk before the job can exist
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(workspace, ".")
        query = urlencode({"token": submission["token"], "command": command})
        return int(_ask("POST", f"{service}/jobs?{query}", packed.getvalue())["id"])

    def _wait(self, service: str, job: int, timeout_s: float) -> int | None:
        """The exit code of the job; None when it took too long, and was ended."""
        deadline_s = time.monotonic() + timeout_s
        attempt = 0
        while (state := _ask("GET", f"{service}/jobs/{job}"))["state"] != "done":
            if time.monotonic() > deadline_s:
                _ask("DELETE", f"{service}/jobs/{job}")
                return None
            time.sleep(POLL_INTERVALS_S[min(attempt, len(POLL_INTERVALS_S) - 1)])
            attempt += 1
        return int(state["return_code"])

    def _download(self, service: str, job: int, workspace: Path) -> None:
        with urlopen(f"{service}/jobs/{job}/outputs", timeout=60) as answer:
            packed = io.BytesIO(answer.read())
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(workspace, filter="data")


class Submission(dict[str, str]):
    """What is known of a submission, on the disk whenever it changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(json.loads(path.read_text()) if path.exists() and path.stat().st_size else {})
        self._path = path

    def update(self, **known: str) -> None:  # type: ignore[override]
        super().update(known)
        partial = self._path.with_suffix(".partial")
        with partial.open("w") as file:
            json.dump(self, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)

    def forget(self) -> None:
        """The job is over and at home: a later run of the model is another one."""
        self.clear()
        self._path.unlink(missing_ok=True)


@contextmanager
def _submission(model_run: Any) -> Iterator[Submission]:
    """The submission of this model run, which no other process has meanwhile."""
    folder = Path(model_run.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{model_run.run_id}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Submission(folder / f".{model_run.run_id}.submission.json")


def _ask(method: str, url: str, body: bytes | None = None) -> Any:
    with urlopen(Request(url, data=body, method=method), timeout=60) as answer:
        return json.loads(answer.read())
