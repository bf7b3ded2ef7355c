"""What is handed to Slurm for a run, for people to read beforehand: made by the very code that hands it in."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from adapters.slurm_cluster.interactive import HOLD, hold_command
from adapters.slurm_cluster.options import FOLDER_PLACE, TOKEN_PLACE, batch_options
from adapters.slurm_cluster.place import SCRIPT_FILE, pilot_file
from adapters.slurm_cluster.script import job_script, pilot_script
from remote.bundle import worker_argv

if TYPE_CHECKING:
    from adapters.slurm_cluster.config import SlurmConfig


def submission(config: SlurmConfig, python: str, name: str) -> tuple[str, list[str]]:
    """The script as it is, and the command with `<token>` and `<the run's folder>` for what each run has anew."""
    if config.mode == "interactive":
        return HOLD, hold_command(config, name, TOKEN_PLACE)
    if config.mode == "pilot":
        options = batch_options(config, "pilot", f"{TOKEN_PLACE}-1", FOLDER_PLACE)
        return pilot_script(config, python), ["sbatch", *options, str(Path(FOLDER_PLACE, pilot_file(1))), FOLDER_PLACE]
    options = batch_options(config, "array" if config.mode == "array" else name, TOKEN_PLACE, FOLDER_PLACE)
    if config.mode == "array":
        options.append("--array=0-<the number of runs less one>")
    command = ["sbatch", *options, str(Path(FOLDER_PLACE, SCRIPT_FILE)), FOLDER_PLACE]
    return job_script(config, worker_argv(python, PurePosixPath(FOLDER_PLACE))), command
