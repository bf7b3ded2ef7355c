"""
A remote pipeline: generate, submit, wait, download, postprocess.

A job is submitted exactly once, whatever happens to this process: a token is on the disk before the job is asked for,
and who comes back with the same wish asks the service for the job with that token before asking for another. Until the
job's files are at home and processed, that is the job; a wish that is another one ends it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import secrets
import tarfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from osiris_core.backends import record_outcome
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
        The whole of it. May be called again after a crash, or when its last stage failed: the job that there is is
        waited for, and none is added.

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
                job = _job_of_before(submission, service, _digest(model_run, service, command))
                workspace = Path(submission["workspace"] if job is not None else model_run.generate())
                result["stages_completed"].append(stage)

                stage = "submit"
                if job is None:
                    job = _submit(service, command, workspace, submission)
                result["job_id"] = job
                result["stages_completed"].append(stage)

                stage = "execute"
                code = self._wait(service, job, timeout_s)
                if code is not None:
                    self._download(service, job, workspace)
                # What it came to is known from here on, whatever earlier runs of the model came to.
                record_outcome(model_run, code == 0, f"job {job} {'took too long' if code is None else 'failed'}")
                if code != 0:
                    submission.forget()  # the next call is another try
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
                submission.forget()  # all of it is over: a later run of the model is another one
                result["stages_completed"].append(stage)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong is a result, as every pipeline's
            return {**result, "stage": stage, "error": str(exc), "message": f"{stage} failed: {exc}"}
        return {**result, "success": True, "message": "Pipeline completed successfully"}

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


def _digest(model_run: Any, service: str, command: str) -> str:
    """What tells one wish from another."""
    wish = model_run.model_dump_json() if hasattr(model_run, "model_dump_json") else repr(vars(model_run))
    return hashlib.sha256("\0".join((service, command, wish)).encode()).hexdigest()


def _job_of_before(submission: Submission, service: str, asked: str) -> int | None:
    """
    The job of an earlier process with the same wish; None where there is none.

    From then on the submission is of this wish. A job of another one is ended, if its service can still be asked.
    """
    if submission.get("asked") == asked and "token" in submission:
        known = _jobs(submission)
        if known:
            return known[0]
    elif "token" in submission:
        with suppress(OSError):
            for job in _jobs(submission):
                _ask("DELETE", f"{submission['service']}/jobs/{job}")
    submission.forget()
    submission.update(asked=asked, service=service)
    return None


def _jobs(submission: Submission) -> list[int]:
    """The numbers of the jobs with the token of this submission."""
    query = urlencode({"token": submission["token"]})
    return [int(job["id"]) for job in _ask("GET", f"{submission['service']}/jobs?{query}")]


def _submit(service: str, command: str, workspace: Path, submission: Submission) -> int:
    """The number of a new job with the model's folder as it is."""
    token = secrets.token_hex(16)
    submission.update(token=token, workspace=str(workspace))  # on the disk before the job can exist
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(workspace, ".")
    query = urlencode({"token": token, "command": command})
    return int(_ask("POST", f"{service}/jobs?{query}", packed.getvalue())["id"])


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
        """There is no job any more that anybody waits for."""
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
