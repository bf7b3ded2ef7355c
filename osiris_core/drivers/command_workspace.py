"""The working directory of a command: files and tables put in before, outputs and artifacts taken out after."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cloning import clone_or_link
from osiris_core.errors import StepError
from osiris_core.paths import PathEscapes, safe_relative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.drivers.command_changes import Snapshot
    from osiris_core.drivers.command_config import CommandConfig
    from osiris_core.step_context import StepContext

MAX_LISTED = 20
LOG_NAMES = frozenset({"stdout.log", "stderr.log"})
KEPT_FOLDER = "workspace"
"""Where among the artifacts changed files of a workspace are."""
CHANGES_EVENT = "workspace.changes"
_GLOB = re.compile(r"[*?\[]")


class Workspace:
    """The working directory of one step; every error names the step and the file."""

    def __init__(self, ctx: StepContext, given: str | None = None) -> None:
        self.root = Path(given) if given is not None else ctx.work_dir
        self._lives_on = given is not None
        self._ctx = ctx
        self._step_id = ctx.step_id
        if given is not None and not self.root.is_dir():
            raise self._error(f"workspace {given} is {'no folder' if self.root.exists() else 'not there'}")

    def add_folders(self, names: list[str]) -> None:
        """Make folders that are not there yet."""
        for name in names:
            try:
                (self.root / safe_relative(name)).mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise self._error(f"folder {name!r} cannot be made: {exc.strerror}") from exc

    def add_files(self, files: list[str] | dict[str, str]) -> None:
        """Copy the files of the configuration in, with their permissions."""
        named = files if isinstance(files, dict) else {Path(path).name: path for path in files}
        for name, source in named.items():
            target = self.root / safe_relative(name)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
            except OSError as exc:
                raise self._error(f"file {name!r} cannot be copied from {source}: {exc.strerror or exc}") from exc

    def add_links(self, links: Mapping[str, str]) -> None:
        """Make symbolic links as they are given, each to something in here."""
        for name, to in links.items():
            link = self.root / safe_relative(name)
            try:
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(to)
            except OSError as exc:
                raise self._error(f"link {name!r} cannot be made: {exc.strerror or exc}") from exc

    def add_inputs(self, inputs: Mapping[str, Any], config: CommandConfig) -> dict[str, str]:
        """Write the step's inputs to `inputs/` and return the environment variables that point to them."""
        variables: dict[str, str] = {}
        for name, value in inputs.items():
            variable = "OSIRIS_INPUT_" + re.sub(r"\W", "_", name, flags=re.ASCII).upper()
            if variable in variables:
                raise self._error(f"input {name!r} and another one would both be {variable}; rename one")
            is_table = hasattr(value, "__arrow_c_stream__")
            path = self._input_path(name, config.input_format if is_table else "json")
            if path.relative_to(self.root).as_posix() in config.files:
                raise self._error(f"input {name!r} would overwrite inputs/{path.name}, which is one of the files")
            try:
                if is_table:
                    from osiris_core.drivers.command_tables import write_input

                    write_input(value, path, config.input_format, self._ctx)
                else:
                    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
            except (ValueError, TypeError) as exc:
                raise self._error(f"input {name!r} cannot be written to {path.name}: {exc}") from exc
            variables[variable] = str(path)
        return variables

    def _input_path(self, name: str, suffix: str) -> Path:
        try:
            path = self.root / "inputs" / safe_relative(f"{name}.{suffix}")
        except PathEscapes as exc:
            raise self._error(f"input {name!r} cannot be a file name: {exc}") from exc
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start_dir(self, working_dir: str | None) -> Path:
        """Where the command starts."""
        if working_dir is None:
            return self.root
        path = self.root / safe_relative(working_dir)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._error(f"working_dir {working_dir!r} cannot be made: {exc.strerror}") from exc
        return path

    def outputs(self, config: CommandConfig) -> dict[str, Any]:
        """The declared outputs; every one that is missing is named in one error."""
        files = {name: self.root / safe_relative(output.path) for name, output in config.outputs.items()}
        unfit = {f"{name} ({config.outputs[name].path})": path for name, path in files.items() if not self._has(path)}
        missing = [shown for shown, path in unfit.items() if not os.path.lexists(path)]
        said = [f"did not write the output {', '.join(missing)}; there is: {self.listing()}"] if missing else []
        said += [f"output {shown} {_unfit(path)}" for shown, path in unfit.items() if shown not in missing]
        if said:
            raise self._error(f"the command succeeded, but {'; '.join(said)}", missing=list(unfit))
        read: dict[str, Any] = {}
        for name, path in files.items():
            from osiris_core.drivers.command_tables import UnreadableOutput, read_output

            output = config.outputs[name]
            try:
                read[name] = read_output(path, output.resolved_format, self._ctx)
            except UnreadableOutput as exc:
                raise self._error(f"output {name!r} ({output.path}) {exc}") from exc
            except StepError as exc:
                raise self._error(f"output {name!r}: {exc}", **exc.details) from exc
        return read

    def _has(self, path: Path) -> bool:
        """Whether it is a regular file of this directory, not a link out of it."""
        return path.is_file() and path.resolve().is_relative_to(self.root.resolve())

    def listing(self) -> str:
        """The first files of the directory, for people."""
        names: list[str] = []
        for path in _files_below(self.root):
            if len(names) == MAX_LISTED:
                return ", ".join([*sorted(names), "…"])
            names.append(path.relative_to(self.root).as_posix())
        return ", ".join(sorted(names)) or "nothing"

    def keep_artifacts(self, patterns: list[str], artifacts_dir: Path) -> list[str]:
        """
        Put every file that a pattern names (a folder: all below it) among the artifacts, under its relative path.

        Returns what went wrong, a sentence each: a plain path that is not there, the name of a log.
        """
        problems = []
        for pattern in patterns:
            relative = safe_relative(pattern).as_posix()
            # A name with brackets in it is first taken as what it says.
            found = [self.root / relative] if os.path.lexists(self.root / relative) else []
            if not found and _GLOB.search(relative):
                found = sorted(self.root.glob(relative))
            elif not found:
                problems.append(f"artifact {pattern!r} was not written; there is: {self.listing()}")
            for path in found:
                for file in _files_below(path):
                    problems += self._keep(file, artifacts_dir / file.relative_to(self.root))
        return problems

    def keep_changes(self, before: Snapshot, artifacts_dir: Path, *, tell: bool) -> None:
        """
        Put every file that is new or other than before among the artifacts, below `workspace/`.

        With `tell` the rest of what changed becomes an event, for whoever brings it home.
        """
        changes = before.changes()
        links: dict[str, str] = {}
        for name in changes.files:
            if tell and (self.root / name).is_symlink():
                links[name] = os.readlink(self.root / name)  # noqa: PTH115 - as it is
            for problem in self._keep(self.root / name, artifacts_dir / KEPT_FOLDER / name):
                self._ctx.log(problem, level="warning")
        if tell and (changes.removed or changes.folders or links):
            removed, folders = list(changes.removed), list(changes.folders)
            self._ctx.event(CHANGES_EVENT, removed=removed, folders=folders, links=links)

    def _keep(self, file: Path, target: Path) -> list[str]:
        name = file.relative_to(self.root)
        if not self._has(file):
            return [f"artifact {name} is not a file of the working directory"]
        source = file.resolve()
        if target.name in LOG_NAMES and target.parent == self._ctx.artifacts_dir and os.path.lexists(target):
            return [f"artifact {name} has the name of the log that is already there"]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # named by two patterns, or left by an earlier attempt
            self._put(source, target)
        except OSError as exc:
            return [f"artifact {name} cannot be kept: {exc.strerror or exc}"]
        return []

    def _put(self, source: Path, target: Path) -> None:
        """
        A folder that lives on will change, and an artifact must not: it is a copy. A private one goes with its step, so
        another name will do; at once, whatever its size, and an output of the step can still be read.
        """
        if self._lives_on:
            if not clone_or_link(source, target):
                name = source.relative_to(self.root.resolve())
                self._ctx.log(f"artifact {name} is the file in the workspace itself, not a copy", level="warning")
            return
        try:
            os.link(source, target)
        except OSError:
            shutil.copy(source, target)

    def _error(self, message: str, **details: Any) -> StepError:
        return StepError(message, step_id=self._step_id, details=details)


def _unfit(path: Path) -> str:
    """Why what is there is no file of the working directory."""
    if path.is_symlink():
        return f"is a link to {os.readlink(path)}, which is no file of the working directory"  # noqa: PTH115
    return "is a folder" if path.is_dir() else "is no file of the working directory"


def _files_below(path: Path) -> Iterator[Path]:
    """The path itself, or everything but folders below it, in a stable order; links to folders are not entered."""
    if not stat.S_ISDIR(path.lstat().st_mode):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))
