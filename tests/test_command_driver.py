import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from osiris_core.cancellation import CancelToken
from osiris_core.driver import DriverRegistry
from osiris_core.drivers.command import CommandDriver
from osiris_core.drivers.command_config import CommandConfig
from osiris_core.errors import FailureClass, RunCancelled, RunTimeout, StepError
from osiris_core.memory_evidence import oom_kills, peak_rss_bytes
from osiris_core.paths import path_fields
from osiris_core.tables import write_ipc
from osiris_core.testing import run_driver

TABLE = pa.table({"id": [1, 2, 3], "name": ["ä", "b,c", None]})


def run(directory: Path, inputs: dict[str, Any] | None = None, /, **config: Any) -> Any:
    return run_driver(CommandDriver, config, directory, inputs)


def fails(directory: Path, /, **config: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        run_driver(CommandDriver, config, directory)
    return caught.value


def output_of(directory: Path, stream: str = "stdout") -> bytes:
    return (directory / "artifacts" / "step" / f"{stream}.log").read_bytes()


def logged(done: Any, stream: str = "stdout") -> list[str]:
    return [e["message"] for e in done.events if e["event"] == "log" and e.get("data", {}).get("stream") == stream]


def events_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_pids(folder: Path, count: int) -> list[int]:
    """The pids that a command wrote into files, once all are there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        texts = [path.read_text() for path in folder.glob("*.pid")]
        if len(texts) == count and all(text.endswith("\n") for text in texts):
            return [int(text) for text in texts]
        time.sleep(0.01)
    raise AssertionError(f"expected {count} pids in {folder}")


def files_with(directory: Path, secret: str) -> list[Path]:
    return [p for p in directory.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


# how it is started


def test_argv_is_seen_by_no_shell(tmp_path: Path) -> None:
    """Arguments arrive as they are written, numbers as text."""
    run(tmp_path, argv=["printf", "%s|", "$HOME", "a b", "*", ";", 5])
    assert output_of(tmp_path) == b"$HOME|a b|*|;|5|"


def test_shell_line_is_a_shell_line(tmp_path: Path) -> None:
    """Pipes and variables of /bin/sh work."""
    run(tmp_path, shell='X=ab; echo "$X" | tr a-z A-Z')
    assert output_of(tmp_path) == b"AB\n"


def test_only_the_declared_environment_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has in its environment is in no file; PATH, HOME and what is declared arrive."""
    monkeypatch.setenv("CALLERS_TOKEN", "undeclared-value-1234")
    run(tmp_path, argv=["env"], env={"DECLARED": "x", "N": 3})
    seen = dict(line.split("=", 1) for line in output_of(tmp_path).decode().splitlines())
    assert seen.pop("OSIRIS_STEP_TOKEN")
    work = tmp_path / "work" / "step.1"
    assert seen == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DECLARED": "x",
        "N": "3",
        "OSIRIS_STEP_ID": "step",
        "OSIRIS_ARTIFACTS_DIR": str(tmp_path / "artifacts" / "step"),
        "OSIRIS_WORK_DIR": str(work),
        "PWD": str(work),
    }
    assert files_with(tmp_path, "undeclared-value-1234") == []


def test_stdin_is_text_or_empty(tmp_path: Path) -> None:
    """A text arrives whole, more than a pipe holds; without one, reading ends at once."""
    text = "žluť\n" * 50_000
    (tmp_path / "a").mkdir()
    run(tmp_path / "a", argv=["cat"], stdin=text)
    assert output_of(tmp_path / "a") == text.encode()
    (tmp_path / "b").mkdir()
    run(tmp_path / "b", shell="cat; echo end")
    assert output_of(tmp_path / "b") == b"end\n"


def test_working_dir_is_where_it_starts(tmp_path: Path) -> None:
    """The command starts in the subfolder, PWD says so, and files were put there."""
    (tmp_path / "tool.sh").write_text("#!/bin/sh\necho $PWD; pwd\n")
    (tmp_path / "tool.sh").chmod(0o755)
    run(tmp_path, argv=["./tool.sh"], files={"sub/tool.sh": "tool.sh"}, working_dir="sub")
    assert output_of(tmp_path).decode().splitlines() == [str(tmp_path / "work" / "step.1" / "sub")] * 2


def test_files_are_copies(tmp_path: Path) -> None:
    """A command that overwrites its file leaves the original as it was."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.txt").write_text("original")
    run(tmp_path, shell="echo changed > in.txt; cat in.txt", files=["data/in.txt"])
    assert (tmp_path / "data" / "in.txt").read_text() == "original"
    assert output_of(tmp_path) == b"changed\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"argv": ["no-such-program-x"]}, ["no-such-program-x", "PATH", "/usr/bin"]),
        ({"argv": ["./gone.sh"]}, ["gone.sh", "not there", "files"]),
        ({"argv": ["./plain.sh"], "files": ["plain.sh"]}, ["not executable"]),
        ({"argv": ["./badint.sh"], "files": ["badint.sh"]}, ["interpreter"]),
        ({"argv": ["./noint"], "files": ["noint"]}, ["#!"]),
        ({"argv": ["true", "x" * 3_000_000]}, ["too long"]),
        ({"argv": ["true"], "files": ["plain.sh"], "working_dir": "plain.sh"}, ["working_dir", "plain.sh"]),
        ({"argv": ["true"], "files": ["missing.txt"]}, ["missing.txt"]),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, config: dict[str, Any], words: list[str]) -> None:
    """A program that is missing, not executable or no program is told apart."""
    (tmp_path / "plain.sh").write_text("#!/bin/sh\n")
    for name, text in {"badint.sh": "#!/no/such/interpreter\n", "noint": "\x7fnothing"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    error = fails(tmp_path, **config)
    assert all(word in str(error) for word in words), str(error)
    assert error.failure_class is FailureClass.USER_ERROR


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"argv": ["a"], "shell": "b"},
        {"argv": []},
        {"argv": [" "]},
        {"shell": "  "},
        {"argv": ["x", 1.10]},
        {"argv": ["a\0b"]},
        {"shell": "x", "env": {"A=B": "1"}},
        {"shell": "x", "env": {"OSIRIS_STEP_TOKEN": "1"}},
        {"shell": "x", "artifacts": ["../up"]},
        {"shell": "x", "artifacts": ["/etc/passwd"]},
        {"shell": "x", "working_dir": ".."},
        {"shell": "x", "outputs": {"df": {"path": "../x.csv"}}},
        {"shell": "x", "outputs": {"df": {"path": "x.unknown"}}},
        {"shell": "x", "files": ["a/same", "b/same"]},
        {"shell": "x", "files": {"../up": "a"}},
        {"shell": "x", "links": {"../up": "a"}},
        {"shell": "x", "links": {"a": "../up"}},
        {"shell": "x", "links": {"deep/a": "../../up"}},
        {"shell": "x", "links": {"a": "/etc"}},
        {"shell": "x", "links": {"a": ""}},
        {"shell": "x", "success_exit_codes": [256]},
        {"shell": "x", "typo": 1},
    ],
)
def test_configurations_that_are_refused(config: dict[str, Any]) -> None:
    """Nothing ambiguous, empty or leaving the working directory is accepted."""
    with pytest.raises(ValidationError):
        CommandConfig.model_validate(config)


def test_links(tmp_path: Path) -> None:
    """They are made before the command starts, to what is there and to what is not yet; a name that is taken fails."""
    links = {"deep/up": "../made", "later": "made/new"}
    run(tmp_path, shell="echo 1 > later; cat deep/up/new; readlink later", folders=["made"], links=links)
    assert output_of(tmp_path) == b"1\nmade/new\n"
    (tmp_path / "other").mkdir()
    error = fails(tmp_path / "other", shell="true", folders=["made"], links={"made": "x"})
    assert "link 'made' cannot be made: File exists" in str(error)


# how it ends


def test_exit_code_and_last_line_are_in_the_error(tmp_path: Path) -> None:
    """A failure carries code, last line and a bounded tail of stderr."""
    error = fails(tmp_path, shell="seq 1000 >&2; echo 'bad grid' >&2; exit 3")
    assert str(error) == "the command exited with code 3: bad grid"
    assert error.details["exit_code"] == 3
    assert error.details["stderr_tail"].splitlines() == [*map(str, range(982, 1001)), "bad grid"]
    assert error.step_id == "step"


def test_tail_falls_back_to_stdout(tmp_path: Path) -> None:
    """With nothing on stderr the tail of stdout tells."""
    error = fails(tmp_path, shell="echo only here; exit 1")
    assert str(error).endswith(": only here")
    assert error.details["stdout_tail"] == "only here"


def test_tail_of_one_endless_line_is_bounded(tmp_path: Path) -> None:
    """A line of 1 MB gives a tail of 4 KiB and a short message."""
    error = fails(tmp_path, shell="head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
    assert len(error.details["stderr_tail"]) == 4096
    assert len(str(error)) < 400


def test_signal_is_named(tmp_path: Path) -> None:
    """A crash is told apart from an exit code, and from one that a shell passes on."""
    error = fails(tmp_path, shell="kill -SEGV $$")
    assert str(error) == "the command was killed by SIGSEGV"
    assert error.details["signal"] == "SIGSEGV"
    error = fails(tmp_path, shell="sh -c 'kill -ABRT $$'; exit $?")
    assert "code 134 (SIGABRT below it)" in str(error)


def test_sigkill_alone_is_no_proof_of_missing_memory(tmp_path: Path) -> None:
    """A plain KILL is not called out of memory."""
    error = fails(tmp_path, shell="kill -KILL $$")
    assert error.failure_class is FailureClass.USER_ERROR
    assert "SIGKILL" in str(error)


def test_success_exit_codes(tmp_path: Path) -> None:
    """The declared codes are success, and 0 is one only if declared."""
    run(tmp_path, shell="exit 4", success_exit_codes=[4, 5])
    assert fails(tmp_path, shell="exit 0", success_exit_codes=[4]).details["exit_code"] == 0


@pytest.fixture
def memory_cgroup() -> Any:
    """A memory cgroup of 64 MiB below ours, as the path of its cgroup.procs."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = next((path for _, names, path in groups if "memory" in names.split(",")), None)
    path = next((path for _, names, path in groups if not names), "/") if v1 is None else v1
    root = Path("/sys/fs/cgroup/memory" if v1 is not None else "/sys/fs/cgroup")
    folder = root / path.strip("/") / f"osiris-test-{os.getpid()}"
    limit = folder / ("memory.limit_in_bytes" if v1 is not None else "memory.max")
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"memory cgroups cannot be made here: {exc}")
    try:
        try:
            limit.write_text(str(64 << 20))
            swap = folder / ("memory.memsw.limit_in_bytes" if v1 is not None else "memory.swap.max")
            if swap.exists():
                swap.write_text(str(64 << 20) if v1 is not None else "0")
        except OSError as exc:
            pytest.skip(f"memory cgroups cannot be limited here: {exc}")
        yield folder / "cgroup.procs"
    finally:
        for _ in range(100):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.02)


def test_out_of_memory_is_told_by_the_kernels_counter(tmp_path: Path, memory_cgroup: Path) -> None:
    """A command that outgrows its cgroup fails with the class out_of_memory."""
    script = textwrap.dedent(f"""
        import os, sys, pathlib
        pathlib.Path({str(memory_cgroup)!r}).write_text(str(os.getpid()))
        from osiris_core.drivers.command import CommandDriver
        from osiris_core.errors import StepError
        from osiris_core.testing import run_driver
        hog = "import sys; b = bytearray(400 << 20)\\nfor i in range(0, len(b), 4096): b[i] = 1"
        adj = "echo 1000 > /proc/self/oom_score_adj; exec " + sys.executable + ' -c "$HOG"'
        try:
            run_driver(CommandDriver, {{"shell": adj, "env": {{"HOG": hog}}}}, pathlib.Path({str(tmp_path)!r}))
        except StepError as error:
            print(error.failure_class.value, "|", error, "|", error.details)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.startswith("out_of_memory | the command was killed by the kernel"), done
    assert "'signal': 'SIGKILL'" in done.stdout


def test_oom_counter_is_a_number_or_unknown() -> None:
    """The counter never goes down between two looks, or is honestly unknown."""
    first, second = oom_kills(), oom_kills()
    assert first is None if second is None else first <= second


def test_peak_memory_is_the_commands_own(tmp_path: Path) -> None:
    """A small command is not charged with the caller's peak; a large one is seen."""
    caller = bytearray(150 << 20)
    caller[::4096] = b"\1" * len(caller[::4096])
    assert run(tmp_path, argv=["true"]).metrics["memory_usage_mb"] < 30
    del caller
    hog = "b = bytearray(400 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nimport time; time.sleep(0.4)"
    assert run(tmp_path, argv=[sys.executable, "-c", hog]).metrics["memory_usage_mb"] > 350
    assert peak_rss_bytes(os.getpid()) > 0
    assert peak_rss_bytes(2**22 + 1) == 0


# what it prints


def test_output_is_followed_line_by_line(tmp_path: Path) -> None:
    """Each line is an event of its stream; the files hold the bytes; a last line without end counts."""
    done = run(tmp_path, shell="printf 'a\\r\\n\\nb'; echo oops >&2")
    assert logged(done) == ["a", "", "b"]
    assert logged(done, "stderr") == ["oops"]
    assert output_of(tmp_path) == b"a\r\n\nb"
    assert output_of(tmp_path, "stderr") == b"oops\n"


def test_output_is_followed_while_it_runs(tmp_path: Path) -> None:
    """A line is an event before the command has ended."""
    token = CancelToken()

    def stop_when_seen() -> None:
        while "first" not in (path.read_text() if (path := tmp_path / "events.jsonl").exists() else ""):
            time.sleep(0.01)
        token.cancel(FailureClass.CANCELLED)

    threading.Thread(target=stop_when_seen).start()
    started = time.monotonic()
    with pytest.raises(RunCancelled):
        run_driver(CommandDriver, {"shell": "echo first; sleep 50"}, tmp_path, token=token)
    assert time.monotonic() - started < 10


def test_silent_command_leaves_no_log_files(tmp_path: Path) -> None:
    """No output, no file."""
    run(tmp_path, argv=["true"])
    assert list((tmp_path / "artifacts" / "step").iterdir()) == []


def test_output_that_is_no_utf8(tmp_path: Path) -> None:
    """Any bytes are kept as they are in the file and shown with replacements; the step succeeds."""
    done = run(tmp_path, shell="printf '\\377\\376\\000x\\n'")
    assert output_of(tmp_path) == b"\xff\xfe\x00x\n"
    assert logged(done) == ["\ufffd\ufffd\x00x"]


def test_log_events_are_bounded(tmp_path: Path) -> None:
    """After 10,000 lines one event says where the rest is; the file has it all. A long line is cut."""
    done = run(tmp_path, shell="seq 30000")
    lines = logged(done)
    assert lines[:-1] == [str(number) for number in range(1, 10_001)]
    assert lines[-1] == "stdout goes on; the rest is only in stdout.log"
    assert output_of(tmp_path).splitlines()[-1] == b"30000"
    (tmp_path / "long").mkdir()
    done = run(tmp_path / "long", shell="head -c 100000 /dev/zero | tr '\\0' x; echo; echo next")
    assert logged(done) == ["x" * 16384 + " [cut after 16 KiB]", "next"]
    (tmp_path / "big").mkdir()
    done = run(tmp_path / "big", shell="yes $(head -c 10000 /dev/zero | tr '\\0' y) | head -n 300")
    assert 1 << 20 >= sum(map(len, logged(done)[:-1])) > 1_000_000
    assert len(output_of(tmp_path / "big")) == 300 * 10_001


def test_output_need_not_be_logged(tmp_path: Path) -> None:
    """With log_output off the file is there and no event is."""
    done = run(tmp_path, shell="echo hello", log_output=False)
    assert output_of(tmp_path) == b"hello\n"
    assert logged(done) == []


def test_secret_split_over_writes_is_in_no_file(tmp_path: Path) -> None:
    """A secret printed in two pieces is masked in files, events, message and details."""
    secret = "s3cr3t-hunter2-value"
    config = {
        "shell": 'for s in 1 2; do printf "pass=$A"; sleep 0.1; printf "$B\\n"; done; echo "bad $A$B" >&2; exit 1',
        "env": {"A": secret[:9], "B": secret[9:]},
    }
    with pytest.raises(StepError) as caught:
        run_driver(CommandDriver, config, tmp_path, secrets=(secret,))
    assert output_of(tmp_path) == b"pass=***\npass=***\n"
    assert str(caught.value) == "the command exited with code 1: bad ***"
    assert secret not in repr(caught.value.details)
    assert files_with(tmp_path, secret) == []


def test_secret_on_stdin_touches_no_file(tmp_path: Path) -> None:
    """Text on standard input is never on disk."""
    secret = "stdin-s3cret-value"
    run_driver(CommandDriver, {"shell": "wc -c", "stdin": secret}, tmp_path, secrets=(secret,))
    assert output_of(tmp_path).strip() == b"18"
    assert files_with(tmp_path, secret) == []


@pytest.mark.parametrize("shape", ["| fold -w 100", ""])
def test_300_mb_of_output_take_no_memory(tmp_path: Path, shape: str) -> None:
    """300 MB, in lines or in one line, raise the peak of the driver's process by less than 60 MiB."""
    line = f"head -c 300000000 /dev/zero | tr '\\0' x {shape}"
    script = textwrap.dedent(f"""
        import pathlib, resource, sys
        from osiris_core.drivers.command import CommandDriver
        from osiris_core.testing import run_driver
        place = pathlib.Path({str(tmp_path)!r})
        run_driver(CommandDriver, {{"argv": ["true"]}}, place)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run_driver(CommandDriver, {{"shell": {line!r}}}, place)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (tmp_path / "artifacts" / "step" / "stdout.log").stat().st_size >= 300_000_000
    (tmp_path / "artifacts" / "step" / "stdout.log").unlink()
    assert float(done.stdout) < 60, done


# tables and artifacts


@pytest.mark.parametrize("table_format", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("spilled", [False, True])
def test_tables_in_and_out(tmp_path: Path, table_format: str, spilled: bool) -> None:
    """A table goes into the command's file and comes back the same, spilled or not."""
    table: Any = TABLE.set_column(1, "name", pa.array(["ä", "b,c", ""]))
    given = write_ipc(tmp_path / "given.arrow", table.schema, table.to_batches()) if spilled else table
    done = run(
        tmp_path,
        {"my.grid": given},
        shell=f'test "$OSIRIS_INPUT_MY_GRID" = "$PWD/inputs/my.grid.{table_format}" && cp "$OSIRIS_INPUT_MY_GRID" out',
        input_format=table_format,
        outputs={"df": {"path": "out", "format": table_format}},
    )
    assert done.outputs["df"].to_pylist() == table.to_pylist()


def test_json_in_and_out(tmp_path: Path) -> None:
    """A JSON input is a JSON file; a JSON output is its value."""
    value = {"a": [1, None, "ž"]}
    done = run(tmp_path, {"params": value}, shell="cp inputs/params.json o.json", outputs={"o": {"path": "o.json"}})
    assert done.outputs["o"] == value


def test_arrow_stream_is_read_too(tmp_path: Path) -> None:
    """An output in the streaming form of Arrow IPC is recognised."""
    with pa.ipc.new_stream(str(tmp_path / "s.arrow"), TABLE.schema) as writer:
        writer.write_table(TABLE)
    done = run(tmp_path, shell="mv s.arrow o.arrow", files=["s.arrow"], outputs={"o": {"path": "o.arrow"}})
    assert done.outputs["o"].equals(TABLE)


def test_csv_type_that_changes_late_becomes_text(tmp_path: Path) -> None:
    """A column that holds numbers for megabytes and then a word is read as text, every row of it."""
    script = "echo a,b; yes 1,2 | head -n 1500000; echo 1,x"
    done = run(tmp_path, shell=f"({script}) > o.csv", outputs={"o": {"path": "o.csv"}})
    table = done.outputs["o"]
    assert table.num_rows == 1_500_001
    assert table.schema.types == [pa.int64(), pa.string()]
    assert table.column("b")[-1].as_py() == "x"


def test_missing_output_lists_what_is_there(tmp_path: Path) -> None:
    """A declared output that was not written is an error naming it and the files that are there."""
    error = fails(tmp_path, shell="touch other.csv; mkdir d; touch d/x", outputs={"df": {"path": "out.csv"}})
    assert "df (out.csv)" in str(error)
    assert "d/x, other.csv" in str(error)


@pytest.mark.parametrize(
    ("name", "content"), [("o.csv", ""), ("o.parquet", "no"), ("o.arrow", "ARROW1 no"), ("o.json", "{")]
)
def test_unreadable_output_is_named(tmp_path: Path, name: str, content: str) -> None:
    """A file that is not what it was declared to be gives an error with its name."""
    error = fails(tmp_path, shell=f"printf %s '{content}' > {name}", outputs={"df": {"path": name}})
    assert "'df'" in str(error)
    assert name in str(error)


def test_output_that_breaks_in_mid_file_is_named(tmp_path: Path) -> None:
    """A row that does not fit, far behind, gives an error with the file's name, not half a table."""
    with pytest.raises(Exception, match=r"o\.csv|'df'"):
        run(tmp_path, shell="(echo a; yes 1 | head -n 3000000; echo 1,2) > o.csv", outputs={"df": {"path": "o.csv"}})


def test_output_that_links_out_is_refused(tmp_path: Path) -> None:
    """A link to a file elsewhere is not an output, and not an artifact."""
    (tmp_path / "elsewhere.csv").write_text("a\n1\n")
    link = f"ln -s {tmp_path}/elsewhere.csv o.csv"
    assert "o.csv" in str(fails(tmp_path, shell=link, outputs={"df": {"path": "o.csv"}}))
    (tmp_path / "x").mkdir()
    assert "not a file" in str(fails(tmp_path / "x", shell=link, artifacts=["o.csv"]))


def test_nested_columns_need_another_format(tmp_path: Path) -> None:
    """A list in a CSV file is refused with the remedy."""
    with pytest.raises(StepError, match="input_format"):
        run(tmp_path, {"t": pa.table({"a": [[1]]})}, shell="true")


def test_artifacts_keep_their_bytes(tmp_path: Path) -> None:
    """Binary, empty and deep files are kept under their relative paths; so is what is written straight there."""
    done = run(
        tmp_path,
        shell="mkdir -p p/q; printf '\\000\\377' > p/bin; : > p/q/empty; echo x > 'a[1].txt'; "
        'echo d > "$OSIRIS_ARTIFACTS_DIR/direct"; echo y > r1.dat; echo z > r2.dat',
        artifacts=["p", "a[1].txt", "*.dat", "r1.dat"],
    )
    kept = {
        p.relative_to(done.artifacts_dir).as_posix(): p.read_bytes()
        for p in done.artifacts_dir.rglob("*")
        if p.is_file()
    }
    assert kept == {
        "p/bin": b"\0\xff",
        "p/q/empty": b"",
        "a[1].txt": b"x\n",
        "direct": b"d\n",
        "r1.dat": b"y\n",
        "r2.dat": b"z\n",
    }


def test_artifacts_are_kept_after_a_failure(tmp_path: Path) -> None:
    """A failed command's files are kept; what is missing is a warning and hides nothing of the failure."""
    error = fails(tmp_path, shell="echo x > core.txt; exit 9", artifacts=["core.txt", "result.nc"])
    assert "code 9" in str(error)
    assert (tmp_path / "artifacts" / "step" / "core.txt").read_text() == "x\n"
    assert any("result.nc" in event.get("message", "") for event in events_of(tmp_path))


def test_missing_artifact_fails_a_success(tmp_path: Path) -> None:
    """A named artifact that was not written is an error, an empty glob is none."""
    assert "result.nc" in str(fails(tmp_path, shell="true", artifacts=["result.nc", "*.png"]))


def test_artifact_never_replaces_a_log(tmp_path: Path) -> None:
    """A file of the command that is called like the driver's own log is refused, not silently lost."""
    assert "stdout.log" in str(fails(tmp_path, shell="echo mine > stdout.log; echo log", artifacts=["*.log"]))
    assert output_of(tmp_path) == b"log\n"


def test_special_files_are_no_artifacts(tmp_path: Path) -> None:
    """A named pipe blocks nobody."""
    assert "fifo" in str(fails(tmp_path, shell="mkfifo fifo", artifacts=["fifo"]))


# how it is stopped

TREE = """
import os, signal, sys, time
def note(name):
    with open(name + ".tmp", "w") as f: f.write(f"{os.getpid()}\\n")
    os.rename(name + ".tmp", name + ".pid")
if os.fork() == 0:                       # a daemon: own session, parent gone, no pipe of ours
    os.setsid()
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3): os.dup2(null, fd)
        os.closerange(3, 100)
        note("daemon"); time.sleep(600)
    os._exit(0)
os.wait()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("stubborn"); time.sleep(600)
note("root"); time.sleep(600)
"""


@pytest.mark.parametrize(
    ("reason", "error"), [(FailureClass.CANCELLED, RunCancelled), (FailureClass.TIMEOUT, RunTimeout)]
)
def test_stopping_ends_the_whole_tree(tmp_path: Path, reason: FailureClass, error: type[Exception]) -> None:
    """A cancel ends a daemon with closed files and a child that ignores TERM, within the step's grace of 5 s."""
    token = CancelToken()
    pids: list[int] = []
    stopped_at: list[float] = []

    def stop() -> None:
        pids.extend(wait_for_pids(tmp_path / "work" / "step.1", 3))
        stopped_at.append(time.monotonic())
        token.cancel(reason)

    threading.Thread(target=stop).start()
    with pytest.raises(error):
        run_driver(
            CommandDriver, {"argv": [sys.executable, "-c", TREE], "artifacts": ["root.pid"]}, tmp_path, token=token
        )
    assert time.monotonic() - stopped_at[0] < 4.8
    assert len(pids) == 3
    assert not [pid for pid in pids if alive(pid)]
    assert (tmp_path / "artifacts" / "step" / "root.pid").exists()


def test_cancelled_step_starts_nothing(tmp_path: Path) -> None:
    """A step that was cancelled before runs no command."""
    token = CancelToken()
    token.cancel(FailureClass.CANCELLED)
    with pytest.raises(RunCancelled):
        run_driver(CommandDriver, {"shell": f"touch {tmp_path}/ran"}, tmp_path, token=token)
    assert not (tmp_path / "ran").exists()


def test_command_may_end_itself_in_the_grace(tmp_path: Path) -> None:
    """A command that handles TERM gets to write its last words."""
    token = CancelToken()
    script = "trap 'echo saved; exit' TERM; echo $$ > a.tmp; mv a.tmp a.pid; while :; do sleep 0.05; done"
    threading.Thread(
        target=lambda: (wait_for_pids(tmp_path / "work" / "step.1", 1), token.cancel(FailureClass.CANCELLED))
    ).start()
    with pytest.raises(RunCancelled):
        run_driver(CommandDriver, {"shell": script}, tmp_path, token=token)
    assert b"saved" in output_of(tmp_path)


@pytest.mark.parametrize(
    "leave",
    [
        "sleep 600 & echo $! > a.pid",  # holds the pipes
        "sleep 600 >/dev/null 2>&1 & echo $! > a.pid",
        "setsid sh -c 'echo $$ > a.pid; exec sleep 600' >/dev/null 2>&1 </dev/null & while ! test -s a.pid; do :; done",
        "setsid env -i sh -c 'echo $$ > a.pid; exec sleep 600' >/dev/null 2>&1 & while ! test -s a.pid; do :; done",
        f"{sys.executable} -c \"import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True, "
        'stdout=s.DEVNULL, stderr=s.DEVNULL).pid)" > a.pid',
    ],
)
def test_background_is_ended_with_a_normal_exit(tmp_path: Path, leave: str) -> None:
    """What a finished command left running, however it hid, is ended within moments and named in a warning."""
    started = time.monotonic()
    done = run(tmp_path, shell=f"{leave}; echo end")
    assert time.monotonic() - started < 3
    (pid,) = wait_for_pids(tmp_path / "work" / "step.1", 1)
    assert not alive(pid)
    warnings = [event for event in done.events if event.get("level") == "warning"]
    assert len(warnings) == 1
    assert f"sleep (pid {pid})" in warnings[0]["message"]
    assert output_of(tmp_path) == b"end\n"


def test_background_that_ends_by_itself_is_let_be(tmp_path: Path) -> None:
    """A writer that outlives the command for a moment gets its last line out, without a warning."""
    done = run(tmp_path, shell="(sleep 0.05; echo late) & echo early")
    assert output_of(tmp_path) == b"early\nlate\n"
    assert not [event for event in done.events if event.get("level") == "warning"]


def test_endless_writer_left_behind_does_not_hang(tmp_path: Path) -> None:
    """A background process that never stops writing is ended; the step returns."""
    started = time.monotonic()
    run(tmp_path, shell="yes & exit 0")
    assert time.monotonic() - started < 5


def test_full_disk_ends_the_command(tmp_path: Path) -> None:
    """When the log cannot be written the error is told and no process is left."""
    (tmp_path / "artifacts" / "step" / "stdout.log").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        run(tmp_path, shell="echo $$ > a.pid; echo x; exec sleep 600")
    (pid,) = wait_for_pids(tmp_path / "work" / "step.1", 1)
    assert not alive(pid)


def test_caller_keeps_its_signals_and_children(tmp_path: Path) -> None:
    """Nothing of the calling process changes, and a child of its own is not touched."""
    mine = subprocess.Popen(["sleep", "60"])
    before = (signal.getsignal(signal.SIGCHLD), Path.cwd(), dict(os.environ), len(os.listdir("/proc/self/fd")))
    run(tmp_path, shell="sleep 600 &")
    assert (signal.getsignal(signal.SIGCHLD), Path.cwd(), dict(os.environ), len(os.listdir("/proc/self/fd"))) == before
    assert mine.poll() is None
    mine.kill()
    mine.wait()


def test_parquet_output_is_streamed(tmp_path: Path) -> None:
    """A parquet file larger than the budget for tables comes back spilled, all of it."""
    pq.write_table(pa.table({"a": range(500_000)}), tmp_path / "p.parquet")
    done = run_driver(
        CommandDriver,
        {"shell": "mv p.parquet o.parquet", "files": ["p.parquet"], "outputs": {"o": {"path": "o.parquet"}}},
        tmp_path,
        table_budget_bytes=1 << 20,
    )
    assert done.outputs["o"].num_rows == 500_000


def test_retry_replaces_the_artifacts_of_the_attempt_before(tmp_path: Path) -> None:
    """Run again into the same artifacts, the newer file is kept."""
    for text in ("first", "second"):
        done = run(tmp_path, shell=f"printf {text} > a.txt", artifacts=["a.txt", "*.txt"])
    assert (done.artifacts_dir / "a.txt").read_text() == "second"


def test_input_never_overwrites_a_file(tmp_path: Path) -> None:
    """An input whose file would replace a declared file is refused."""
    (tmp_path / "t.csv").write_text("x")
    with pytest.raises(StepError, match="overwrite"):
        run(tmp_path, {"t": TABLE}, shell="true", files={"inputs/t.csv": "t.csv"})


def test_without_pidfds_it_works_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel without pidfds a command ends, fails and leaves nobody behind as elsewhere."""

    def refused(pid: int) -> int:
        raise PermissionError("no pidfd here")

    monkeypatch.setattr(os, "pidfd_open", refused)
    run(tmp_path, shell="sleep 600 & echo $! > a.pid")
    (pid,) = wait_for_pids(tmp_path / "work" / "step.1", 1)
    assert not alive(pid)
    assert fails(tmp_path, shell="exit 7").details["exit_code"] == 7


def test_example_is_a_valid_step() -> None:
    """The example that users are shown fits the driver, and its files travel with the run."""
    step = yaml.safe_load(CommandDriver.example)
    assert DriverRegistry.get(step["driver"]) is CommandDriver
    CommandConfig.model_validate(step["config"])
    assert [(name, role.role) for name, role in path_fields(CommandConfig)] == [("files", "input")]
