"""No secret value in any file of a session, on either stream, or in an exception, in any of its forms."""

from __future__ import annotations

import base64
import logging
import pickle
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from pydantic import BaseModel, SecretStr

from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext, ExecutionError, LocalAdapter, read_events

SECRET = "hunter2/Šárka&co+more"
FORMS = [
    SECRET.encode(),
    base64.b64encode(SECRET.encode()),
    base64.b64encode(b"user:" + SECRET.encode())[8:-8],
    quote_plus(SECRET).encode(),
    SECRET.encode().hex().encode(),
]


class Tells:
    """Does with its secret what a careless driver does."""

    def run(self, step_id, config, inputs, ctx):
        value = config["password"]
        assert value == SECRET
        ctx.log(f"connecting with {value}", dsn=f"db://user:{quote_plus(value)}@host/x")
        ctx.event("login", password=value, header=base64.b64encode(f"user:{value}".encode()).decode())
        ctx.metric("logins", 1, password=value)
        print(f"using {value}")
        if config.get("fail"):
            try:
                raise ConnectionError(f"cannot log in as user:{value}")
            except ConnectionError as exc:
                raise RuntimeError(f"giving up: {base64.b64encode(value.encode()).decode()}") from exc
        return {"who": f"{value}"} if config.get("give") else None


class MarkedConfig(BaseModel):
    password: SecretStr


class Marked:
    """Its model says which field is secret, and gets it in clear only in memory."""

    Config = MarkedConfig

    def run(self, step_id, config, inputs, ctx):
        assert config.password.get_secret_value() == SECRET
        raise ValueError(f"bad password {config.password.get_secret_value()}")


@pytest.fixture(autouse=True)
def drivers():
    DriverRegistry.register("t.tells", Tells)
    DriverRegistry.register("t.marked", Marked)
    yield
    DriverRegistry.unregister("t.tells")
    DriverRegistry.unregister("t.marked")


def assert_no_secret_in(data: bytes, where: str) -> None:
    for form in FORMS:
        assert form not in data, f"{form!r} in {where}"


def assert_no_secret_below(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_no_secret_in(path.read_bytes(), str(path))
        assert_no_secret_in(str(path).encode(), "a file name")


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("source", ["environment", "process", "connection", "literal connection"])
def test_wherever_it_comes_from(tmp_path, monkeypatch, source, fail):
    """A secret by --env, from the process's environment, by a connection's variable or written in a connection."""
    config = {"password": "${DB_PASSWORD}", "fail": fail}
    environment = {}
    if source == "environment":
        environment = {"DB_PASSWORD": SECRET}
    else:
        monkeypatch.setenv("DB_PASSWORD", SECRET)
    if "connection" in source:
        written = SECRET if source.startswith("literal") else "${DB_PASSWORD}"
        (tmp_path / "c.yaml").write_text(f"connections:\n  db:\n    main: {{host: h, password: '{written}'}}\n")
        config = {"connection": "@db.main", "fail": fail}

        class ByConnection(Tells):
            def run(self, step_id, config, inputs, ctx):
                return super().run(step_id, {**config["resolved_connection"], **config}, inputs, ctx)

        DriverRegistry.unregister("t.tells")
        DriverRegistry.register("t.tells", ByConnection)
    session = ExecutionContext(
        session_dir=str(tmp_path / "session"),
        environment=environment,
        connections=str(tmp_path / "c.yaml") if "connection" in source else None,
        checkpoint="always",
    )
    adapter = LocalAdapter()
    prepared = adapter.prepare({"steps": [{"id": "a", "driver": "t.tells", "config": config}]}, session)
    assert_no_secret_in(repr(prepared).encode(), "repr")
    assert_no_secret_in(pickle.dumps(prepared), "pickle")
    assert_no_secret_in(repr(session).encode(), "the context's repr")
    if fail:
        with pytest.raises(ExecutionError) as caught:
            adapter.execute(prepared, session)
        shown = "".join(traceback.format_exception(caught.value))
        assert "giving up" in shown
        assert_no_secret_in(shown.encode(), "the exception with its causes")
    else:
        adapter.execute(prepared, session)
    report = adapter.collect(prepared, session)
    assert_no_secret_in(repr(report.to_json()).encode(), "the report")
    assert_no_secret_below(tmp_path / "session")
    start = next(read_events(tmp_path / "session" / "events.jsonl"))
    assert any("password" in name.lower() for name in start["secret_names"]), "the audit says which names were given"


def test_a_literal_in_a_field_that_is_marked_secret(tmp_path):
    """A password written into the manifest itself goes by a name from prepare on."""
    manifest = {"steps": [{"id": "a", "driver": "t.marked", "config": {"password": SECRET}}]}
    report = AdapterFactory.create("local").run(manifest, ExecutionContext(session_dir=str(tmp_path / "session")))
    assert "bad password ***" in report.error["message"]
    assert report["secret_names"] == ["@a.config.password"]
    assert_no_secret_below(tmp_path / "session")


def test_neither_stream_of_a_verbose_run(tmp_path):
    """With verbose logging of every event, neither stdout nor stderr of the process shows the value, but for prints."""
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext
        class Tells:
            def run(self, step_id, config, inputs, ctx):
                ctx.log("with " + config["password"])
                raise RuntimeError("no: " + config["password"])
        DriverRegistry.register("t.tells", Tells)
        context = ExecutionContext(session_dir=sys.argv[1], verbose=True, environment={{"PW": sys.argv[2]}})
        report = AdapterFactory.create("local").run(
            {{"steps": [{{"id": "a", "driver": "t.tells", "config": {{"password": "${{PW}}"}}}}]}}, context)
        print(dict(report))
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s"), SECRET], capture_output=True, check=True)
    assert b"step.error" in done.stdout + done.stderr
    assert_no_secret_in(done.stdout, "stdout")
    assert_no_secret_in(done.stderr, "stderr")


def test_undeclared_variables_do_not_travel(tmp_path, monkeypatch):
    """A step sees declared variables and the six standard ones, and a command's process sees no more than that."""
    monkeypatch.setenv("OSIRIS_TEST_UNDECLARED", SECRET)
    seen: dict[str, str] = {}

    class Sees:
        def run(self, step_id, config, inputs, ctx):
            seen.update(ctx.environment)

    DriverRegistry.register("t.sees", Sees)
    steps = [
        {"id": "sees", "driver": "t.sees"},
        {"id": "command", "driver": "command", "config": {"argv": ["env"]}},
    ]
    session = ExecutionContext(session_dir=str(tmp_path / "session"), environment={"DECLARED": "yes"})
    try:
        report = AdapterFactory.create("local").run({"steps": steps}, session)
    finally:
        DriverRegistry.unregister("t.sees")
    assert report.succeeded
    assert set(seen) == {"DECLARED", "PATH", "HOME", "LANG", "LC_ALL", "TZ"}
    printed = (tmp_path / "session" / "artifacts" / "command" / "stdout.log").read_text()
    assert "DECLARED=yes" in printed
    assert "OSIRIS_TEST_UNDECLARED" not in printed
    assert_no_secret_below(tmp_path / "session")


def test_short_and_common_values_leave_the_report_readable(tmp_path):
    """Values such as `1`, `true` and `test` are masked by the field they stand in, not wherever they occur."""
    manifest = {
        "pipeline": "test",
        "steps": [{"id": "test-1", "driver": "command", "config": {"shell": "echo 1 true test", "env": {"A": "${A}"}}}],
    }
    session = ExecutionContext(
        session_dir=str(tmp_path / "session"), environment={"A": "1", "B": "true", "PASSWORD": "test"}
    )
    report = AdapterFactory.create("local").run(manifest, session)
    assert report.succeeded
    assert "***" not in repr(report.to_json())
    assert (tmp_path / "session" / "artifacts" / "test-1" / "stdout.log").read_text() == "1 true test\n"


def test_importing_and_running_configures_no_logging(tmp_path):
    """Handlers of the root logger stay as they were."""
    before = list(logging.getLogger().handlers)
    AdapterFactory.create("local").run(
        {"steps": [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1"}}]},
        ExecutionContext(session_dir=str(tmp_path / "session")),
    )
    assert logging.getLogger().handlers == before
