"""What can be wrong with a configuration, what Slurm is asked for, and what its answers mean: no cluster is needed."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import ValidationError

from adapters.slurm_cluster.board import Board
from adapters.slurm_cluster.config import SlurmConfig, duration_s
from adapters.slurm_cluster.errors import REFUSALS, ControllerSilent, ToolMissing, refusal
from adapters.slurm_cluster.options import batch_options, resource_options
from adapters.slurm_cluster.script import job_script, pilot_script
from adapters.slurm_cluster.states import JobState, Stage
from adapters.slurm_cluster.submit import SubmitRate
from adapters.slurm_cluster.tools import Answer, run_tool
from osiris_core import AdapterFactory
from osiris_core.errors import FailureClass
from remote.bundle import worker_argv
from remote.config import RemoteConfig
from remote.order_file import OrderError, new_key, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:00:00", 3600), ("0:00:01", 1), ("100:00:00", 360_000), ("2-12:30:00", 217_800), ("9999:59:59", 35_999_999)],
)
def test_durations(text: str, seconds: int) -> None:
    """As Slurm writes them."""
    assert duration_s(text) == seconds
    assert SlurmConfig(time_limit=text).time_limit_s == seconds


@pytest.mark.parametrize(
    "text", ["0:99:99", "1:60:00", "1:00:60", "0:00:00", "1:00", "60", "-1:00:00", "1-24:00:00", "", "1:00:00\n"]
)
def test_what_is_no_duration(text: str) -> None:
    """It is refused, and the format named."""
    with pytest.raises(ValidationError, match=r"Time limit must be"):
        SlurmConfig(time_limit=text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"nodes": 101}, "less than or equal to 100"),
        ({"cpus_per_task": 129}, "less than or equal to 128"),
        ({"ntasks": 0}, "greater than or equal to 1"),
        ({"command": ""}, "the command is empty"),
        ({"mem": "4 GB"}, "pattern"),
        ({"job_name": "a\nb"}, "one line"),
        ({"partition": " "}, "not empty"),
        ({"mail_type": "END"}, "go together"),
        ({"poll_min_s": 5, "poll_max_s": 1}, "poll_max_s"),
        ({"additional_options": ["--wait"]}, "--wait is set by this adapter"),
        ({"additional_options": ["-o /x"]}, "-o is set by this adapter"),
        ({"additional_options": ["--export=ALL"]}, "--export is set by this adapter"),
        ({"additional_options": ["script.sh"]}, "taken for the script"),
        ({"additional_options": ["--nice=1 script.sh"]}, "more than one option"),
        ({"additional_options": ["--nice=1 --array=0-9"]}, "more than one option"),
        ({"additional_options": ["--nice --array=0-9"]}, "more than one option"),
        ({"additional_options": ["--arr=0-9"]}, "--arr is set by this adapter"),
        ({"additional_options": ["--wra=x"]}, "--wra is set by this adapter"),
        ({"additional_options": ["--exp=NONE"]}, "--exp is set by this adapter"),
        ({"additional_options": ["-M other"]}, "-M is set by this adapter"),
        ({"additional_options": ["--clusters=other"]}, "--clusters is set by this adapter"),
        ({"additional_options": ["-kH"]}, "-kH is set by this adapter"),
        ({"additional_options": ["--"]}, "taken for the script"),
        ({"modules": ["--force"]}, "for an option"),
        ({"nodes": 2, "ntasks": 1}, "ntasks must be at least nodes"),
        ({"mode": "interactive", "nodes": 2}, "one task on one node"),
        ({"mode": "interactive", "ntasks": 2}, "one task on one node"),
        ({"array_size": 201}, "less than or equal to 200"),
        ({"mode": "pilot", "time_limit": "0:01:00"}, "drain from its start"),
        ({"mode": "pilot", "time_limit": "0:02:50"}, "by more than 60 s"),
        ({"mode": "batch"}, "'job', 'array', 'pilot' or 'interactive'"),
        ({"surplus": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit(settings: dict[str, Any], words: str) -> None:
    """Each rule, with its reason."""
    with pytest.raises(ValidationError, match=words):
        SlurmConfig(**settings)


def test_every_setting_arrives() -> None:
    """Each field that asks Slurm for something becomes the option of that name."""
    config = SlurmConfig(
        partition="main",
        queue="label",
        nodes=3,
        ntasks=4,
        cpus_per_task=5,
        mem="6G",
        time_limit="7:00:00",
        account="acc",
        qos="high",
        reservation="res",
        gres="gpu:1",
        constraint="a&b",
        exclusive=True,
        requeue=False,
        job_name="my job",
        output_file="/logs/%j.out",
        error_file="/logs/%j.err",
        mail_type="END",
        mail_user="me@x",
        additional_options=["--nice=1", "--licenses 'a b'", "-L c"],
    )
    options = batch_options(config, "pipeline", "token", "/shared/100%")
    wanted = (
        "--partition=main --nodes=3 --ntasks=4 --cpus-per-task=5 --mem=6G --time=7:00:00 --account=acc --qos=high "
        "--reservation=res --gres=gpu:1 --constraint=a&b --exclusive --no-requeue --output=/logs/%j.out "
        "--error=/logs/%j.err --mail-type=END --mail-user=me@x --nice=1 -Lc --comment=osiris:token"
    )
    assert set(wanted.split(" ")) <= set(options)
    assert {"--job-name=my job", "--licenses=a b"} <= set(options)
    assert not any(option.startswith("--ntasks") for option in resource_options(SlurmConfig(nodes=2)))
    assert config.label == "label"
    assert "--output=/shared/100%%/job.out" in batch_options(SlurmConfig(), "p", "t", "/shared/100%")


def test_a_queue_is_a_partition() -> None:
    """Unless a partition is named too."""
    assert "--partition=blue" in resource_options(SlurmConfig(queue="blue"))
    assert SlurmConfig(queue="blue").label is None
    assert not any(option.startswith("--partition") for option in resource_options(SlurmConfig()))


ODD = 'a b\'; $(touch pwned) "`x`" \\ #\n%j'


@pytest.mark.parametrize("script", ["job", "pilot"])
def test_a_script_is_bash_whatever_is_in_it(tmp_path: Path, script: str) -> None:
    """Names of modules and interpreters are quoted; nothing of them is run."""
    config = SlurmConfig(modules=["m'; touch pwned; '", "$(touch pwned)"], python="/p; touch pwned; $(touch pwned)'")
    python = str(config.python)
    text = (
        pilot_script(config, python)
        if script == "pilot"
        else job_script(config, worker_argv(python, PurePosixPath("/x")))
    )
    path = tmp_path / "job.sh"
    path.write_text(text.replace("trap 'fail", "module() { printf '%s\\n' \"$@\" >&2; }\ntrap 'fail"))
    folder = tmp_path / ODD
    (folder / "worker").mkdir(parents=True)
    environment = {"PATH": "/usr/bin:/bin", "SLURMD_NODENAME": "n7", "SLURM_JOB_ID": "5", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", str(path), str(folder)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    said = (folder / "5.out").read_text() if script == "pilot" else done.stderr
    assert done.returncode == 98, said
    assert f"osiris: node n7: there is no interpreter {python}" in said
    assert "m'; touch pwned; '" in said.splitlines()
    assert "$(touch pwned)" in said.splitlines()
    assert list(tmp_path.rglob("pwned")) == []


# What Slurm's answers mean.

STATES = [
    ("PENDING", Stage.QUEUED, None),
    ("CONFIGURING", Stage.QUEUED, None),
    ("REQUEUED", Stage.QUEUED, None),
    ("REQUEUE_HOLD", Stage.QUEUED, None),
    ("SPECIAL_EXIT", Stage.QUEUED, None),
    ("RUNNING", Stage.RUNNING, None),
    ("SUSPENDED", Stage.RUNNING, None),
    ("STOPPED", Stage.RUNNING, None),
    ("COMPLETING", Stage.ENDING, None),
    ("COMPLETED", Stage.ENDED, None),
    ("FAILED", Stage.ENDED, "infra_lost"),
    ("CANCELLED", Stage.ENDED, "cancelled"),
    ("TIMEOUT", Stage.ENDED, "timeout"),
    ("DEADLINE", Stage.ENDED, "timeout"),
    ("OUT_OF_MEMORY", Stage.ENDED, "out_of_memory"),
    ("NODE_FAIL", Stage.ENDED, "infra_lost"),
    ("BOOT_FAIL", Stage.ENDED, "infra_lost"),
    ("PREEMPTED", Stage.ENDED, "preempted"),
    ("REVOKED", Stage.ENDED, "infra_lost"),
    ("FORGOTTEN", Stage.ENDED, "infra_lost"),
    ("SOMETHING_NEW", Stage.RUNNING, None),
]


@pytest.mark.parametrize(("state", "stage", "failure_class"), STATES)
def test_every_state(state: str, stage: Stage, failure_class: str | None) -> None:
    """Its stage, whose fault it was, and Slurm's own reason in the message; one that is not known is no end."""
    found = JobState(state, "TheReason", exit_code=7, nodes="n3")
    assert found.stage is stage
    assert found.failure_class == failure_class
    if failure_class is not None:
        assert " on n3" in found.told("12")
        if state == "FORGOTTEN":  # Slurm has said nothing of it
            assert found.told("12").startswith("job 12 is lost on n3: Slurm does not know it any more")
        else:
            assert "TheReason" in found.told("12")
            assert f"job 12 ended {state}" in found.told("12")


@pytest.mark.parametrize(
    "reason",
    ["PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "QOSMaxWallDurationPerJobLimit", "InvalidAccount",
     "AssocMaxCpuPerJobLimit", "DependencyNeverSatisfied", "launch failed requeued held", "QOSMaxNodePerJobLimit",
     "JobHoldMaxRequeue", "QOSMinCpuNotSatisfied", "QOSMinMemory"],
)  # fmt: skip
def test_reasons_to_give_up(reason: str) -> None:
    """Where waiting does not help."""
    assert JobState("PENDING", reason).never == reason
    assert JobState("RUNNING", reason).never is None


@pytest.mark.parametrize(
    "reason",
    ["Resources", "Priority", "BeginTime", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "None", "JobHeldUser",
     "JobHeldAdmin"],
)  # fmt: skip
def test_reasons_to_wait(reason: str) -> None:
    """Where a turn may come; of a job that somebody has to let go that is said."""
    assert JobState("PENDING", reason).never is None
    assert JobState("PENDING", reason).is_held == reason.startswith("JobHeld")


RECORDED = json.loads((Path(__file__).parent / "data" / "slurm_refusals.json").read_text())
"""What sbatch says where there are accounts, limits and broken daemons, as Slurm words it."""


@pytest.mark.parametrize("recorded", RECORDED, ids=[item["words"] for item in RECORDED])
def test_recorded_refusals(recorded: dict[str, str]) -> None:
    """Whose fault, in Slurm's own words, and what to do."""
    error = refusal("the job was not accepted", recorded["said"])
    assert error.failure_class == recorded["failure_class"]
    assert recorded["words"] in str(error)
    assert "sbatch: error" not in str(error)


def test_every_refusal_has_a_remedy() -> None:
    """And a class that is not ours."""
    assert all(remedy and failure_class is not FailureClass.ADAPTER_BUG for _, failure_class, remedy in REFUSALS)


def test_a_command_that_is_not_here() -> None:
    """It is named, with what to do."""
    with pytest.raises(ToolMissing, match="no-such-tool is not in PATH"):
        run_tool(["no-such-tool"])
    with pytest.raises(ControllerSilent, match=r"within 0\.2 s"):
        run_tool(["sleep", "5"], timeout_s=0.2)


class Answers:
    """Plays Slurm's part: each question gets the next answer, the last one for ever."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[str]] = []

    def __call__(self, argv: Sequence[str]) -> Answer:
        self.asked.append(argv)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def line(job_id: str, state: str, reason: str = "None", restarts: int = 0) -> str:
    return f"{job_id}|{state}|{reason}|{restarts}|n1|2026-01-02T03:04:05|\n"


def test_one_call_for_all() -> None:
    """However many jobs there are; elements of an array are one id."""
    ids = [*(str(number) for number in range(100, 150)), *(f"7_{index}" for index in range(50))]
    answers = Answers(Answer(0, "".join(line(job_id, "RUNNING") for job_id in ids), ""))
    board = Board(0.2, 30.0, run=answers)
    for job_id in ids:
        board.watch(job_id)
    for job_id in ids:
        state = board.look(job_id)
        assert state is not None
        assert state.state == "RUNNING"
    assert len(answers.asked) == 1
    (jobs,) = [word for word in answers.asked[0] if word.startswith("--jobs=")]
    assert jobs.count(",") == 50


@pytest.mark.parametrize(
    "nothing",
    [
        Answer(0, "", ""),
        Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller"),
        Answer(0, "garbage\n", ""),
        ControllerSilent("it is slow"),
    ],
)
def test_no_answer_is_no_news(nothing: Answer | Exception) -> None:
    """What was known before still is; nothing is known of a job that was never answered for."""
    board = Board(0.05, 0.05, 0.0, Answers(Answer(0, line("5", "RUNNING"), ""), nothing))
    board.watch("5")
    board.watch("6")
    known = board.look("5")
    assert known is not None
    for _ in range(3):
        assert board.look("5", fresh=True) == known
        assert board.look("6") is None


UNKNOWN = Answer(1, "", "slurm_load_jobs error: Invalid job id specified")


def test_a_job_that_slurm_does_not_know() -> None:
    """A controller that says so of the job itself, for long enough, is believed; the accounting is asked first."""
    board = Board(0.05, 0.05, 0.2, Answers(UNKNOWN, UNKNOWN, UNKNOWN, Answer(1, "", "storage is disabled"), UNKNOWN))
    board.watch("5")
    assert board.look("5", fresh=True) is None
    time.sleep(0.25)
    state = board.look("5", fresh=True)
    assert state is not None
    assert state.failure_class == "infra_lost"
    assert "does not know it" in state.told("5")
    board = Board(0.05, 0.05, 0.0, Answers(UNKNOWN, UNKNOWN, Answer(0, "OUT_OF_MEMORY|0:125|n4\n", "")))
    board.watch("5")
    state = board.look("5", fresh=True)
    assert state is not None
    assert (state.state, state.signal, state.nodes) == ("OUT_OF_MEMORY", 125, "n4")


def test_an_accounting_that_fails_once_is_asked_again() -> None:
    """For the next job that is not known."""
    accounted = Answer(0, "TIMEOUT|0:0|n4\n", "")
    answers = Answers(UNKNOWN, UNKNOWN, ControllerSilent("it is slow"), UNKNOWN, UNKNOWN, accounted)
    board = Board(0.05, 0.05, 0.0, answers)
    states = []
    for job_id in ("5", "6"):
        board.watch(job_id)
        state = board.look(job_id, fresh=True)
        board.forget(job_id)
        states.append(state.state if state is not None else "")
    assert states == ["FORGOTTEN", "TIMEOUT"]


def test_a_job_that_is_known_again() -> None:
    """What was forgotten was not over: the next answer that names it stands."""
    answers = Answers(UNKNOWN, UNKNOWN, Answer(1, "", ""), Answer(0, line("5", "RUNNING"), ""))
    board = Board(0.05, 0.05, 0.0, answers)
    board.watch("5")
    states = [board.look("5", fresh=True) for _ in range(2)]
    assert [state.state for state in states if state is not None] == ["FORGOTTEN", "RUNNING"]


def test_asked_seldom_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0.2 s to 30 s, and at once again when something did."""
    now = [1000.0]
    monkeypatch.setattr("adapters.slurm_cluster.board.time.monotonic", lambda: now[0])
    running, pending = Answer(0, line("5", "RUNNING"), ""), Answer(0, line("5", "PENDING", "Resources"), "")
    answers = Answers(*[pending] * 30, running)
    board = Board(0.2, 30.0, run=answers)
    board.watch("5")
    asked: list[float] = []
    while now[0] < 1300 and len(answers.answers) > 1:
        before = len(answers.asked)
        board.look("5")
        if len(answers.asked) > before:
            asked.append(now[0])
        now[0] += 0.05
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[0] < 0.35
    assert max(pauses) <= 30 * 1.2 + 0.1
    assert max(pauses) > 20
    assert len(asked) < 30


def test_jobs_are_not_submitted_too_fast() -> None:
    """By all threads together."""
    rate = SubmitRate(20.0)
    started_s = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: rate.wait(), range(6)))
    assert 0.24 < time.monotonic() - started_s < 2


def test_an_order_tells_nothing_without_its_key() -> None:
    """Neither the file nor the key alone; a changed file is noticed."""
    key = new_key()
    sealed = seal(b'{"secrets": {"PW": "hunter2"}}', key)
    assert b"hunter2" not in sealed
    assert unseal(sealed, key) == b'{"secrets": {"PW": "hunter2"}}'
    assert seal(b"x", key) != seal(b"x", key)
    for wrong in (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", sealed[:5]):
        with pytest.raises(OrderError):
            unseal(wrong, key)
    with pytest.raises(OrderError, match="the key that came with the job"):
        unseal(sealed, new_key())


def test_a_start_that_came_to_nothing_is_passed_over(tmp_path: Path) -> None:
    """A later one goes on from the last that wrote a journal; its own may be there, empty, before it is written."""
    from osiris_core.session import SessionLayout
    from remote.lineage import take_over
    from remote.order_file import read_order, write_order

    key = new_key()
    order = {"params": {"attempt": 1, "resume": False, "earlier": ""}}
    write_order(str(tmp_path / "order"), seal(json.dumps(order).encode(), key))
    for name, text in (("session", '{"seq":1}\n'), ("restart-1/session", ""), ("restart-2/session", "")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "events.jsonl").write_text(text)
    (tmp_path / "restart-2/order").symlink_to("../order")
    params = json.loads(read_order(str(tmp_path / "restart-2"), key, 2))["params"]
    assert (params["attempt"], params["resume"]) == (3, True)
    assert params["earlier"] == str(tmp_path / "session")
    take_over(params["earlier"], SessionLayout(tmp_path / "restart-2/session"))
    assert (tmp_path / "restart-2/session/events.jsonl").read_text() == '{"seq":1}\n'


def test_it_is_there_without_a_cluster() -> None:
    """The adapter loads, shows its settings, and finds nothing left over, on a machine without Slurm's commands."""
    code = (
        "import json\nfrom osiris_core import AdapterFactory\n"
        "adapter = AdapterFactory.create('slurm')\n"
        "print(json.dumps([adapter.unusable(), adapter.leftovers([])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=True
    )
    why, left = json.loads(done.stdout)
    assert "sbatch" in why
    assert left == []
    assert shlex.quote("slurm") in AdapterFactory.available()


PAGE = (Path(__file__).parent.parent / "docs" / "slurm.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting() -> None:
    """Of this adapter's own; and none that there is not."""
    own = set(SlurmConfig.model_fields) - (set(RemoteConfig.model_fields) - {"unattended_timeout_s"}) - {"type"}
    table = PAGE.partition("## Settings")[2].partition("## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert named == own


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_configurations_of_the_page(text: str) -> None:
    """Each is one."""
    SlurmConfig.model_validate(yaml.safe_load(text))


def test_the_states_of_the_page() -> None:
    """It says of states what the table of the code says."""
    found = re.findall(r"`([A-Z_]+)`[^`;.]*?is `(\w+)`", PAGE)
    assert len(found) >= 2
    for state, failure_class in found:
        assert JobState(state).failure_class == failure_class
