"""Verbose logging in the surroundings that users of structlog have."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

CONFIGURATIONS = {
    "default": "",
    "stdlib": """
        import logging
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        logging.getLogger().handlers[0].setFormatter(logging.Formatter(
            "%(name)s %(message)s %(session_id)s %(run_id)s %(step_id)s",
            defaults={"session_id": "-", "run_id": "-", "step_id": "-"}))
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_log_level,
                        structlog.stdlib.render_to_log_kwargs],
            logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
    """,
    "json": """
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
    """,
    "broken": """
        def broken(*_):
            raise RuntimeError("this processor is broken")
        structlog.configure(processors=[broken])
    """,
}


@pytest.mark.parametrize("name", ["default", "stdlib", "json"])
def test_each_event_is_logged_with_its_ids(tmp_path, name):
    """Events of the run, a driver's lines and metrics among them, carry session, run and step."""
    lines = run_verbosely(tmp_path, name).splitlines()
    for event in ("run.start", "step.start", "log", "metric", "step.complete", "run.complete"):
        (line,) = [line for line in lines if re.search(rf'(?:\]|"event": "|^osiris) ?{re.escape(event)}\b', line)]
        assert "the-session/1" in line
        assert event.startswith("run.") or "the-step" in line


def test_logging_that_fails_does_not_disturb_the_run(tmp_path):
    """A broken processor of the user's costs the log lines, not the run."""
    assert run_verbosely(tmp_path, "broken") == ""


def run_verbosely(tmp_path, name: str) -> str:
    script = f"""
        import sys
        import structlog
{CONFIGURATIONS[name]}
        from osiris_core import AdapterFactory, DriverRegistry, ExecutionContext
        class Tells:
            def run(self, step_id, config, inputs, ctx):
                ctx.log("a line", detail=1)
                ctx.metric("things", 3)
        DriverRegistry.register("t.tells", Tells)
        context = ExecutionContext(session_id="the-session", session_dir={str(tmp_path / "s")!r}, verbose=True)
        report = AdapterFactory.create("local").run({{"steps": [{{"id": "the-step", "driver": "t.tells"}}]}}, context)
        assert report.succeeded, report.error
    """
    environment = {"NO_COLOR": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", textwrap.dedent(script.replace(CONFIGURATIONS[name], indented(name)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def indented(name: str) -> str:
    return textwrap.indent(textwrap.dedent(CONFIGURATIONS[name]), " " * 8)
