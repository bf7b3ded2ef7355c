import os
import secrets
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from osiris_core.process_tree import ProcessTree

NAME = "OSIRIS_STEP_TOKEN"


def start(script: str, *, pipes: bool = False) -> tuple[subprocess.Popen[bytes], ProcessTree]:
    """A shell in its own session with the marker; `pipes`: the tree also knows its stdout pipe."""
    token = secrets.token_hex()
    process = subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], NAME: token},
        start_new_session=True,
    )
    inodes = [os.fstat(process.stdout.fileno()).st_ino] if pipes else []
    return process, ProcessTree(process.pid, f"{NAME}={token}", inodes)


def read_pids(process: subprocess.Popen[bytes], count: int) -> list[int]:
    return [int(process.stdout.readline()) for _ in range(count)]


def finish(process: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    tree.terminate(0)
    tree.close()
    process.wait()
    process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def seen_as_gone(tree: ProcessTree) -> bool:
    """False is no verdict (somebody else's process may just be born), so it is asked a few times."""
    return any(tree.is_gone() or time.sleep(0.01) for _ in range(50))


def daemon(body: str) -> str:
    """A shell line that leaves a process in a session of its own, whose parent is gone, holding no pipe."""
    return f"(setsid sh -c '{body}' >/dev/null 2>&1 </dev/null &)"


def test_members_are_children_and_daemons_of_the_root() -> None:
    """A child and a daemon that left session, parent and pipes are both members."""
    process, tree = start(f"sleep 60 & echo $!; {daemon('exec sleep 61')}; wait")
    try:
        (child,) = read_pids(process, 1)
        time.sleep(0.1)
        names = {member.pid: member.cmdline() for member in tree.members()}
        assert process.pid in names
        assert child in names
        assert ["sleep", "61"] in names.values()
        assert os.getpid() not in names
    finally:
        finish(process, tree)


def test_terminate_leaves_nobody_alive_and_names_them() -> None:
    """After `terminate` every member is gone, also the one that ignores TERM, and each is named with its pid."""
    process, tree = start(f"{daemon('trap : TERM; while :; do sleep 1; done')}; sleep 60 & echo $!; wait")
    (child,) = read_pids(process, 1)
    time.sleep(0.1)
    pids = [member.pid for member in tree.members()]
    assert len(pids) >= 3
    started = time.monotonic()
    stopped = tree.terminate(0.5)
    assert 0.4 < time.monotonic() - started < 3
    assert not [pid for pid in pids if alive(pid)]
    assert f"sleep (pid {child})" in stopped
    assert tree.terminate(1) == []
    finish(process, tree)


def test_members_that_hear_term_are_not_waited_for() -> None:
    """The grace ends as soon as nobody is left."""
    process, tree = start("sleep 60 & echo; wait")
    process.stdout.readline()
    started = time.monotonic()
    tree.terminate(10)
    assert time.monotonic() - started < 2
    finish(process, tree)


def test_stopped_process_hears_term() -> None:
    """A member that was suspended still gets to run its TERM handler."""
    process, tree = start("trap 'echo heard; exit' TERM; echo up; while :; do sleep 0.01; done")
    process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)
    tree.terminate(5)
    assert process.stdout.readline() == b"heard\n"
    finish(process, tree)


def test_emptied_environment_is_found_by_its_pipe() -> None:
    """A daemon with an empty environment in a session of its own is found while it holds a pipe of the tree."""
    process, tree = start("(setsid env -i sleep 62 &) ; echo up; sleep 60", pipes=True)
    process.stdout.readline()
    time.sleep(0.1)
    found = [member.pid for member in tree.members() if member.cmdline() == ["sleep", "62"]]
    assert len(found) == 1
    tree.terminate(1)
    assert not alive(found[0])
    finish(process, tree)


def test_fork_of_the_caller_that_holds_the_pipes_is_not_ours() -> None:
    """A fork of this process holds both ends of the pipes; it is left alone."""
    token = secrets.token_hex()
    read_end, write_end = os.pipe()
    process = subprocess.Popen(["sleep", "60"], env={NAME: token, "PATH": os.environ["PATH"]}, start_new_session=True)
    tree = ProcessTree(process.pid, f"{NAME}={token}", [os.fstat(read_end).st_ino])
    fork = subprocess.Popen(["sleep", "63"], pass_fds=(read_end, write_end))
    try:
        assert fork.pid not in [member.pid for member in tree.members()]
        tree.terminate(1)
        assert alive(fork.pid)
    finally:
        fork.kill()
        fork.wait()
        tree.close()
        process.wait()
        os.close(read_end)
        os.close(write_end)


def test_bystanders_are_never_signalled() -> None:
    """A process of the caller, younger than the root, survives."""
    process, tree = start("sleep 60 & echo; wait")
    process.stdout.readline()
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        tree.terminate(1)
        assert alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()
        finish(process, tree)


def test_fork_chain_does_not_get_away() -> None:
    """Processes that fork and exit all the time, ignoring TERM, are all dead at the end."""
    script = "trap : TERM; chase() { (chase) & exit; }; for i in 1 2 3; do (chase) & done; echo; sleep 60"
    process, tree = start(script)
    process.stdout.readline()
    tree.terminate(0.1)
    assert tree.members() == []
    assert seen_as_gone(tree)
    finish(process, tree)


def test_is_gone_tells_the_truth_in_both_cases() -> None:
    """Nothing left is seen as gone; a daemon that left everything but its environment is not overlooked."""
    process, tree = start("exit 0")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert seen_as_gone(tree)
    finish(process, tree)
    process, tree = start(daemon("exec sleep 60"))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not tree.is_gone()
    time.sleep(1.1)  # past the age up to which pids alone are looked at
    assert not tree.is_gone()
    assert len(tree.terminate(1)) == 1
    assert seen_as_gone(tree)
    finish(process, tree)


def test_closed_tree_signals_nobody() -> None:
    """After `close` the pid may be anybody's: nothing is signalled."""
    process, tree = start("exec sleep 60")
    tree.close()
    assert tree.terminate(0) == []
    assert alive(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()


def test_terminate_from_two_threads() -> None:
    """Two threads may stop one tree; both return with nobody alive."""
    process, tree = start("sleep 60 & sleep 60 & echo; wait")
    process.stdout.readline()
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(tree.terminate(1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [0, 3]
    assert tree.members() == []
    finish(process, tree)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_happy_path_does_not_import_psutil() -> None:
    """Telling that a tree is gone costs no import."""
    code = (
        "import subprocess, sys, os; from osiris_core.process_tree import ProcessTree;"
        "p = subprocess.Popen(['true'], start_new_session=True); t = ProcessTree(p.pid, 'A=b');"
        "os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT); assert t.is_gone(); t.close(); p.wait();"
        "sys.exit('psutil' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
