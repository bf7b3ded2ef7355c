"""One step on its way into a `PreparedRun`: what its driver takes, what it refers to, and everything wrong with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from osiris_core.artifacts import in_the_way
from osiris_core.collection import paths_in
from osiris_core.driver import DriverRegistry, config_model
from osiris_core.driver_packages import missing_packages, remedy
from osiris_core.errors import Problem, UnknownDriver
from osiris_core.lifting import lift, lift_known, marked_in_connection, marked_secret_fields
from osiris_core.parameters import ParameterError, put_in_parameters
from osiris_core.paths import PathEscapes, hidden_path_fields, path_fields, safe_relative, with_path_defaults
from osiris_core.pydantic_words import findings
from osiris_core.sealing import seal
from osiris_core.secrets import references, substitute
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from osiris_core.manifest import Step
    from osiris_core.preparation import Preparation


@dataclass
class StepPreparation:
    """The step that stands at `index` of its manifest. `run` takes what becomes of it, and its problems."""

    run: Preparation
    index: int
    step: Step
    driver: type[Any] = field(init=False)
    config: dict[str, Any] = field(init=False)
    connection: dict[str, Any] = field(init=False)

    def report(self, key: str, message: str, hint: str | None = None) -> None:
        """A problem of what stands at `key` in the step."""
        manifest = self.run.manifest
        line = manifest.line_of("steps", self.index, *(key.split(".") if key else ()))
        self.run.problems.append(Problem(message, self.step.id, key or None, manifest.file, line, hint))

    def prepare(self, params: Mapping[str, Any]) -> None:
        """Everything about the step is in `run` on return."""
        step = self.step
        try:
            self.config = put_in_parameters(step.config, params)
        except ParameterError as exc:
            for name, message, hint in exc.found:
                self.report("config", f"{message} (${{params.{name}}})", hint)
            self.run.look_up(step.id, step.config)
            return
        try:
            self.driver = DriverRegistry.get(step.driver)
        except UnknownDriver as exc:
            self.report("driver", str(exc))
            self.run.configs[step.id] = self.config
            return
        self._inputs()
        self._packages()
        model = config_model(self.driver)
        if model is not None:
            if hidden := hidden_path_fields(model):
                message = f"its configuration has path fields where they are not found: {', '.join(hidden)}"
                self.report("driver", message)
            self.config = with_path_defaults(model, self.config)
        marked = marked_secret_fields(model) if model else frozenset()
        self.config = lift(self.config, f"@{step.id}.config", marked, self.run.values)
        self.connection = self._connection()
        self.run.look_up(step.id, [self.config, self.connection])
        if self.run.manifest.compiled and self.run.allow_sql_files and model and "allow_files" in model.model_fields:
            self.config.setdefault("allow_files", True)
        self.run.configs[step.id] = self.config
        self.run.outputs[step.id] = _output_names(self.driver, self._validate())
        self._paths()

    def name_known_values(self, secrets: Collection[str]) -> None:
        """What another place calls secret is in clear in none: such as a password that stands in a query too."""
        config = self.run.configs.get(self.step.id)
        if not config or not secrets:
            return
        model = config_model(self.driver) if hasattr(self, "driver") else None
        # Files are found by their paths as they are written, and a connection by its name.
        kept = {name for name, _ in path_fields(model)} if model else set()
        kept |= {"connection"} if isinstance(config.get("connection"), str) else set()
        self.run.configs[self.step.id] = lift_known(config, f"@{self.step.id}.config", kept, secrets, self.run.values)

    def _inputs(self) -> None:
        """An input that the driver would not look at is a mistake; compiled manifests only say what comes first."""
        takes = getattr(self.driver, "takes_inputs", "any")
        count = len(self.step.inputs)
        if (
            self.run.manifest.compiled
            or takes == "any"
            or (takes == "one" and count == 1)
            or (takes == "none" and not count)
        ):
            return
        name = self.step.driver
        if takes == "none":
            self.report("inputs", f"'{name}' takes no inputs", "to only wait for a step use needs")
        else:
            self.report("inputs", f"'{name}' takes one input, the step has {count or 'none'}")

    def _packages(self) -> None:
        """What a driver imports when it runs; elsewhere it may be installed though it is not here."""
        if self.run.runs_here and (missing := missing_packages(self.driver)):
            self.report("driver", f"'{self.step.driver}' needs {', '.join(missing)}", remedy(missing))

    def _connection(self) -> dict[str, Any]:
        """The connection that the step names, or that its driver takes by default; {} for none."""
        family = getattr(self.driver, "connection_family", None)
        reference = self.config.get("connection")
        if reference is None and family is not None and not getattr(self.driver, "connection_optional", False):
            reference = self.config["connection"] = f"@{family}"
        if isinstance(reference, dict):
            return reference
        if reference is None:
            return {}
        if not isinstance(reference, str) or not reference.startswith("@"):
            self.report("config.connection", "a connection is written '@family.alias'")
            return {}
        expected = family or ("filesystem" if self.step.driver.startswith("filesystem.") else None)
        actual = reference[1:].partition(".")[0]
        if expected is not None and actual != expected:
            message = f"the driver takes a connection of family '{expected}', not '{actual}'"
            self.report("config.connection", message)
            return {}
        try:
            found = self.run.book.get(reference, marked_in_connection(self.driver))
        except LookupError as exc:
            self.report("config.connection", str(exc))
            return {}
        self.run.values.update(self.run.book.lifted)
        self.run.connections[reference] = found
        return found

    def _report_connection(self, reference: str, path: tuple[int | str, ...], message: str, hint: str | None) -> None:
        """A connection that does not fit is wrong where it is written, and not in the step that names it."""
        book = self.run.book
        key = ".".join([reference, *map(str, path)])
        line = book.line_of(reference, path) or book.line_of(reference)
        self.run.problems.append(Problem(message, self.step.id, key, book.file, line, hint))

    def _validate(self) -> Any:
        """The configuration with its values in, checked against the driver's model; None where it does not fit."""
        # A missing variable is reported once for the whole run; the rest of the configuration is checked all the same.
        stand_ins = {name: f"${{{name}}}" for name in self.run.missing}
        whole = {**self.config, **({"connection": self.connection} if "connection" in self.config else {})}
        filled = substitute(whole, {**stand_ins, **self.run.values})
        model = config_model(self.driver)
        if model is None:
            return filled
        try:
            return model.model_validate(filled)
        except ValidationError as exc:
            for found in findings(exc, whole, model):
                used = {name for name, _ in references(whole.get(str(found.path[0])))} if found.path else set()
                if used & stand_ins.keys():
                    continue
                message = self._named(found.message, used)
                if found.path[:1] == ("connection",) and isinstance(self.config.get("connection"), str):
                    self._report_connection(self.config["connection"], found.path[1:], message, found.hint)
                else:
                    self.report(f"config.{found.key}".rstrip("."), message, found.hint)
        except Exception as exc:  # noqa: BLE001 - a user's validator may raise anything
            message = f"its driver cannot check this: {type(exc).__name__}: {exc}"
            self.report("config", self._named(message, {name for name, _ in references(whole)}))
        return None

    def _named(self, message: str, names: set[str]) -> str:
        """What is said of values, with their names instead: some are too short to be searched for everywhere."""
        for name in names & self.run.secret_names:
            if value := self.run.values[name]:
                shown = f"${{{name}}}".replace("\\", r"\\")
                message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", shown, message)
        return message

    def _paths(self) -> None:
        model = config_model(self.driver)
        for name, role in path_fields(model) if model else ():
            for path in paths_in(self.config.get(name)):
                try:
                    if role.role == "output":
                        self._output(name, path)
                    else:
                        self._input(name, path)
                except KeyError:
                    continue

    def _output(self, key: str, path: str) -> None:
        if secret := sorted({name for name, _ in references(path)} - self.run.context.public_environment):
            message = f"${{{secret[0]}}} is secret, and the name of a file is not"
            self.report(f"config.{key}", message, "use a parameter, or --env NAME=VALUE")
            return
        try:
            relative = str(safe_relative(str(substitute(path, self.run.values))))
        except PathEscapes as exc:
            self.report(f"config.{key}", str(exc), "outputs are kept in the step's artifacts directory")
            return
        other = self.run.published.setdefault(relative, self.step.id)
        if (folder := self.run.publish_dir) is None:
            return
        if other != self.step.id:
            self.report(f"config.{key}", f"step '{other}' publishes {relative} too")
        elif reason := self._published_over(folder / relative):
            self.report(f"config.{key}", f"it cannot be published: {reason}")

    @staticmethod
    def _published_over(target: Path) -> str | None:
        """Why a file cannot be put there, or None."""
        if os.path.isdir(target):  # noqa: PTH112 - which says no where it may not look
            return f"{target} is a directory"
        return in_the_way(target.parent)

    def _input(self, key: str, path: str) -> None:
        base_dir = str(self.connection.get("base_dir") or ".")
        plain, shown = str(substitute(path, self.run.values)), self.run.shown(path)
        if self.run.manifest.compiled and ".." in PurePosixPath(plain).parts:
            self.report(f"config.{key}", f"'{shown}' leaves the base directory")
            return
        try:
            source = self._located(plain, str(substitute(base_dir, self.run.values)))
            shown = str(self._located(shown, self.run.shown(base_dir)))
        except RuntimeError as exc:  # ~nobody
            self.report(f"config.{key}", f"'{shown}' names no file: {exc}")
            return
        try:
            self.run.input_files.append(seal(source, path, step_id=self.step.id, key=key))
        except FileNotFoundError:
            if source.is_symlink():
                self.report(f"config.{key}", f"{shown} is a link to {source.readlink()}, which is not there")
            else:
                self.report(f"config.{key}", f"there is no file {shown}", did_you_mean(source.name, _siblings(source)))
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
            reason = exc.strerror if isinstance(exc, OSError) else exc
            self.report(f"config.{key}", f"{shown} cannot be read: {reason}")

    def _located(self, path: str, base_dir: str) -> Path:
        return Path(os.path.normpath(self.run.manifest.base_dir / base_dir / Path(path).expanduser()))


def _output_names(driver: type[Any], filled: Any) -> frozenset[str] | None:
    """Which outputs a step will give, where its driver knows beforehand."""
    names = getattr(driver, "output_names", None)
    if names is None or filled is None:
        return None
    try:
        found: frozenset[str] | None = names(filled)
    except Exception:  # noqa: BLE001 - a user's driver may raise anything; the outputs are then known when it ran
        return None
    return found


def _siblings(source: Path) -> list[str]:
    try:
        return [entry.name for entry in islice(source.parent.iterdir(), 1000)]
    except OSError:
        return []
