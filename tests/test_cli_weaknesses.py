"""What went wrong on the command lines of systems like this one, and cannot here: each test makes it happen again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.models.registries import CONFIGS, PIPELINES, POSTPROCESSOR_CONFIGS

if TYPE_CHECKING:
    from pathlib import Path

OSIRIS = [sys.executable, "-m", "osiris_core.cli.main"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text("run_id: tides\ncommand: 'echo 1 > outputs/level'\n")
    (tmp_path / "local.yaml").write_text("type: local\ntimeout: 60\n")
    return tmp_path


def osiris(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OSIRIS_")}
    return subprocess.run(
        [*OSIRIS, *arguments],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_success_is_visible(folder: Path) -> None:
    """Without any flag each command says on standard output what came of it; with --json that is one document."""
    for words, arguments in {
        "generated  tides": ("run", "--model-run", "model.yaml", "--dry-run"),
        "completed  tides": ("run", "--model-run", "model.yaml"),
        "No postprocessing requested": ("postprocess", "model.yaml"),
        "generate, run, postprocess done": ("pipeline", "model.yaml"),
        "local.yaml:1: backend 'local': valid": ("backends", "validate", "local.yaml"),
        "archive": ("backends", "list"),
        "new.yaml": ("backends", "create", "local", "--output", "new.yaml"),
    }.items():
        done = osiris(folder, *arguments)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        assert "started" not in done.stdout, "progress is not among the results"
        (folder / "new.yaml").unlink(missing_ok=True)
        assert json.loads(osiris(folder, *arguments, "--json").stdout)


def test_the_exit_code_is_the_outcome(folder: Path) -> None:
    """Never 0 when something failed; 2 for what was asked for wrongly, wherever that is found."""
    (folder / "fails.yaml").write_text("run_id: fails\ncommand: 'exit 3'\n")
    (folder / "odd.yaml").write_text("type: local\ntimeout: 1\n")
    for code, arguments in (
        (1, ("postprocess", "model.yaml")),  # there are no outputs yet
        (1, ("run", "--model-run", "fails.yaml")),
        (1, ("pipeline", "fails.yaml")),
        (1, ("postprocess", "fails.yaml")),
        (2, ("backends", "validate", "odd.yaml")),
        (2, ("run", "--model-run", "model.yaml", "--skip-generate", "--dry-run")),
        (2, ("run", "--model-run", "model.yaml", "--config", "odd.yaml")),
        (2, ("pipeline", "model.yaml", "--processor", "archvie")),
        (2, ("backends", "schema")),
    ):
        done = osiris(folder, *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "completed" not in done.stdout


def test_a_flag_that_is_not_given_overrides_nothing(folder: Path) -> None:
    """What the file says holds, until the flag is there."""
    (folder / "lax.yaml").write_text("type: noop\nvalidate_outputs: false\n")
    lax = ("postprocess", "model.yaml", "--processor-config", "lax.yaml")
    assert osiris(folder, *lax).returncode == 0
    assert osiris(folder, *lax, "--validate-outputs").returncode == 1
    (folder / "pipeline.yaml").write_text(
        "config: {run_id: p, command: 'exit 1'}\nbackend: {type: local}\npostprocessor: {type: noop}\n"
        "cleanup_on_failure: true\n"
    )
    assert osiris(folder, "pipeline", "pipeline.yaml").returncode == 1
    assert not (folder / "simulations" / "p").exists(), "cleanup_on_failure of the file held"


NAMES: list[tuple[str, str, tuple[str, ...]]] = [
    *(("backend", name, ("--backend-type", name)) for name in CONFIGS.names()),
    *(("postprocessor", name, ("--processor-type", name)) for name in POSTPROCESSOR_CONFIGS.names()),
    *(("pipeline", name, ()) for name in PIPELINES.names()),
]


@pytest.mark.parametrize(("kind", "name", "by_type"), NAMES, ids=lambda item: item if isinstance(item, str) else "")
def test_every_command_knows_every_name(folder: Path, kind: str, name: str, by_type: tuple[str, ...]) -> None:
    """What the registry has is listed, shown, created, described and accepted; with its type given twice, too."""
    rows: list[dict[str, Any]] = json.loads(osiris(folder, "backends", "list", "--json").stdout)
    assert name in {row["name"] for row in rows if row["kind"] in (kind, {"backend": "adapter"}.get(kind))}
    for command in (("show",), ("schema",), ("create", "--output", "made.yaml")):
        done = osiris(folder, "backends", command[0], name, "--kind", kind, *command[1:])
        assert done.returncode == 0, done.stderr
    assert osiris(folder, "backends", "validate", "made.yaml").returncode == 0
    if by_type:
        assert osiris(folder, "backends", "validate", "made.yaml", *by_type).returncode == 0
        assert osiris(folder, "backends", "schema", *by_type).returncode == 0


def test_what_errors_advise_exists(folder: Path) -> None:
    """The commands and names that a message sends its reader to are there."""
    unknown = osiris(folder, "backends", "schema", "nosuch")
    assert unknown.returncode == 2
    assert "there is no adapter, backend, postprocessor or pipeline 'nosuch'" in unknown.stderr
    near = osiris(folder, "backends", "show", "lcal")
    assert "did you mean 'local'" in near.stderr
    assert osiris(folder, "backends", "show", "local").returncode == 0
