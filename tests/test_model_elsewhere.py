"""A model run where its command sees a copy of the workspace, or the workspace in a container: what comes back."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from osiris_core import AdapterFactory, ExecutionContext, ModelRun, PreparationError
from osiris_core.backends import DockerConfig, ProcessConfig
from osiris_core.cloning import clone_or_link
from tests.conftest import DOCKER_BASE

COMMAND = (
    "cat INPUT > outputs/o; mkdir -p empty/deep; chmod 700 run.sh; rm gone; rm -r old; ln -s o outputs/link; "
    "printf 'a\\nb' >> INPUT; echo done"
)


def workspace_of(run: ModelRun) -> Path:
    workspace = Path(run.generate())
    (workspace / "gone").touch()
    (workspace / "old" / "er").mkdir(parents=True)
    (workspace / "old" / "er" / "file").touch()
    (workspace / "run.sh").write_text("#!/bin/sh\n")
    (workspace / "same").write_text("same")
    (workspace / "${odd} name").write_text("odd")
    os.utime(workspace / "same", (1, 1))
    return workspace


def tree(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode & 0o777
        found[name] = (
            str(path.readlink()) if path.is_symlink() else "dir" if path.is_dir() else (path.read_bytes(), mode)
        )
    return found


def test_a_copy_comes_back_as_the_workspace_itself(tmp_path: Path) -> None:
    """By `process` it looks afterwards as by `local`: files, links, permissions, folders, and what was removed."""
    here = ModelRun(run_id="m", output_dir=tmp_path / "here", command=COMMAND)
    there = ModelRun(run_id="m", output_dir=tmp_path / "there", command=COMMAND)
    first = here.execute("local", workspace_dir=workspace_of(here))
    second = there.execute("process", workspace_dir=workspace_of(there))
    assert first, first.error
    assert second, second.error
    assert tree(here.staging_dir) == tree(there.staging_dir)
    assert "gone" not in tree(there.staging_dir)
    assert second.artifacts == first.artifacts
    assert Path(second.stdout_log).read_text() == "done\n"
    assert (there.staging_dir / "same").stat().st_mtime == 1
    assert {path.stat().st_uid for path in there.staging_dir.rglob("*")} == {os.getuid()}


def test_what_came_home_can_travel_again(tmp_path: Path) -> None:
    """A link to a folder or a file that stays inside is a link there too, run after run; one that leads out is not."""
    run = ModelRun(
        run_id="m",
        output_dir=tmp_path,
        command="[ -e latest ] || ln -s outputs latest; echo 1 >> latest/o; ln -sf o outputs/newest; "
        "mkdir -p deep; ln -sfn ../outputs deep/up; test -L latest && readlink outputs/newest",
    )
    for number in (1, 2, 3):
        result = run.execute("process")
        assert result, result.error
        assert Path(result.stdout_log).read_text() == "o\n"
        assert len((tmp_path / "m/outputs/o").read_text().split()) == number
        links = {name: os.readlink(tmp_path / "m" / name) for name in ("latest", "outputs/newest", "deep/up")}
        assert links == {"latest": "outputs", "outputs/newest": "o", "deep/up": "../outputs"}
    (tmp_path / "m" / "out").symlink_to("../..")
    refused = run.execute("process")
    assert "out is a link that leads out of the workspace" in str(refused.error)


@pytest.mark.parametrize("backend", ["local", "process"])
def test_an_artifact_stays_as_it_was(tmp_path: Path, backend: str) -> None:
    """The workspace lives on: what is written into it afterwards is not in what the run is known to have left."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command="echo 1 > outputs/o; chmod 640 outputs/o")
    result = run.execute(backend)
    (artifact,) = result.artifacts
    kept = Path(result.session_dir, "artifacts/run/workspace/outputs/o")
    with (run.staging_dir / "outputs/o").open("a") as file:
        file.write("more")
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == artifact.sha256
    assert kept.stat().st_mode & 0o777 == 0o640
    assert (run.staging_dir / "outputs/o").read_text() == "1\nmore"


def test_a_copy_for_which_there_is_no_room(tmp_path: Path) -> None:
    """Is the file itself under another name, and nothing half copied is left; one in the way stays."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        assert clone_or_link(source, tmp_path / "linked") is False
    finally:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / "linked").samefile(source)
    assert clone_or_link(source, tmp_path / "copied") is True
    assert not (tmp_path / "copied").samefile(source)
    with pytest.raises(FileExistsError):
        clone_or_link(source, tmp_path / "copied")


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    """Comes home too."""
    name = "\u6c34" * 85
    run = ModelRun(run_id="m", output_dir=tmp_path, command=f"echo 1 > outputs/{name}")
    result = run.execute("process")
    assert result, result.error
    assert (tmp_path / "m/outputs" / name).read_text() == "1\n"


def test_a_failure_comes_back_too(tmp_path: Path) -> None:
    """What a command left before it failed is in the workspace, and the failure is the same."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command="echo half > outputs/half; exit 3")
    result = run.execute("process")
    assert (result.success, result.return_code, result.failure_class) == (False, 3, "user_error")
    assert (tmp_path / "m/outputs/half").read_text() == "half\n"


def test_what_cannot_travel_is_told_before(tmp_path: Path) -> None:
    """Links to folders, pipes, and Python of this process: each is named, and nothing was started."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command="true")
    workspace = Path(run.generate())
    (workspace / "data").symlink_to("/usr")
    os.mkfifo(workspace / "pipe")
    result = run.execute("process", workspace_dir=workspace)
    assert (result.success, result.phase) == (False, "prepare")
    assert "data is a link" in str(result.error)
    assert "pipe is no file" in str(result.error)
    assert not (tmp_path / ".osiris/sessions/m/events.jsonl").exists()

    class Python:
        def run(self, _: Any) -> bool:
            return True

    python = ModelRun(run_id="p", output_dir=tmp_path, config=Python())
    refused = python.execute(ProcessConfig())
    assert (refused.success, refused.phase) == (False, "prepare")
    assert "Python of this process" in str(refused.error)


def test_output_cannot_be_passed_on_from_elsewhere(tmp_path: Path) -> None:
    """It would end in a journal, and the caller would wait for it in vain."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command="echo 1")
    with pytest.raises(ValueError, match="capture_output: output can be passed on"):
        run.run("process", capture_output=False)
    result = run.execute("process", stream_output=True)
    assert Path(result.stdout_log).read_text() == "1\n"


def test_a_manifest_cannot_ask_for_this_machines_folders_elsewhere(tmp_path: Path) -> None:
    """`workspace` and `inherit_env` are refused where the engine is not here."""
    config = {"shell": "true", "workspace": str(tmp_path), "inherit_env": True}
    manifest = {"steps": [{"id": "a", "driver": "command", "config": config}]}
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("process").prepare(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert [problem.key for problem in caught.value.problems] == ["config.workspace", "config.inherit_env"]
    assert AdapterFactory.create("local").run(manifest, ExecutionContext(session_dir=str(tmp_path / "s"))).succeeded


def test_a_manifest_in_a_workspace(tmp_path: Path) -> None:
    """`workspace`, `folders` and `keep_changes` serve a manifest's commands too; a folder that is missing fails."""
    (tmp_path / "w").mkdir()
    config = {"shell": "echo 1 > made/x", "workspace": str(tmp_path / "w"), "folders": ["made"], "keep_changes": True}
    manifest = {"steps": [{"id": "a", "driver": "command", "config": config}]}
    adapter = AdapterFactory.create("local")
    report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert [item["path"] for item in report.artifacts] == ["a/workspace/made/x"]
    assert (tmp_path / "w/made/x").read_text() == "1\n"
    config["workspace"] = str(tmp_path / "none")
    report = adapter.run(manifest, ExecutionContext(session_dir=str(tmp_path / "t")))
    assert "is not there" in report["error"]["message"]


def test_a_model_in_its_image(tmp_path: Path, docker_client: Any) -> None:
    """Its own command, its variables and its secret arrive; a program that is not in the image is named as missing."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command='echo $LEVEL > outputs/l; test -n "$API_TOKEN"; pwd')
    config = DockerConfig(image=DOCKER_BASE, pull_policy="never", env_vars={"LEVEL": "3", "API_TOKEN": "tok-4711-4711"})
    result = run.execute(config)
    assert result, result.error
    assert (tmp_path / "m/outputs/l").read_text() == "3\n"
    assert Path(result.stdout_log).read_text() == "/app/run_id\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"4711" in path.read_bytes()]
    moved = run.execute("docker", image=DOCKER_BASE, pull_policy="never", working_dir="/usr")
    assert Path(moved.stdout_log).read_text() == "/usr\n"
    missing = run.execute("docker", image=DOCKER_BASE, pull_policy="never", executable="/no/model")
    assert "'/no/model' was not found in image" in str(missing.error)
    assert run.run("docker", image="osiris-no-such-image:0", pull_policy="never") is False
    with pytest.raises(ValueError, match="Either 'image' or 'dockerfile' must be provided"):
        run.run("docker")
    too_many = run.execute("docker", image=DOCKER_BASE, pull_policy="never", cpu=128)
    assert (too_many.phase, too_many.success) == ("prepare", False)
    assert "processors, not 128" in str(too_many.error)


def test_a_model_in_a_worker(tmp_path: Path, docker_client: Any, worker_image: str) -> None:
    """With `engine: worker` its workspace is copied there and back, whoever the container's user is."""
    run = ModelRun(run_id="m", output_dir=tmp_path, command=COMMAND.replace("; echo done", "; id -u"))
    config = DockerConfig(image=worker_image, engine="worker", user="1234:1234")
    result = run.execute(config, workspace_of(run))
    assert result, result.error
    assert Path(result.stdout_log).read_text() == "1234\n"
    other = ModelRun(run_id="m", output_dir=tmp_path / "here", command=COMMAND)
    assert other.run("local", workspace_dir=workspace_of(other))
    assert tree(run.staging_dir) == tree(other.staging_dir)
    assert {path.lstat().st_uid for path in run.staging_dir.rglob("*")} == {os.getuid()}


def test_a_stubborn_callable_is_gone_when_its_time_is_up(tmp_path: Path) -> None:
    """One that ignores TERM, and has a child that does, too."""

    class Stubborn:
        def run(self, _: Any) -> bool:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            subprocess.run(["/bin/sh", "-c", "trap '' TERM; sleep 616.6"], check=False)
            time.sleep(60)
            return True

    run = ModelRun(run_id="m", output_dir=tmp_path, config=Stubborn())
    before = {*psutil.Process().children()}
    started_s = time.monotonic()
    with pytest.raises(TimeoutError):
        run.run("local", timeout_s=0.5)
    assert time.monotonic() - started_s < 20
    assert not [p for p in psutil.process_iter(["cmdline"]) if "616.6" in " ".join(p.info["cmdline"] or ())]
    assert not {*psutil.Process().children()} - before


def test_a_model_in_an_image_of_its_own(tmp_path: Path, docker_client: Any) -> None:
    """`dockerfile` starts at its context; `mpiexec` starts the executable as often as there are processors."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "launch").write_text('#!/bin/sh\necho got "$@"; shift 2; exec "$@"\n')
    (context / "launch").chmod(0o755)
    (context / "Dockerfile").write_text(
        f"FROM {DOCKER_BASE}\nARG WORD=none\nCOPY launch /opt/launch\n"
        "RUN printf '#!/bin/sh\\necho '$WORD' > outputs/word\\n' > /usr/local/bin/run.sh\n"
        "RUN chmod 755 /usr/local/bin/run.sh\n"
    )
    run = ModelRun(run_id="m", output_dir=tmp_path / "out")
    config = DockerConfig(
        dockerfile="Dockerfile", build_context=str(context), build_args={"WORD": "built"}, mpiexec="/opt/launch", cpu=2
    )
    result = run.execute(config)
    assert result, result.error
    assert Path(result.stdout_log).read_text() == "got -n 2 /usr/local/bin/run.sh\n"
    assert (tmp_path / "out/m/outputs/word").read_text() == "built\n"
