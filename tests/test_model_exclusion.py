"""One at a time in a workspace, and under the name of a run, whatever it is called and whoever comes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import ModelRun, run_pipeline
from osiris_core.backends import BaseBackendConfig, LocalConfig
from osiris_core.errors import SessionBusy
from osiris_core.models.exclusion import alone_in, alone_in_workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Gate:
    """Two events: somebody is in the middle of something, and may go on."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.open.wait(20)


def meanwhile(gate: Gate, work: Callable[[], Any], other: Callable[[], Any]) -> tuple[Any, Any]:
    """What `work` came to, and `other`, which was done while `work` stood at its gate."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    assert gate.reached.wait(20)
    found = other()
    gate.open.set()
    thread.join()
    return done[0], found


def model(folder: Path, who: str, command: str = "cp INPUT outputs/who", **settings: Any) -> ModelRun:
    return ModelRun(
        **{"run_id": "tides", "output_dir": folder, "parameters": {"who": who}, "command": command, **settings}
    )


def test_two_pipelines_of_one_run(tmp_path: Path) -> None:
    """Between its generate and its run nobody else generates: the second is refused as a whole, and spoils nothing."""
    gate = Gate()

    class Slow(ModelRun):
        def execute(self, *arguments: Any, **settings: Any) -> Any:
            gate.wait()
            return super().execute(*arguments, **settings)

    first = Slow(run_id="tides", output_dir=tmp_path, parameters={"who": "A"}, command="cp INPUT outputs/who")
    second = model(tmp_path, "B", delete_existing=True)
    done, refused = meanwhile(gate, first.pipeline, second.pipeline)
    assert done.success, done["error"]
    assert (refused["success"], refused["stage"], refused["stages_completed"]) == (False, "generate", [])
    assert "under way" in refused["error"]
    assert "who = A" in (tmp_path / "tides/outputs/who").read_text()


def slow_model(gate: Gate) -> type[ModelRun]:
    """Model runs that generate, and then wait at the gate."""

    class Slow(ModelRun):
        def generate(self) -> str:
            found = super().generate()
            gate.wait()
            return found

    return Slow


def test_generate_alone_keeps_off_too(tmp_path: Path) -> None:
    """Called by itself, or by a pipeline of somebody else's; inside of a run it is the run's own."""
    gate = Gate()

    model_class = slow_model(gate)

    class Backend:
        def run(self, model_run: Any, config: Any, workspace_dir: Any = None) -> bool:
            return bool(model_run.generate())

    class Config(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            return Backend

    class Python:
        def run(self, model_run: Any) -> bool:
            return bool(model_run.generate())

    def others() -> Any:
        with pytest.raises(SessionBusy):
            model(tmp_path, "B").generate()
        return (tmp_path / "tides/INPUT").read_text()

    slow = model_class(run_id="tides", output_dir=tmp_path, parameters={"who": "A"}, command="cp INPUT outputs/who")
    done, read = meanwhile(gate, lambda: slow.execute("local"), others)
    assert done.success, done.error
    assert "who = A" in read
    assert model(tmp_path, "B").execute(Config()).success
    inside = ModelRun(run_id="tides", output_dir=tmp_path, config=Python()).execute("local")
    assert inside.success, inside.error


def test_what_is_left_behind_has_nothing_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of a run that is over has lost the workspace with it."""
    monkeypatch.setattr("osiris_core.engine.GRACE_S", 0.2)
    gate, found = Gate(), []

    class Backend:
        def run(self, model_run: Any, config: Any, workspace_dir: Any = None) -> bool:
            gate.wait()
            try:
                model_run.generate()
            except SessionBusy as exc:
                found.append(exc)
            gate.reached.clear()
            return True

    class Config(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            return Backend

    run = model(tmp_path, "A")
    assert run.execute(Config(), timeout_s=0.3).status == "timeout"
    with alone_in(run.staging_dir):
        gate.open.set()
        deadline_s = time.monotonic() + 20
        while gate.reached.is_set():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    assert len(found) == 1


def test_a_refused_pipeline_forgets_nothing(tmp_path: Path) -> None:
    """What succeeded before still holds when the workspace is free again."""
    gate, run = Gate(), model(tmp_path, "A")
    assert run.pipeline().success

    def hold() -> bool:
        with alone_in(run.staging_dir):
            gate.wait()
        return True

    _, refused = meanwhile(gate, hold, run.pipeline)
    assert not refused
    assert run.pipeline()["skipped"] == ["generate", "run", "postprocess"]


@pytest.mark.parametrize("way", ["run", "pipeline", "postprocess"])
def test_nobody_runs_while_outputs_are_processed(tmp_path: Path, way: str) -> None:
    """By `postprocess` alone, or as the last stage of a pipeline."""
    gate = Gate()
    first, second = model(tmp_path, "A"), model(tmp_path, "B", "true", delete_existing=True)

    class Backend:
        def run(self, model_run: Any, config: Any, workspace_dir: Any = None) -> bool:
            return True

    class Config(BaseBackendConfig):
        def get_backend_class(self) -> type[Any]:
            return Backend

    class Slow(ModelRun):
        def postprocess(self, *arguments: Any, **settings: Any) -> Any:
            found = super().postprocess(*arguments, **settings)
            gate.wait()
            return found

    slow = Slow(run_id="tides", output_dir=tmp_path, command="echo 1 > outputs/who")
    others: dict[str, Callable[[], Any]] = {
        "run": lambda: [second.execute("local"), second.execute(Config())],
        "pipeline": lambda: [second.pipeline()],
        "postprocess": lambda: [second.postprocess("noop")],
    }
    done, refused = meanwhile(gate, slow.pipeline, others[way])
    assert done.success, done["error"]
    assert [bool(one) for one in refused] == [False] * len(refused)
    assert all("under way" in str(one.error) for one in refused)
    assert (tmp_path / "tides/outputs/who").exists()

    class Looks:
        def process(self, model_run: Any, **_: Any) -> dict[str, Any]:
            (tmp_path / "looking").touch()
            time.sleep(1)
            return {"success": True, "found": (tmp_path / "tides/outputs/who").read_text()}

    assert first.run("local")
    done_too: list[Any] = []
    thread = threading.Thread(target=lambda: done_too.append(first.postprocess(Looks)))
    thread.start()
    while not (tmp_path / "looking").exists():
        time.sleep(0.01)
    assert not second.execute("local")
    thread.join()
    assert "who = A" in done_too[0]["found"]


def test_the_folder_counts_not_the_name(tmp_path: Path) -> None:
    """Two runs of other names, and of other `output_dir`s, are one after the other where they share a workspace."""
    gate = Gate()

    model_class = slow_model(gate)

    shared = tmp_path / "w"
    first = model_class(
        run_id="a", output_dir=shared, run_id_subdir=False, parameters={"who": "A"}, command="cp INPUT outputs/a"
    )
    (tmp_path / "link").symlink_to(shared)
    second = {
        "flat": model(shared, "B", run_id="b", run_id_subdir=False),
        "link": model(tmp_path / "link", "B", run_id="b", run_id_subdir=False),
    }
    elsewhere = model(tmp_path / "elsewhere", "B", run_id="c")

    def others() -> list[Any]:
        return [
            *(run.execute("local") for run in second.values()),
            elsewhere.execute("local", workspace_dir=shared),
            elsewhere.execute(LocalConfig(working_dir=shared)),
            second["flat"].postprocess("noop"),
            second["link"].pipeline(),
            elsewhere.execute("local"),
        ]

    done, (*refused, own) = meanwhile(gate, lambda: first.execute("local"), others)
    assert done.success, done.error
    assert own.success, own.error
    assert [one.success for one in refused] == [False] * 6
    assert all("under way" in str(one.error) for one in refused), [one.error for one in refused]
    assert "who = A" in (shared / "outputs/a").read_text()
    assert second["flat"].run("local")


def test_another_process_is_kept_out_too(tmp_path: Path) -> None:
    """And gets in when this one lets go; inside, the same thread may take it again."""
    script = f"""
        from osiris_core.models.exclusion import alone_in
        with alone_in({str(tmp_path / "w")!r}):
            print("in")
    """

    def other() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    (tmp_path / "real").mkdir()
    (tmp_path / "w").symlink_to("real")
    with alone_in(tmp_path / "real"), alone_in(tmp_path / "w"):
        assert "under way" in other().stderr
    assert other().stdout == "in\n"
    run = model(tmp_path, "A")
    with alone_in_workspace(run), alone_in_workspace(run):
        assert run.run("local")
    assert list(tmp_path.glob("*.lock")) == []


def test_a_workspace_that_generate_chose(tmp_path: Path) -> None:
    """It is the pipeline's until its end."""
    (tmp_path / "chosen").mkdir()
    subject = SimpleNamespace(
        run_id="s", output_dir=tmp_path / "s", config=None, generate=lambda: str(tmp_path / "chosen")
    )

    class Waits:
        def process(self, model_run: Any, **_: Any) -> bool:
            (tmp_path / "looking").touch()
            time.sleep(1)
            return True

    done: list[Any] = []
    thread = threading.Thread(
        target=lambda: done.append(run_pipeline(subject, run_kwargs={"command": "touch x"}, processor=Waits()))
    )
    thread.start()
    while not (tmp_path / "looking").exists():
        time.sleep(0.01)
    other = model(tmp_path / "o", "B").execute("local", workspace_dir=tmp_path / "chosen")
    assert not other
    with pytest.raises(SessionBusy), alone_in(tmp_path / "chosen"):
        pass
    thread.join()
    assert done[0].success, done[0].error
