"""What the last run of a model came to, whoever ran it: no failed one is processed, and no success is made of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import pytest

from osiris_core import ModelRun
from osiris_core.backends import BaseBackendConfig, BasePostprocessorConfig, record_outcome
from osiris_core.errors import SessionBusy
from osiris_core.models.exclusion import alone_in_workspace
from osiris_core.models.registries import PIPELINES

if TYPE_CHECKING:
    from pathlib import Path


def model(folder: Path, command: str = "true", **settings: Any) -> ModelRun:
    return ModelRun(run_id="tides", output_dir=folder, command=command, **settings)


class Touch:
    """Says what it was given."""

    def process(self, model_run: Any, **given: Any) -> dict[str, Any]:
        return {"success": True, "given": given}


class Forced(Touch):
    def process(self, model_run: Any, force: bool = False, **given: Any) -> dict[str, Any]:
        return {"success": True, "given": {"force": force, **given}}


class ForcedConfig(BasePostprocessorConfig):
    type: Literal["forced"] = "forced"
    force: bool = False
    stage: str = "hourly"

    def get_postprocessor_class(self) -> type[Any]:
        return Forced


def test_no_keyword_lets_a_failed_run_pass(tmp_path: Path) -> None:
    """`stage` and `force` are a processor's own settings like any other; a failed run stays one."""
    run = model(tmp_path)
    assert run.run("local")
    assert run.postprocess(Touch, stage="hourly")["given"] == {"stage": "hourly"}
    assert run.postprocess(Forced, force=True)["given"] == {"force": True}
    assert run.postprocess(ForcedConfig(), force=True)["given"] == {"force": True, "stage": "hourly"}
    assert run.postprocess(Touch, force=True)["given"] == {}
    assert not run.run("local", command="false")
    for settings in ({"stage": "hourly"}, {}):
        refused = run.postprocess(Touch, **settings)
        assert "did not succeed" in str(refused.error)
        assert "given" not in refused
    forced = run.postprocess(Touch, force=True)
    assert "given" in forced
    assert not forced
    with pytest.raises(ValueError, match="no such key"):
        run.postprocess("noop", stage="hourly")


def test_the_newer_run_decides(tmp_path: Path) -> None:
    """What an object remembers of its own run is nothing beside a later one of the same name, and the other way."""
    first, second = model(tmp_path), model(tmp_path, "false")
    assert first.run("local")
    assert not second.run("local")
    assert not first.postprocess("noop")
    assert first.run("local")
    assert second.postprocess("noop").success
    assert not second.run("process", python="/no/python")  # one that never began
    assert not first.postprocess("noop")
    assert first.run("local")
    with alone_in_workspace(first):
        import threading

        thread = threading.Thread(target=second.run, args=("local",))
        thread.start()
        thread.join()
    assert second.last_result is not None
    assert "under way" in str(second.last_result.error)
    assert second.postprocess("noop").success, "the run that was refused was none"


def test_old_files_are_no_outputs(tmp_path: Path) -> None:
    """Also where somebody else's backend follows a run of ours, whose artifacts go with it; what it writes again is."""

    class Config(BaseBackendConfig):
        writes: bool = False

        def get_backend_class(self) -> type[Any]:
            return Backend

    class Backend:
        def run(self, model_run: Any, config: Config, workspace_dir: Any = None) -> bool:
            if config.writes:
                (model_run.staging_dir / "outputs" / "r").write_text("1\n")
            return True

    run = model(tmp_path, "echo 1 > outputs/r", expected_outputs=("outputs/r",))
    assert run.run("local")
    for _ in range(2):
        stale = run.execute(Config())
        assert (stale.success, stale.phase, stale.missing_outputs) == (False, "collect", ("outputs/r",))
        assert not model(tmp_path).postprocess("noop")
    time.sleep(0.02)
    assert run.execute(Config(writes=True)).success


def test_a_pipeline_of_somebody_elses_says_what_its_run_came_to(tmp_path: Path) -> None:
    """After a local run that failed its own success counts, for this process and the next; and so does its failure."""

    class Elsewhere:
        def execute(self, model_run: Any, works: bool = True) -> Any:
            model_run.generate()
            record_outcome(model_run, success=works, error="" if works else "no license")
            return dict(model_run.postprocess("noop"))

    PIPELINES.register("elsewhere", Elsewhere)
    try:
        run = model(tmp_path, "false")
        assert not run.run("local")
        assert run.pipeline("elsewhere")["success"]
        assert model(tmp_path).postprocess("noop").success
        failed = run.pipeline("elsewhere", works=False)
        assert "no license" in failed["error"]
        assert not model(tmp_path).postprocess("noop")
        assert model(tmp_path).run("local")
        assert run.postprocess("noop").success
    finally:
        PIPELINES.unregister("elsewhere")
    busy: list[BaseException] = []

    def says() -> None:
        try:
            record_outcome(run, success=True)
        except SessionBusy as exc:
            busy.append(exc)

    import threading

    with alone_in_workspace(run):
        thread = threading.Thread(target=says)
        thread.start()
        thread.join()
    assert len(busy) == 1


def test_a_processor_that_says_no_more_than_no(tmp_path: Path) -> None:
    """Is not told as completed."""
    run = model(tmp_path)
    assert run.run("local")

    class Says:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def process(self, model_run: Any, **_: Any) -> Any:
            return self.answer

    for answer, message in (
        ({"success": False}, "the processor said that it failed"),
        ({"success": False, "error": "bad grid"}, "bad grid"),
        (False, "the processor said that it failed (it returned False)"),
    ):
        found = run.postprocess(Says(answer))
        assert (found.success, found.message, found.error) == (False, message, message)
    assert run.postprocess(Says({"success": True})).message == "Postprocessing completed"


def test_chains_in_chains(tmp_path: Path) -> None:
    """Each has its steps to itself, however deep, and their journals beside each other."""
    run = model(tmp_path)
    assert run.run("local")
    inner = {"type": "chain", "steps": [{"type": "report"}, {"type": "noop"}]}
    found = run.postprocess("chain", steps=[inner, {"type": "chain", "steps": [inner, inner]}])
    assert found.success, found.error
    sessions = sorted(path.name for path in (tmp_path / ".osiris/sessions").iterdir())
    assert sum(name.endswith(("report", "noop")) for name in sessions) == 6
    assert "tides.postprocess.2-chain.1-chain.2-noop" in sessions
