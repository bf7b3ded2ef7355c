"""The page about the command line is true: its examples run, and it leaves nothing out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click

from osiris_core.cli.main import COMMANDS, cli

PAGE = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^\$ (?P<command>.+?)(?:  # exit (?P<code>\d+))?$", re.MULTILINE)


def test_every_example_runs(tmp_path: Path) -> None:
    """Each example ends with the exit code it is shown with, and those with --json print one document."""
    manifest = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert manifest is not None
    (tmp_path / "manifest.yaml").write_text(manifest[1])
    for name, text in re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    clean = {name: value for name, value in os.environ.items() if name not in ("OSIRIS_HOME", "NOT_SET")}
    script = f'osiris() {{ "{sys.executable}" -m osiris_core.cli.main "$@"; }}; '
    examples = list(EXAMPLE.finditer(PAGE))
    assert len(examples) > 20
    for example in examples:
        done = subprocess.run(
            ["bash", "-c", script + example["command"]],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == int(example["code"] or 0), (example["command"], done.stderr)
        if "--json" in example["command"]:
            json.loads(done.stdout)
        if "NOT_SET" in example["command"]:
            assert done.stderr in PAGE


def test_every_command_and_option_is_described() -> None:
    """Every command has an example, every option of those with a table of options a row."""
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        commands = [f"{name} {inner}" for inner in command.commands] if isinstance(command, click.Group) else [name]
        for example in commands:
            if not example.startswith("backends "):
                assert f"$ osiris {example}" in PAGE, example
    for parameter in with_a_table():
        assert any(f"| `{option}" in PAGE for option in parameter.opts), parameter.opts


def with_a_table() -> list[click.Option]:
    """The options of the commands whose options have a table."""
    commands = [cli.get_command(None, name) for name in ("run", "conformance")]  # type: ignore[arg-type]
    return [item for command in commands if command for item in command.params if isinstance(item, click.Option)]


def test_every_row_of_an_option_table_is_an_option() -> None:
    """No table describes an option that is not there."""
    known = {option for parameter in with_a_table() for option in parameter.opts}
    assert set(re.findall(r"^\| `(-{1,2}[a-z\-]+)", PAGE, re.MULTILINE)) <= known
