"""Postprocessors: what they find and make, the process that they are in, and that no failed run becomes a success."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import time
import zipfile
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa
import pytest
from pydantic import ValidationError

from osiris_core import ModelRun, PostprocessResult
from osiris_core.backends import (
    ArchivePostprocessorConfig,
    BasePostprocessorConfig,
    ChainPostprocessorConfig,
    NoopPostprocessor,
    NoopPostprocessorConfig,
    ReportPostprocessorConfig,
    load_processor_config,
    validate_postprocessor_config,
)
from osiris_core.models.postprocess import postprocess
from osiris_core.models.registries import POSTPROCESSOR_CONFIGS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> ModelRun:
    made = ModelRun(
        run_id="tides", output_dir=tmp_path / "out", command="echo 1 > outputs/a.txt; echo 22 > outputs/b.nc"
    )
    assert made.run("local")
    return made


class Analysis:
    """With a configuration."""

    def process(self, model_run: Any, config: Any, **kwargs: Any) -> dict[str, Any]:
        return {
            "success": True,
            "metrics": list(config.metrics),
            "level": os.environ.get("LEVEL"),
            "cwd": os.getcwd(),
            **kwargs,
        }


class AnalysisConfig(BasePostprocessorConfig):
    type: str = "analysis"
    metrics: tuple[str, ...] = ()
    hang_s: float = 0

    def get_postprocessor_class(self) -> type[Any]:
        return Fields if self.hang_s else Analysis


class Fields:
    """With its fields by name."""

    def process(self, model_run: Any, metrics: Any = (), hang_s: float = 0, **kwargs: Any) -> dict[str, Any]:
        if hang_s > 1:
            os.system("sleep 615.5 & sleep 615.5")
        return {"success": True, "metrics": list(metrics), "further": kwargs}


def test_the_documented_calls(run: ModelRun, tmp_path: Path) -> None:
    """By name with settings, by configuration, with the documented keys and words."""
    result = run.postprocess(processor="noop")
    assert isinstance(result, PostprocessResult)
    assert result["success"] is True
    assert result["message"] == "No postprocessing requested - validation only"
    assert (result["run_id"], result["validated"], result["file_count"]) == ("tides", True, 3)
    assert result["output_dir"] == str(tmp_path / "out" / "tides")
    elsewhere = run.postprocess(processor="noop", validate_outputs=True, output_dir=str(tmp_path / "none"))
    assert elsewhere["success"] is False
    assert elsewhere["message"] == f"Output directory not found: {tmp_path}/none"
    off = run.postprocess(NoopPostprocessorConfig(validate_outputs=False, timeout=3600, env_vars={"DEBUG": "1"}))
    assert (off["success"], off["validated"]) == (True, False)
    assert run.postprocess(NoopPostprocessorConfig(), validate_outputs=False)["validated"] is False
    json.dumps(result)


def test_bad_processors(run: ModelRun) -> None:
    """Unknown names, settings and kinds are told in the documented words."""
    with pytest.raises(ValueError, match=r"Unknown postprocessor: nop\. Available postprocessors: .*noop"):
        run.postprocess("nop")
    with pytest.raises(ValueError, match="did you mean 'validate_outputs'"):
        run.postprocess("noop", validate_output=True)
    with pytest.raises(TypeError, match="processor must be a BasePostprocessorConfig instance, got int"):
        run.postprocess(5)  # type: ignore[arg-type]
    for subject, words in ((None, "model_run cannot be None"), (object(), "must have a run_id")):
        with pytest.raises(ValueError, match=words):
            postprocess(subject, "noop")
        with pytest.raises(ValueError, match=words):
            NoopPostprocessor().process(subject)


def test_noop_tells_what_went_wrong_inside(run: ModelRun) -> None:
    """A folder that cannot be read is a result with the error, not an exception."""

    class Broken:
        run_id = "x"

        @property
        def output_dir(self) -> str:
            raise RuntimeError("no disk")

    result = NoopPostprocessor().process(Broken())
    assert (result["success"], result["error"]) == (False, "no disk")
    assert "no disk" in result["message"]


def test_its_settings_have_effect(run: ModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables and folder are those of its process, secrets by reference too; both signatures are called."""
    monkeypatch.setenv("HERE", "high")
    (tmp_path / "work").mkdir()
    config = AnalysisConfig(metrics=("mean",), env_vars={"LEVEL": "${HERE}"}, working_dir=tmp_path / "work")
    result = run.postprocess(config, plots=True)
    assert result["metrics"] == ["mean"]
    assert (result["level"], result["cwd"], result["plots"]) == ("high", str(tmp_path / "work"), True)
    assert run.postprocess(config, metrics=("peak",))["metrics"] == ["peak"]
    fields = run.postprocess(AnalysisConfig(metrics=("a",), hang_s=0.5), more=1)
    assert (fields["metrics"], fields["further"]) == (["a"], {"more": 1})
    assert "LEVEL" not in os.environ


def test_what_only_looks_needs_no_child(run: ModelRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what is derived from it, or given variables, is in one."""

    class Derived(NoopPostprocessor):
        def process(self, model_run: Any, **settings: Any) -> dict[str, Any]:
            return {**super().process(model_run, **settings), "pid": os.getpid()}

    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    assert run.postprocess("noop").success
    assert forks == []
    assert run.postprocess(Derived)["pid"] != os.getpid()
    assert run.postprocess("noop", env_vars={"A": "1"}).success
    assert len(forks) == 2


def test_its_timeout_ends_it(run: ModelRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything that it started; a result says so."""
    config = AnalysisConfig(hang_s=9).model_copy(update={"timeout": 1})
    started_s = time.monotonic()
    result = run.postprocess(config)
    assert (result.success, result["failure_class"]) == (False, "timeout")
    assert time.monotonic() - started_s < 15
    assert not [p for p in psutil.process_iter(["cmdline"]) if "615.5" in " ".join(p.info["cmdline"] or ())]


def test_custom_processors(run: ModelRun) -> None:
    """A class or an object does; what is raised, or is no dictionary, becomes a result."""

    class Odd:
        def __init__(self, answer: Any = None) -> None:
            self.answer = answer

        def process(self, model_run: Any, **_: Any) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    assert run.postprocess(Fields, a=1)["further"] == {"a": 1}
    assert run.postprocess(Odd(True))["success"] is True
    assert run.postprocess(Odd(False))["success"] is False
    assert run.postprocess(Odd([1, 2]))["result"] == [1, 2]
    assert run.postprocess(Odd({"success": False, "message": "bad grid"})).error == "bad grid"
    raised = run.postprocess(Odd(LookupError("no grid")))
    assert (raised.success, raised.error) == (False, "LookupError: no grid")
    lost = run.postprocess(Odd(lambda: 1))
    assert not lost
    assert "cannot be handed over" in str(lost.error)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.zst", "zip"])
def test_an_archive(run: ModelRun, tmp_path: Path, form: str) -> None:
    """Every file is in it, with its bytes and its digest; the same files give the same archive."""
    (run.staging_dir / "outputs" / "link").symlink_to("a.txt")
    (run.staging_dir / "outputs" / "out").symlink_to("/etc/hostname")
    result = run.postprocess("archive", format=form)
    assert result, result.error
    archive = tmp_path / "out" / f"tides.{form}"
    assert result["archive"] == str(archive)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == result["sha256"]
    names = ["INPUT", "outputs/a.txt", "outputs/b.nc", "outputs/link"]
    assert [item["path"] for item in result["files"]] == names
    target = tmp_path / "unpacked"
    if form == "zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(target)
    elif form == "tar.zst":
        with pa.CompressedInputStream(str(archive), "zstd") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            tar.extractall(target, filter="data")
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
    manifest = dict(reversed(line.split("  ", 1)) for line in (target / "MANIFEST.sha256").read_text().splitlines())
    assert manifest == {item["path"]: item["sha256"] for item in result["files"]}
    for name in names:
        data = (run.staging_dir / name).read_bytes()
        assert (target / name).read_bytes() == data
        assert hashlib.sha256(data).hexdigest() == manifest[name]
    assert run.postprocess("archive", format=form)["sha256"] == result["sha256"]
    some = run.postprocess(
        ArchivePostprocessorConfig(archive=run.staging_dir / "a.tar", format="tar", patterns=("**/*.txt",))
    )
    assert [item["path"] for item in some["files"]] == ["outputs/a.txt"]


def test_patterns_are_globs(run: ModelRun) -> None:
    """A star stays in its folder; two are any number of them; as `Path.glob` has it, for files."""
    for name in ("outputs/deep/er/c.nc", "outputs/deep/a.txt", "top.nc", "outputs/.hidden.nc", "datasets/[x].nc"):
        path = run.staging_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for pattern, expected in {
        "outputs/*.nc": [".hidden.nc", "b.nc"],
        "outputs/*": [".hidden.nc", "a.txt", "b.nc"],
        "outputs/**/*.nc": [".hidden.nc", "b.nc", "deep/er/c.nc"],
        "outputs/*/*": ["deep/a.txt"],
        "outputs/**": [".hidden.nc", "a.txt", "b.nc", "deep/a.txt", "deep/er/c.nc"],
        "*.nc": ["top.nc"],
        "**/c.nc": ["deep/er/c.nc"],
        "**/er/**/*": ["deep/er/c.nc"],
        "datasets/[[]x].nc": ["datasets/[x].nc"],
        "./outputs/a.txt": ["a.txt"],
        "outputs/A.TXT": [],
    }.items():
        done = run.postprocess("archive", patterns=(pattern,))
        found = [item["path"].removeprefix("outputs/") for item in done.get("files", [])]
        assert found == expected, pattern
        if "**" not in pattern[-3:]:  # which only later versions of Python take for files too
            globbed = {
                str(path.relative_to(run.staging_dir)) for path in run.staging_dir.glob(pattern) if path.is_file()
            }
            assert {item["path"] for item in done.get("files", [])} == globbed, pattern


def test_an_archive_of_nothing_is_no_success(run: ModelRun, tmp_path: Path) -> None:
    """Patterns that match no file are a mistake, or the outputs are missing; there is then no archive either."""
    done = run.postprocess("archive", patterns=("nowhere/*",))
    assert not done.success
    assert "matches nowhere/*" in str(done.error)
    assert not list(tmp_path.rglob("*.tar.gz"))


def test_a_report(run: ModelRun, tmp_path: Path) -> None:
    """Every file with size, time, kind and digest; in a file too where one is asked for."""
    result = run.postprocess(ReportPostprocessorConfig(report=tmp_path / "r" / "report.json"))
    assert (result["file_count"], result["total_bytes"]) == (
        3,
        sum(p.stat().st_size for p in run.staging_dir.rglob("*.*")) + 15,
    )
    kinds = {item["path"]: item["type"] for item in result["files"]}
    assert kinds == {"INPUT": "other", "outputs/a.txt": "text", "outputs/b.nc": "netcdf"}
    assert result["files"][1]["sha256"] == hashlib.sha256(b"1\n").hexdigest()
    assert json.loads((tmp_path / "r" / "report.json").read_text())["files"] == result["files"]
    assert "sha256" not in run.postprocess("report", checksums=False)["files"][0]


def test_a_chain(run: ModelRun) -> None:
    """Each in turn; after a failure none, or all the others; who was not tried is named."""
    POSTPROCESSOR_CONFIGS.register("analysis", AnalysisConfig)
    try:
        steps = [{"type": "noop"}, {"type": "noop", "output_dir": "/nowhere"}, {"type": "analysis", "metrics": ["m"]}]
        stopped = run.postprocess(ChainPostprocessorConfig(steps=steps))
        assert [step["status"] for step in stopped["steps"]] == ["completed", "failed", "unattempted"]
        assert not stopped
        assert "/nowhere" in str(stopped.error)
        tried = run.postprocess("chain", steps=steps, failure_policy="continue", env_vars={"LEVEL": "x"})
        assert [step["status"] for step in tried["steps"]] == ["completed", "failed", "completed"]
        assert tried["steps"][2]["result"]["level"] == "x"
        assert not tried
        assert run.postprocess("chain", steps=steps[::2]).success
        with pytest.raises(ValidationError, match="at least 1 item"):
            ChainPostprocessorConfig(steps=[])
        with pytest.raises(ValueError, match="Unknown processor type: 'nop'"):
            ChainPostprocessorConfig(steps=[{"type": "nop"}])
    finally:
        POSTPROCESSOR_CONFIGS.unregister("analysis")


def test_a_failed_run_never_becomes_a_success(run: ModelRun, tmp_path: Path) -> None:
    """Not in this process, not in another that knows only the folder, not by force, and not by a stale success."""
    called = tmp_path / "called"

    class Touch:
        def process(self, model_run: Any, **_: Any) -> dict[str, Any]:
            called.touch()
            return {"success": True}

    for command, expected in (("exit 3", "exited with code 3"), ("true", "did not leave outputs/new")):
        failing = ModelRun(
            run_id="tides", output_dir=tmp_path / "out", command=command, expected_outputs=("outputs/new",)
        )
        assert not failing.run("local")
        fresh = ModelRun(run_id="tides", output_dir=tmp_path / "out")
        for subject in (failing, fresh):
            refused = subject.postprocess(Touch)
            assert (refused.success, refused["failure_class"]) == (False, "user_error")
            assert expected in str(refused.error)
            assert not called.exists()
        forced = fresh.postprocess(Touch, force=True)
        assert called.exists()
        assert not forced
        assert "no success" in str(forced.error)
        called.unlink()
    refused_early = ModelRun(run_id="tides", output_dir=tmp_path / "out")
    assert run.run("local")
    assert fresh.postprocess(Touch).success
    assert not refused_early.run("process", python="/no/python")
    assert not ModelRun(run_id="tides", output_dir=tmp_path / "out").postprocess(Touch).success


def test_configurations_in_files(tmp_path: Path) -> None:
    """YAML, JSON or a mapping, which is not changed; every documented error in its words."""
    (tmp_path / "p.yml").write_text("type: noop\nvalidate_outputs: false\ntimeout: 99\n")
    (tmp_path / "p.json").write_text('{"type": "report", "checksums": false}')
    config = load_processor_config(tmp_path / "p.yml")
    assert config == NoopPostprocessorConfig(validate_outputs=False, timeout=99)
    assert load_processor_config(str(tmp_path / "p.json")) == ReportPostprocessorConfig(checksums=False)
    data = {"type": "noop", "validate_outputs": False}
    assert load_processor_config(data) == NoopPostprocessorConfig(validate_outputs=False)
    assert data == {"type": "noop", "validate_outputs": False}
    with pytest.raises(FileNotFoundError):
        load_processor_config(tmp_path / "none.yml")
    for text, words in (
        ("- a\n", "type"),
        ("validate_outputs: true\n", "type"),
        ("type: nop\n", "Unknown processor type: 'nop'. Available types: archive, chain, noop, report"),
    ):
        (tmp_path / "bad.yml").write_text(text)
        with pytest.raises(ValueError, match=words.replace(".", r"\.")):
            load_processor_config(tmp_path / "bad.yml")
    assert validate_postprocessor_config(tmp_path / "p.yml")[0] is True
    assert validate_postprocessor_config(tmp_path / "p.yml", "noop")[2] == config
    ok, message, nothing = validate_postprocessor_config(tmp_path / "p.yml", "report")
    assert (ok, nothing) == (False, None)
    assert "does not match expected type" in message
    assert validate_postprocessor_config(tmp_path / "none.yml")[0] is False


def test_the_rules_that_all_have() -> None:
    """The base is abstract; bounds and unknown fields as for run backends."""
    with pytest.raises(TypeError, match="abstract"):
        BasePostprocessorConfig()  # type: ignore[abstract]
    for settings, words in (
        ({"timeout": 30}, "greater than or equal to 60"),
        ({"env_vars": ["a"]}, "valid dictionary"),
        ({"working_dir": "/nowhere"}, "does not exist"),
        ({"validat": 1}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=words):
            NoopPostprocessorConfig(**settings)
    config = NoopPostprocessorConfig(timeout=7200, env_vars={"DEBUG": "1"})
    assert NoopPostprocessorConfig(**json.loads(json.dumps(config.model_dump()))) == config
    assert config.validate()
