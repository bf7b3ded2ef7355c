"""A session directory: one owner at a time, attempts that count on, and what a fork or a bad file does to it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time

import pytest

from osiris_core.errors import SessionBusy
from osiris_core.session import Session, is_owned


def test_a_forked_child_that_outlives_the_run_does_not_own_the_session(tmp_path):
    """A pool of worker processes that a driver left behind keeps nobody out."""
    session = Session.open(str(tmp_path / "s"), "s")
    pid = os.fork()
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    try:
        assert is_owned(session.layout)
        session.close()
        assert not is_owned(session.layout)
        Session.open(str(tmp_path / "s"), "s").close()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"attempt": "x"}', '{"attempt": null}'])
def test_attempts_count_on_when_run_json_is_lost(tmp_path, content):
    """The journal is asked then, so that no two attempts have one number."""
    for _ in range(2):
        session = Session.open(str(tmp_path / "s"), "s")
        session.record_intent({}, "local")
        session.journal.origin("host").emit("run.start")
        session.close()
    (tmp_path / "s" / "run.json").unlink()
    if content is not None:
        (tmp_path / "s" / "run.json").write_text(content)
    session = Session.open(str(tmp_path / "s"), "s")
    session.close()
    assert session.attempt == 3


def test_a_file_system_without_locks_is_not_called_busy(tmp_path, monkeypatch):
    """Only a held lock means that somebody runs here; anything else is the error that it is, and leaks nothing."""

    def refused(fd, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        with pytest.raises(OSError, match="No locks available") as caught:
            Session.open(str(tmp_path / "s"), "s")
    assert not isinstance(caught.value, SessionBusy)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("in_place", ["events.jsonl", "session.lock"])
def test_a_directory_where_a_file_should_be(tmp_path, in_place):
    """Opening fails with the system's reason and leaves no lock and no descriptor behind."""
    (tmp_path / "s" / in_place).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="directory"):
        Session.open(str(tmp_path / "s"), "s")
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "s" / in_place).rmdir()
    Session.open(str(tmp_path / "s"), "s").close()


def test_closing_twice_and_the_work_directory(tmp_path):
    """What only the run needed is gone after the first close; the second does nothing."""
    session = Session.open(str(tmp_path / "s"), "s")
    (session.layout.work_dir / "deep").mkdir(parents=True)
    session.close()
    session.close()
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["events.jsonl", "session.lock"]


def test_intent_is_written_before_anything_starts(tmp_path):
    """`run.json` says who runs what, `status.json` that it runs."""
    session = Session.open(str(tmp_path / "s"), "s")
    session.record_intent({"name": "žluťoučký"}, "local")
    session.close()
    run = json.loads((tmp_path / "s" / "run.json").read_text())
    assert (run["pid"], run["attempt"], run["prepared"]) == (os.getpid(), 1, {"name": "žluťoučký"})
    assert json.loads((tmp_path / "s" / "status.json").read_text())["status"] == "running"


def test_what_has_to_outlive_a_power_cut_is_on_the_disk(tmp_path, monkeypatch):
    """The token of what is made elsewhere: first the content, then its name; anything else is quicker without."""
    session = Session.open(str(tmp_path / "s"), "s")
    synced = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    session.record(native_id="x")
    assert synced == []
    session.record(token="t", durable=True)
    file, folder = synced
    assert file.startswith(f"{tmp_path}/s/.run.json")
    assert folder == f"{tmp_path}/s"
    session.close()
