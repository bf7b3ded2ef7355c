"""The settings of the Slurm adapter, each checked as far as that can be done without a cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from adapters.slurm_cluster.more_options import option_word
from osiris_core.command_settings import CommandSettings
from osiris_core.errors import PreparationError, Problem
from remote.config import RemoteConfig
from remote.requirements import Requirements  # noqa: TC001 - pydantic needs it at run time

PILOT_START_S = 60.0
"""How long a pilot may take from the start of its job to its first run."""
_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,4}):(\d{2}):(\d{2})")
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


def duration_s(text: str) -> int:
    """
    Seconds of a duration such as `1:00:00` or `2-12:00:00`.

    Raises:
        ValueError: It is none: minutes and seconds go up to 59, hours behind days up to 23.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("Time limit must be in format HH:MM:SS (or D-HH:MM:SS)")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if minutes > 59 or seconds > 59 or (match[1] is not None and hours > 23):
        raise ValueError(f"Time limit must be in format HH:MM:SS: {text} has a part that is too large")
    total_s = days * _DAY_S + hours * _HOUR_S + minutes * _MINUTE_S + seconds
    if total_s == 0:
        raise ValueError("Time limit must be more than nothing")
    return total_s


def _one_line(text: str) -> str:
    if not text.strip() or any(ord(char) < 32 for char in text):
        raise ValueError("it must be one line, and not empty")
    return text


def _duration(text: str) -> str:
    duration_s(text)
    return text


def _no_option(text: str) -> str:
    if text.startswith("-"):
        raise ValueError(f"{text!r} is no module: `module load` would take it for an option")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class SlurmConfig(CommandSettings, RemoteConfig):
    """
    Settings of the Slurm adapter.

    Without `shared_dir` everything must lie where the nodes see it: the run's folder is made in the session directory,
    and a model runs in its workspace itself.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "slurm",
                    "shared_dir": "/scratch/me/osiris",
                    "partition": "main",
                    "time_limit": "0:30:00",
                    "mem": "4G",
                },
                {"type": "slurm", "command": "srun ./model", "queue": "main", "nodes": 2, "ntasks": 64},
            ]
        }
    )

    type: Literal["slurm"] = Field(default="slurm", description="Selects this adapter.")
    mode: Literal["job", "array", "pilot", "interactive"] = Field(
        default="job",
        description="job: one batch job a run. array: `run_many` makes one job array of its runs. pilot: jobs that "
        "hold workers, which take run after run. interactive: srun, over pipes; ends with this process.",
    )
    shared_dir: str | None = Field(
        default=None,
        description="A folder that this machine and every node see under the same path. Each run gets a folder in it "
        "while it lasts, and what belongs to it is sent there. Without it, in mode job, the session directory, which "
        "must then be such a folder. Modes array and pilot need it; interactive does without.",
        examples=["/scratch/me/osiris"],
    )
    python: Line | None = Field(
        default=None,
        description="The interpreter on the nodes. Default: that of the environment that `osiris adapters setup "
        "slurm` made in shared_dir, else the one that runs this.",
    )
    packages: Requirements = Field(
        default=(),
        description="What `osiris adapters setup slurm` installs beside what every worker needs: names with versions.",
        examples=[["scipy>=1.14"]],
    )
    modules: tuple[Annotated[Line, AfterValidator(_no_option)], ...] = Field(
        default=(),
        description="Environment modules that are loaded before the worker starts.",
        examples=[["python/3.11"]],
    )
    setup: tuple[str, ...] = Field(
        default=(),
        description="Lines of bash that are run before the worker starts; the first that fails ends the job.",
        examples=[["source /opt/site/env.sh"]],
    )

    partition: Line | None = Field(default=None, description="Where the job goes. Default: what Slurm has as default.")
    queue: Line | None = Field(
        default=None,
        description="The partition under its other name. With `partition` too, a label that the report shows.",
    )
    nodes: int = Field(default=1, ge=1, le=100, description="How many nodes a job has; in mode pilot, how many pilots.")
    ntasks: int | None = Field(
        default=None,
        ge=1,
        description="How many tasks `srun` starts within a step's command; at least one a node. Default: one a node.",
    )
    cpus_per_task: int = Field(default=1, ge=1, le=128, description="Processors per task.")
    mem: str | None = Field(
        default=None, pattern=r"^\d+[KMGT]?$", description="Memory per node, as Slurm writes it.", examples=["16G"]
    )
    time_limit: Annotated[str, AfterValidator(_duration)] = Field(
        default="1:00:00",
        description="How long the job may run, HH:MM:SS or D-HH:MM:SS.",
        examples=["0:30:00", "2-00:00:00"],
    )
    account: Line | None = Field(default=None, description="Who is charged.")
    qos: Line | None = Field(default=None, description="Quality of service.")
    reservation: Line | None = Field(default=None, description="A reservation to run in.")
    gres: Line | None = Field(default=None, description="Generic resources.", examples=["gpu:1"])
    constraint: Line | None = Field(default=None, description="Features that a node must have.", examples=["skylake"])
    exclusive: bool = Field(default=False, description="Whole nodes, shared with no other job.")
    requeue: bool = Field(
        default=True,
        description="Let Slurm start the job again after a lost node or a preemption; the run then resumes.",
    )
    job_name: Line | None = Field(default=None, description="Default: osiris- and the pipeline's name.")
    output_file: Line | None = Field(
        default=None,
        description="Where the job's own output goes. Default: into the run's folder, and so away with it.",
    )
    error_file: Line | None = Field(default=None, description="Where its standard error goes. Default: as output_file.")
    mail_type: Line | None = Field(default=None, description="When Slurm writes a mail.", examples=["END,FAIL"])
    mail_user: Line | None = Field(default=None, description="To whom; goes with mail_type.")
    additional_options: tuple[Line, ...] = Field(
        default=(),
        description="More options of sbatch, in the order given; those that this adapter sets itself are refused.",
        examples=[["--nice=100", "--licenses=matlab:1"]],
    )
    queue_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="How long a job may wait for its turn; the run's own limit counts from then on. Default: for ever.",
    )
    unattended_timeout_s: float = Field(
        default=30 * 86_400.0,
        gt=0,
        description="How long a worker goes on when nobody is connected to it. The time limit ends it in any case.",
    )
    poll_min_s: float = Field(default=0.2, ge=0.05, description="The shortest time between two questions to Slurm.")
    poll_max_s: float = Field(default=30.0, ge=0.05, description="The longest; it is reached while nothing changes.")
    forgotten_s: float = Field(
        default=60.0,
        ge=0,
        description="How long Slurm must not know a job, and its worker be silent, before the job counts as lost.",
    )
    array_size: int = Field(
        default=200, ge=1, le=200, description="How many runs are one job array, at most; a site may allow fewer."
    )
    max_submit_rate: float = Field(default=10.0, gt=0, description="How many jobs are submitted in a second, at most.")
    workers_per_node: int = Field(default=1, ge=1, le=128, description="How many runs a pilot takes at a time.")
    pilot_idle_s: float = Field(default=300.0, gt=0, description="How long a pilot waits for a run before it ends.")
    drain_s: float = Field(
        default=120.0, ge=0, description="How long before its time limit a pilot takes no further run."
    )

    @field_validator("additional_options")
    @classmethod
    def _options_are_not_ours(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            option_word(option)
        return options

    @model_validator(mode="after")
    def _fits_together(self) -> SlurmConfig:
        if (self.mail_type is None) != (self.mail_user is None):
            raise ValueError("mail_type and mail_user go together")
        if self.poll_max_s < self.poll_min_s:
            raise ValueError("poll_max_s must not be less than poll_min_s")
        if self.mode != "pilot" and self.ntasks is not None and self.ntasks < self.nodes:
            raise ValueError(f"{self.ntasks} tasks cannot use {self.nodes} nodes: ntasks must be at least nodes")
        if self.mode == "interactive" and (self.nodes > 1 or self.ntasks not in (None, 1)):
            raise ValueError("mode interactive has one task on one node: nodes and ntasks are for the other modes")
        if self.mode == "pilot" and self.pilot_takes_s <= 0:
            message = "a pilot would drain from its start: drain_s must be less than time_limit, by more than"
            raise ValueError(f"{message} {PILOT_START_S:g} s")
        return self

    @property
    def runs_in_workspace(self) -> bool:
        return self.mode == "job" and self.shared_dir is None

    def command_step(self, model_command: str | None) -> dict[str, Any]:
        """The `argv` or `shell` of the step that runs a model."""
        step = super().command_step(model_command)
        if step is None:
            message = "a job needs a command: the model has none of its own"
            raise PreparationError([Problem(message, key="slurm.command", hint="give a command")])
        return step

    @property
    def time_limit_s(self) -> int:
        return duration_s(self.time_limit)

    @property
    def pilot_takes_s(self) -> float:
        """How long a run may take that a new pilot takes for certain."""
        return self.time_limit_s - PILOT_START_S - self.drain_s

    @property
    def goes_to(self) -> str | None:
        """The partition that is asked for."""
        return self.partition or self.queue

    @property
    def label(self) -> str | None:
        """`queue`, where it does not name the partition."""
        return self.queue if self.partition is not None else None
