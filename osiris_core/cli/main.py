"""The `osiris` script."""

from __future__ import annotations

import gc
import io
import sys

import click

from osiris_core import __version__
from osiris_core.cli import exits, stdout
from osiris_core.cli.command import LazyGroup

_HERE = "osiris_core.cli"
COMMANDS = {
    "run": (f"{_HERE}.run:run", "Run a manifest, or a model, and print what came of it.", False),
    "plan": (f"{_HERE}.plan:plan", "Show what a run would do, without doing any of it.", False),
    "explain": (f"{_HERE}.explain:explain", "Say why steps would run again, or why not.", False),
    "pipeline": (f"{_HERE}.pipeline:pipeline", "Generate, run and postprocess a model.", False),
    "postprocess": (f"{_HERE}.postprocess:postprocess", "Postprocess what a model run left.", False),
    "schema": (f"{_HERE}.schema:schema", "Print the JSON Schema of a manifest or a configuration.", False),
    "runs": (
        f"{_HERE}.runs:runs",
        "Look at runs, go on with them, stop them.",
        False,
    ),
    "drivers": (f"{_HERE}.drivers:drivers", "Look at drivers: list, show.", False),
    "adapters": (
        f"{_HERE}.adapters:adapters",
        "Look at places to run and what is around; configure.",
        False,
    ),
    "backends": (f"{_HERE}.adapters:adapters", "The same as `adapters`.", True),
    "conformance": (
        f"{_HERE}.conformance:conformance",
        "Check that an adapter keeps what every adapter promises.",
        False,
    ),
    "doctor": (f"{_HERE}.doctor:doctor", "Check this installation and what it may use.", False),
}


@click.group(cls=LazyGroup, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="osiris")
def cli() -> None:
    """
    One manifest, one result, anywhere.

    Results go to standard output, progress and messages to standard error. Exit codes: 0 completed, 1 failed, 2 bad
    input, 124 timeout, 130 cancelled.
    """


def main() -> None:
    """Run the command line of this process and exit with its code; no expected error is a traceback."""
    # What imports make stays: looking for garbage among it every 700 objects costs 20 ms a start.
    gc.set_threshold(50_000)
    as_json = "--json" in sys.argv[1:]
    try:
        result = cli.main(standalone_mode=False, prog_name="osiris")
        code = result if isinstance(result, int) else exits.COMPLETED
    except click.ClickException as exc:
        shown = io.StringIO()
        exc.show(file=shown)
        stdout.say(shown.getvalue().rstrip("\n"))
        if as_json:
            stdout.write_json({"status": "invalid", "problems": [{"message": exc.format_message()}]})
        code = exits.BAD_INPUT
    except click.Abort:
        stdout.say("osiris: interrupted")
        code = exits.CANCELLED
    except Exception as exc:  # noqa: BLE001 - the last line of defence: a bug of ours is said to be one
        code = exits.report_crash(exc, as_json=as_json)
    stdout.finish(exits.FAILED if code == exits.COMPLETED and stdout.result_lost() else code)


if __name__ == "__main__":
    main()
