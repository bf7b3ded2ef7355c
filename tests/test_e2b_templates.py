"""The template of a configuration: built once, found by its name, used by every run; and a run without one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from adapters.e2b_cloud import installing, packages, templates
from adapters.e2b_cloud.config import E2BConfig
from adapters.e2b_cloud.packages import FOUND, install_command, why_not
from adapters.e2b_cloud.templates import template_name
from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext
from osiris_core.journal import read_events
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from tests.e2b_server import E2BServer

SQL = {"pipeline": "p", "steps": [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS x"}}]}


def far(server: E2BServer, **more: Any) -> dict[str, Any]:
    return {"api_key": server.api_key, "api_url": server.api_url, "sandbox_url": server.sandbox_url, **more}


def logged(session: Path) -> str:
    events = read_events(session / "events.jsonl")
    return "\n".join(event["message"] for event in events if event["event"] == "log" and event["origin"] == "host")


def test_the_name_says_what_is_in_it() -> None:
    """Other packages, another Python, other processors, other memory: another template; the same is the same."""
    names = {
        template_name(E2BConfig(**settings))
        for settings in (
            {},
            {"requirements": ("polars>=1.20",)},
            {"apt_packages": ("libgomp1",)},
            {"python_version": "3.13"},
            {"cpu": 4},
            {"memory_mb": 4096},
        )
    }
    assert len(names) == 6
    assert template_name(E2BConfig(timeout=100, apt_packages=("bb", "aa"))) == template_name(
        E2BConfig(apt_packages=("aa", "bb"))
    )
    assert all(name.startswith("osiris-worker-") for name in names)


def test_packages_of_drivers_are_in_the_template() -> None:
    """What a driver declares counts like a requirement of the configuration, which wins; a ready one is ready."""
    driver = type("Reader", (), {"run": lambda *_: None, "packages": ("Some_Client>=2", "polars")})
    DriverRegistry.register("templates.reader", driver)
    try:
        bare, named = E2BConfig(), E2BConfig(requirements=("some-client==2.1",))
        here = f"polars=={version('polars')}"  # what this host has is what the sandbox gets
        assert templates.with_packages(bare, ["templates.reader"]).requirements == ("some-client>=2", here)
        assert templates.with_packages(named, ["templates.reader"]).requirements == ("some-client==2.1", here)
        assert templates.with_packages(bare, ["duckdb.processor"]) is bare
        ready = E2BConfig(template="mine")
        assert templates.with_packages(ready, ["templates.reader"]) is ready
    finally:
        DriverRegistry.unregister("templates.reader")


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template of one small package: the building is the test's, not the index's."""
    monkeypatch.setattr(templates, "required_packages", lambda extra: ["idna", *extra])


@pytest.mark.timeout(180)
def test_a_template_is_built_once(e2b_server: E2BServer, few_packages: None) -> None:
    """With its progress, its processors and its memory; the second time nothing is to be done."""
    config = E2BConfig(**far(e2b_server, cpu=2, memory_mb=1024))
    adapter = AdapterFactory.load("e2b")
    lines: list[str] = []
    said = adapter.setup(config, lines.append)
    name = template_name(config)
    assert said is not None
    assert said.startswith(f"built template {name} in ")
    assert lines[0] == f"building template {name}"
    assert len(lines) > 3
    build = next(request for request in e2b_server.seen.requests if request.kind == "template.create")
    body = json.loads(build.body)
    assert (body["cpuCount"], body["memoryMB"]) == (2, 1024)
    before = e2b_server.seen.count()
    assert adapter.setup(config, lines.append) is None
    assert e2b_server.seen.count() == before + 1
    assert adapter.setup(E2BConfig(**far(e2b_server, template="osiris-ready")), lines.append) is None
    assert e2b_server.seen.count() == before + 1
    assert e2b_server.places_of(e2b_server.api_key) == []


@pytest.mark.timeout(180)
def test_a_build_that_fails_is_told(e2b_server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last lines of its log, and what to change."""
    monkeypatch.setattr(templates, "required_packages", lambda extra: list(extra))
    config = E2BConfig(**far(e2b_server, requirements=("no-such-package-of-osiris>=1",)))
    with pytest.raises(SandboxError, match="change requirements") as caught:
        AdapterFactory.load("e2b").setup(config, lambda _: None)
    assert "no-such-package-of-osiris" in str(caught.value)
    assert caught.value.failure_class == "user_error"


@pytest.mark.timeout(180)
def test_a_build_that_failed_is_no_template(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is taken, and nothing else: runs do without, and the next set-up builds it."""
    config = E2BConfig(**far(e2b_server))
    adapter = AdapterFactory.load("e2b")
    monkeypatch.setattr(templates, "required_packages", lambda extra: ["./no-such-folder"])
    with pytest.raises(SandboxError, match="cannot be built"):
        adapter.setup(config, lambda _: None)
    monkeypatch.undo()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with_packages_in(e2b_server, "base")
    with AdapterFactory.create("e2b", config) as made:
        report = made.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert "osiris adapters setup e2b builds the template once" in logged(tmp_path / "s")
    name = template_name(config)
    monkeypatch.setattr(templates, "required_packages", lambda extra: ["idna"])
    monkeypatch.setattr(templates, "template_name", lambda _: name)
    assert (adapter.setup(config, lambda _: None) or "").startswith("built template")
    assert adapter.setup(config, lambda _: None) is None
    assert e2b_server.templates.find(name) is not None


def test_a_run_takes_the_template_of_its_settings(e2b_server: E2BServer, tmp_path: Path) -> None:
    """By its name, without asking first: five requests as with any other."""
    config = E2BConfig(**far(e2b_server, cpu=2, memory_mb=1024))
    with_packages_in(e2b_server, template_name(config))
    with AdapterFactory.create("e2b", config) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    assert report["e2b"]["template"] == template_name(config)
    assert [kind for kind in e2b_server.seen.kinds() if kind != "info"] == [
        "create",
        "start",
        "stdin",
        "download",
        "kill",
    ]


def test_a_python_comes_from_a_template(e2b_server: E2BServer, tmp_path: Path) -> None:
    """One that is asked for and not built is not replaced by another one in silence."""
    with_packages_in(e2b_server, "base")
    with AdapterFactory.create("e2b", **far(e2b_server, python_version="3.19")) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.error is not None
    assert report.error["failure_class"] == "user_error"
    assert "python_version come from a template" in report.error["message"]
    assert e2b_server.sandboxes == {}


@pytest.mark.parametrize("settings", [{"cpu": 8}, {"memory_mb": 8192}])
def test_what_a_template_cannot_give_is_refused(
    e2b_server: E2BServer, tmp_path: Path, settings: dict[str, int]
) -> None:
    """Processors and memory come from a template: a ready one that has others is refused, and says who decides."""
    with AdapterFactory.create("e2b", **far(e2b_server, template="osiris-ready", **settings)) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.error is not None
    assert report.error["failure_class"] == "resource_denied"
    assert "its template decides that" in report.error["message"]
    assert e2b_server.seen.count("start") == 0
    with AdapterFactory.create("e2b", **far(e2b_server, **settings)) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "t")))
    assert report.error is not None
    assert "osiris adapters setup e2b" in report.error["message"]
    assert {sandbox.state for sandbox in e2b_server.sandboxes.values()} == {"gone"}


# Without one.


def with_packages_in(server: E2BServer, name: str) -> None:
    """From now on the template of that name is one whose Python has the packages: no index is needed."""
    ready = server.templates.find("osiris-ready")
    assert ready is not None
    server.templates.ready.append(replace(ready, name=name))


def test_without_a_template_packages_are_installed(e2b_server: E2BServer, tmp_path: Path) -> None:
    """With a warning that says what that costs; the network is open for that moment, and closed before the run."""
    with_packages_in(e2b_server, "base")
    network = {"allow_out": ["10.0.0.1"]}
    with AdapterFactory.create("e2b", **far(e2b_server, network=network)) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.succeeded, report.error
    said = logged(tmp_path / "s")
    assert "a minute of each run" in said
    assert "osiris adapters setup e2b" in said
    kinds = [kind for kind in e2b_server.seen.kinds() if kind != "info"]
    assert kinds == ["create", "create", "start", "network", "start", "stdin", "download", "kill"]
    assert e2b_server.sandbox.create_body["network"] == {"allowPublicTraffic": False, "denyOut": []}
    closed = next(request for request in e2b_server.seen.requests if request.kind == "network")
    assert json.loads(closed.body) == {"allowOut": ["10.0.0.1"], "denyOut": ["0.0.0.0/0"]}
    assert report["e2b"]["template"] == "base"


def test_a_network_that_cannot_be_closed_ends_it(e2b_server: E2BServer, tmp_path: Path) -> None:
    """No run begins in a sandbox that is open when it should not be."""
    with_packages_in(e2b_server, "base")
    e2b_server.faults.answer(r"PUT /sandboxes/.*/network", 500, {"code": 500, "message": "no"}, times=None)
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
    assert report.error is not None
    assert "network cannot be closed" in report.error["message"]
    assert {sandbox.state for sandbox in e2b_server.sandboxes.values()} == {"gone"}
    assert "worker" not in report


def test_a_sandbox_that_could_not_be_closed_does_not_stay(e2b_server: E2BServer, tmp_path: Path) -> None:
    """Also when it takes E2B a while to be rid of it."""
    with_packages_in(e2b_server, "base")
    busy = 503, {"code": 503, "message": "busy"}, {"Retry-After": "0"}
    e2b_server.faults.answer(r"PUT /sandboxes/.*/network", *busy, times=None)
    e2b_server.faults.answer(r"DELETE /sandboxes/", *busy, times=6)
    with AdapterFactory.create("e2b", **far(e2b_server)) as adapter:
        assert adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s"))).status == "failed"
    assert {sandbox.state for sandbox in e2b_server.sandboxes.values()} == {"gone"}


@pytest.mark.parametrize("at_byte", [60, 10_000])
def test_an_installation_is_followed_over_a_break(
    e2b_server: E2BServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_byte: int
) -> None:
    """What it said while nobody listened is asked for once more; it is not begun a second time meanwhile."""
    with_packages_in(e2b_server, "base")
    command = installing.install_command
    slow = f"echo once >> $HOME/installed; for i in $(seq 400); do echo {'x' * 40} >&2; sleep 0.002; done; "
    monkeypatch.setattr(installing, "install_command", lambda *args: slow + command(*args))
    cut = e2b_server.faults.cut("Process/Start$", at_byte=at_byte)
    e2b_server.policy.exit_kept_s = 0.0
    with AdapterFactory.create("e2b", **far(e2b_server, keep=True)) as adapter:
        report = adapter.run(SQL, ExecutionContext(session_dir=str(tmp_path / "s")))
        assert report.succeeded, report.error
        assert cut.hits == 1
        assert report["e2b"]["requests"]["connect"] >= 1
        assert (e2b_server.sandbox.home / "installed").read_text() in ("once\n", "once\nonce\n")
        (left,) = adapter.leftovers([tmp_path / "s"])
        left.remove()


def test_the_command_looks_before_it_installs(tmp_path: Path) -> None:
    """Packages that are there are used as they are; further ones are always installed, each word of theirs quoted."""
    command = install_command("place", ())
    environment = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{FOUND}{Path(sys.executable).parent / 'python3'}"
    more = install_command("place", ("polars>=1.20",))
    assert "if false; then" in more
    assert "'polars>=1.20'" in more


def test_a_python_that_will_not_do_is_told(tmp_path: Path) -> None:
    """Neither a missing one nor an old one is used."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    for path in (str(tmp_path / "nothing"), str(tmp_path)):
        done = subprocess.run(
            ["/bin/bash", "-c", install_command("place", ())], env={"PATH": path, "HOME": str(tmp_path)}, check=False
        )
        assert done.returncode == packages.NO_PYTHON
    assert "no Python 3.11" in why_not(packages.NO_PYTHON, "base", "")
    assert "cannot make environments" in why_not(packages.NO_VENV, "base", "")
    assert "no such wheel" in why_not(1, "base", "first\nno such wheel\n")
