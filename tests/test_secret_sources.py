"""Where `${NAME}` gets its value: the environment, then the system's real keyring; asked anew by each execution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, PreparationError
from osiris_core.prepared import PreparedRun
from osiris_core.secret_sources import find_value, how_to_give
from tests.test_secret_leaks import assert_no_secret_below

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD, NEW = "hunter2-of-last-month", "hunter2/Šárka&co+more"
MANIFEST: dict[str, Any] = {"steps": [{"id": "a", "driver": "t.shows", "config": {"token": "${SHOP_TOKEN}"}}]}


class Shows:
    """Keeps the value that it was given, where the test can see it."""

    seen: list[str] = []  # noqa: RUF012 - the test's own

    def run(self, step_id: str, config: Any, inputs: Any, ctx: Any) -> None:
        self.seen.append(config["token"])
        ctx.log(f"with {config['token']}")


@pytest.fixture(autouse=True)
def driver() -> Iterator[None]:
    Shows.seen.clear()
    DriverRegistry.register("t.shows", Shows)
    yield
    DriverRegistry.unregister("t.shows")


def test_a_value_is_read_when_the_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was changed between prepare and execute is used, and masked; one that was declared stays."""
    monkeypatch.setenv("SHOP_TOKEN", OLD)
    adapter = AdapterFactory.create("local")
    context = ExecutionContext(session_dir=str(tmp_path / "session"))
    prepared = adapter.prepare(MANIFEST, context)
    monkeypatch.setenv("SHOP_TOKEN", NEW)
    adapter.execute(prepared, context)
    assert adapter.collect(prepared, context).succeeded
    assert Shows.seen == [NEW]
    assert_no_secret_below(tmp_path / "session")
    declared = ExecutionContext(session_dir=str(tmp_path / "declared"), environment={"SHOP_TOKEN": OLD})
    assert adapter.run(MANIFEST, declared).succeeded
    assert Shows.seen == [NEW, OLD]
    prepared = adapter.prepare(MANIFEST, declared)
    adapter.execute(prepared, replace(declared, environment={"SHOP_TOKEN": NEW}))
    assert Shows.seen == [NEW, OLD, NEW], "what the caller says last counts"
    assert adapter.collect(prepared, declared).succeeded


def test_the_same_prepared_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each execution reads it anew, also of a run that went through JSON; one that is gone keeps its value."""
    monkeypatch.setenv("SHOP_TOKEN", OLD)
    adapter = AdapterFactory.create("local")
    prepared = adapter.prepare(MANIFEST, ExecutionContext(session_dir=str(tmp_path / "prepared")))
    for number, value in enumerate((OLD, NEW)):
        monkeypatch.setenv("SHOP_TOKEN", value)
        context = ExecutionContext(session_dir=str(tmp_path / f"session-{number}"))
        restored = PreparedRun.from_json(prepared.to_json())
        adapter.execute(restored, context)
        adapter.collect(restored, context)
    monkeypatch.delenv("SHOP_TOKEN")
    context = ExecutionContext(session_dir=str(tmp_path / "gone"))
    adapter.execute(prepared, context)
    adapter.collect(prepared, context)
    assert Shows.seen == [OLD, NEW, OLD]
    lost = PreparedRun.from_json(prepared.to_json())
    with pytest.raises(PreparationError, match="SHOP_TOKEN has no value here"):
        adapter.execute(lost, ExecutionContext(session_dir=str(tmp_path / "lost")))


def test_without_a_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, or there is no keyring, only the environment counts, and nothing fails."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setenv("SHOP_TOKEN", OLD)
    assert find_value("SHOP_TOKEN") == OLD
    monkeypatch.delenv("SHOP_TOKEN")
    assert find_value("SHOP_TOKEN") is None
    monkeypatch.setattr("osiris_core.secret_sources.find_spec", lambda name: None)
    assert find_value("SHOP_TOKEN") is None
    assert how_to_give("SHOP_TOKEN") == "export it or pass --env SHOP_TOKEN"


def in_session(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a session bus of its own, with a real keyring that is open and empty."""
    pytest.importorskip("keyring")
    for command in ("dbus-run-session", "gnome-keyring-daemon"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed: bash .ci/keyring")
    folder.mkdir(mode=0o700)
    keyring = f"{sys.executable} -m keyring"
    begin = f"""
        set -e
        printf pw | gnome-keyring-daemon --unlock --foreground --components=secrets >/dev/null 2>&1 &
        trap 'kill $!' EXIT
        keyring() {{ {keyring} "$@"; }}
        osiris() {{ {sys.executable} -m osiris_core.cli.main "$@"; }}
        for _ in $(seq 100); do
          printf %s "$OLD" | keyring set osiris SHOP_TOKEN 2>/dev/null && break
          sleep 0.05
        done
    """
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "OLD": OLD,
        "NEW": NEW,
    }
    return subprocess.run(
        ["dbus-run-session", "--", "bash", "-c", textwrap.dedent(begin) + textwrap.dedent(script)],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_keyring_of_the_system(tmp_path: Path) -> None:
    """A value that only the keyring has reaches the step, the changed one too, and stands in no file and no stream."""
    (tmp_path / "m.yaml").write_text(
        "steps:\n  - id: a\n    driver: command\n    config:\n"
        "      env: {TOKEN: '${SHOP_TOKEN}', OTHER: '${OTHER:-none}'}\n"
        '      shell: \'printf %s "$TOKEN" | sha256sum; echo "$OTHER"\'\n'
    )
    run = f"osiris run {tmp_path}/m.yaml --adapter process --session-dir {tmp_path}"
    done = in_session(
        tmp_path / "home",
        f"""
        {run}/first
        printf %s "$NEW" | keyring set osiris SHOP_TOKEN
        {run}/second
        SHOP_TOKEN=from-the-environment {run}/third
        keyring del osiris SHOP_TOKEN
        {run}/fourth || echo "exit $?"
        """,
    )
    assert done.stdout.endswith("exit 2\n"), done.stderr
    assert "the variable SHOP_TOKEN is not set" in done.stderr
    assert "keyring set osiris SHOP_TOKEN" in done.stderr
    printed = [(tmp_path / name / "artifacts/a/stdout.log").read_text() for name in ("first", "second", "third")]
    for text, value in zip(printed, (OLD, NEW, "from-the-environment"), strict=True):
        assert text == f"{_sha256(value)}  -\nnone\n"
    for name in ("first", "second"):
        assert_no_secret_below(tmp_path / name)
        assert all(OLD.encode() not in path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file())
    assert OLD not in done.stdout + done.stderr
    assert NEW not in done.stdout + done.stderr


def _sha256(value: str) -> str:
    import hashlib

    return hashlib.sha256(value.encode()).hexdigest()
