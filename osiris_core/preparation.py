"""
Makes a `PreparedRun` of a manifest, or finds every reason why it cannot be one. Starts nothing, writes nothing.

The same for every adapter: what differs between them is only which policies they can enforce.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from osiris_core.collection import paths_in
from osiris_core.connections import ConnectionBook
from osiris_core.driver import DriverRegistry, config_model
from osiris_core.driver_packages import missing_packages, remedy
from osiris_core.errors import ManifestError, PreparationError, Problem, UnknownDriver
from osiris_core.lifting import SecretLifter, connection_models, marked_in_connection, marked_secret_fields
from osiris_core.manifest import Manifest, Param
from osiris_core.parameters import ParameterError, parameter_values, put_in_parameters
from osiris_core.paths import PathEscapes, hidden_path_fields, path_fields, safe_relative, with_path_defaults
from osiris_core.plan import plan_steps
from osiris_core.prepared import PreparedRun
from osiris_core.redaction import Redactor
from osiris_core.sealing import SealedFile, seal
from osiris_core.secret_sources import find_value, how_to_give
from osiris_core.secrets import SecretValues, escape, references, substitute
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.context import ExecutionContext
    from osiris_core.manifest import Step


@dataclass
class Preparation:
    """One pass over one manifest. Use `prepare_run`."""

    manifest: Manifest
    context: ExecutionContext
    allow_sql_files: bool = False
    runs_here: bool = False
    problems: list[Problem] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    input_files: list[SealedFile] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    outputs: dict[str, frozenset[str] | None] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values.update(self.context.environment)
        try:
            self.book = ConnectionBook.find(self.context.connections, self.manifest.base_dir)
        except ManifestError as exc:
            self.problems.extend(exc.problems)
            self.book = ConnectionBook()

    def run(self) -> PreparedRun:
        params = self._parameters()
        for index, step in enumerate(self.manifest.steps):
            self._step(index, step, params)
        plans, plan_problems = plan_steps(self.manifest, self.outputs)
        self.problems.extend(plan_problems)
        self.problems.extend(self._missing_variable(name, step_ids) for name, step_ids in self.missing.items())
        if self.problems:
            raise PreparationError(self.problems)
        steps = [{key: value for key, value in plan.to_json().items() if key != "config"} for plan in plans]
        return PreparedRun(
            manifest={"pipeline": self.manifest.name, "steps": steps},
            configs=self.configs,
            environment={
                name: escape(value) if name in self.context.public_environment else f"${{{name}}}"
                for name, value in self.context.environment.items()
            },
            artifacts_dir="",
            connections=self.connections,
            input_files=self.input_files,
            sources=self._sources(),
            secret_names=sorted(name for name in self.values if name not in self.context.public_environment),
            secrets=SecretValues(self.values),
        )

    def _parameters(self) -> dict[str, Any]:
        for name, value in self.context.params.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as exc:
                self.problems.append(Problem(f"JSON cannot hold its value: {exc}", key=f"params.{name}"))
        try:
            return parameter_values(self.manifest.params, self.context.params)
        except ParameterError as exc:
            for name, message, hint in exc.found:
                line = self.manifest.line_of("params", name)
                self.problems.append(Problem(message, None, f"params.{name}", self.manifest.file, line, hint))
            defaults = {
                name: param.default if isinstance(param, Param) else param
                for name, param in self.manifest.params.items()
            }
            return {**defaults, **self.context.params}

    def _report(self, index: int, step: Step, key: str, message: str, hint: str | None = None) -> None:
        line = self.manifest.line_of("steps", index, *(key.split(".") if key else ()))
        self.problems.append(Problem(message, step.id, key or None, self.manifest.file, line, hint))

    def _missing_variable(self, name: str, step_ids: list[str]) -> Problem:
        index = next(index for index, step in enumerate(self.manifest.steps) if step.id == step_ids[0])
        also = f"; also used by {', '.join(step_ids[1:])}" if step_ids[1:] else ""
        message, hint = f"the variable {name} is not set", f"{how_to_give(name)}{also}"
        if name in os.environ:
            message, hint = f"the variable {name} is empty", f"${{{name}:-}} takes it as it is{also}"
        line = self.manifest.line_of("steps", index, "config")
        return Problem(message, step_ids[0], None, self.manifest.file, line, hint)

    def _step(self, index: int, step: Step, params: Mapping[str, Any]) -> None:
        try:
            config = put_in_parameters(step.config, params)
        except ParameterError as exc:
            for name, message, hint in exc.found:
                self._report(index, step, "config", f"{message} (${{params.{name}}})", hint)
            self._look_up(step.id, step.config)
            return
        try:
            driver = DriverRegistry.get(step.driver)
        except UnknownDriver as exc:
            self._report(index, step, "driver", str(exc))
            self.configs[step.id] = config
            return
        self._inputs(index, step, driver)
        self._packages(index, step, driver)
        model = config_model(driver)
        if model is not None:
            if hidden := hidden_path_fields(model):
                message = f"its configuration has path fields where they are not found: {', '.join(hidden)}"
                self._report(index, step, "driver", message)
            config = with_path_defaults(model, config)
        config = SecretLifter(step.id, marked_secret_fields(model) if model else frozenset(), self.values).lift(config)
        connection = self._connection(index, step, driver, config)
        self._look_up(step.id, [config, connection])
        if self.manifest.compiled and self.allow_sql_files and "allow_files" in _field_names(driver):
            config.setdefault("allow_files", True)
        self.configs[step.id] = config
        filled = self._validate(index, step, driver, config, connection)
        self.outputs[step.id] = _output_names(driver, filled)
        self._paths(index, step, driver, config, connection)

    def _inputs(self, index: int, step: Step, driver: type[Any]) -> None:
        """An input that the driver would not look at is a mistake; compiled manifests only say what comes first."""
        takes = getattr(driver, "takes_inputs", "any")
        count = len(step.inputs)
        if (
            self.manifest.compiled
            or takes == "any"
            or (takes == "one" and count == 1)
            or (takes == "none" and not count)
        ):
            return
        if takes == "none":
            self._report(index, step, "inputs", f"'{step.driver}' takes no inputs", "to only wait for a step use needs")
        else:
            self._report(index, step, "inputs", f"'{step.driver}' takes one input, the step has {count or 'none'}")

    def _packages(self, index: int, step: Step, driver: type[Any]) -> None:
        """What a driver imports when it runs; elsewhere it may be installed though it is not here."""
        if self.runs_here and (missing := missing_packages(driver)):
            self._report(index, step, "driver", f"'{step.driver}' needs {', '.join(missing)}", remedy(missing))

    def _connection(self, index: int, step: Step, driver: type[Any], config: dict[str, Any]) -> dict[str, Any]:
        """The connection that the step names, or that its driver takes by default; {} for none."""
        family = getattr(driver, "connection_family", None)
        reference = config.get("connection")
        if reference is None and family is not None and not getattr(driver, "connection_optional", False):
            reference = config["connection"] = f"@{family}"
        if isinstance(reference, dict):
            return reference
        if reference is None:
            return {}
        if not isinstance(reference, str) or not reference.startswith("@"):
            self._report(index, step, "config.connection", "a connection is written '@family.alias'")
            return {}
        expected = family or ("filesystem" if step.driver.startswith("filesystem.") else None)
        actual = reference[1:].partition(".")[0]
        if expected is not None and actual != expected:
            message = f"the driver takes a connection of family '{expected}', not '{actual}'"
            self._report(index, step, "config.connection", message)
            return {}
        try:
            found = self.book.get(reference, marked_in_connection(driver))
        except LookupError as exc:
            self._report(index, step, "config.connection", str(exc))
            return {}
        self.values.update(self.book.lifted)
        self.connections[reference] = found
        return found

    def _report_connection(
        self, step: Step, driver: type[Any], reference: str, path: tuple[int | str, ...], message: str
    ) -> None:
        """A connection that does not fit is wrong where it is written, and not in the step that names it."""
        fields = [name for model in connection_models(driver) for name in model.model_fields]
        hint = did_you_mean(str(path[-1]), fields) if path and message == "there is no such key" else None
        key = ".".join([reference, *map(str, path)])
        line = self.book.line_of(reference, path) or self.book.line_of(reference)
        self.problems.append(Problem(message, step.id, key, self.book.file, line, hint))

    def _look_up(self, step_id: str, value: Any) -> None:
        for name, default in references(value):
            if name in self.values:
                continue
            # A name with a default may well be nowhere: for it no keyring is to be opened.
            if found := os.environ.get(name) if default is not None else find_value(name):
                self.values[name] = found
            elif default is None and step_id not in (users := self.missing.setdefault(name, [])):
                users.append(step_id)

    def _validate(
        self, index: int, step: Step, driver: type[Any], config: dict[str, Any], connection: dict[str, Any]
    ) -> Any:
        """The configuration with its values in, checked against the driver's model; None where it does not fit."""
        # A missing variable is reported once for the whole run; the rest of the configuration is checked all the same.
        stand_ins = {name: f"${{{name}}}" for name in self.missing}
        whole = {**config, **({"connection": connection} if "connection" in config else {})}
        filled = substitute(whole, {**stand_ins, **self.values})
        model = config_model(driver)
        if model is None:
            return filled
        try:
            return model.model_validate(filled)
        except ValidationError as exc:
            for item in exc.errors(include_url=False, include_input=False):
                if item["loc"] and any(name in stand_ins for name, _ in references(whole.get(str(item["loc"][0])))):
                    continue
                key = ".".join(["config", *map(str, item["loc"])])
                hint, message = None, item["msg"].removeprefix("Value error, ")
                if item["type"] == "extra_forbidden":
                    message, hint = "there is no such key", did_you_mean(str(item["loc"][-1]), model.model_fields)
                elif item["type"] == "missing":
                    message = "is missing"
                if item["loc"][:1] == ("connection",) and isinstance(config.get("connection"), str):
                    self._report_connection(step, driver, config["connection"], item["loc"][1:], message)
                else:
                    self._report(index, step, key, message, hint)
        except Exception as exc:  # noqa: BLE001 - a user's validator may raise anything; what it shows may be a secret
            message = Redactor(self.values.values()).text(f"its driver cannot check this: {type(exc).__name__}: {exc}")
            self._report(index, step, "config", message)
        return None

    def _paths(
        self, index: int, step: Step, driver: type[Any], config: dict[str, Any], connection: dict[str, Any]
    ) -> None:
        model = config_model(driver)
        for name, role in path_fields(model) if model else ():
            for path in paths_in(config.get(name)):
                try:
                    if role.role == "output":
                        self._output(index, step, name, str(substitute(path, self.values)))
                    else:
                        self._input(index, step, name, path, connection)
                except KeyError:
                    continue

    def _output(self, index: int, step: Step, key: str, path: str) -> None:
        try:
            relative = str(safe_relative(path))
        except PathEscapes as exc:
            self._report(index, step, f"config.{key}", str(exc), "outputs are kept in the step's artifacts directory")
            return
        other = self.published.setdefault(relative, step.id)
        if self.context.publish_dir is not None and other != step.id:
            self._report(index, step, f"config.{key}", f"step '{other}' publishes {relative} too")

    def _input(self, index: int, step: Step, key: str, path: str, connection: Mapping[str, Any]) -> None:
        plain = str(substitute(path, self.values))
        if self.manifest.compiled and ".." in PurePosixPath(plain).parts:
            self._report(index, step, f"config.{key}", f"'{plain}' leaves the base directory")
            return
        folder = self.manifest.base_dir / str(substitute(connection.get("base_dir") or ".", self.values))
        try:
            source = Path(os.path.normpath(folder / Path(plain).expanduser()))
        except RuntimeError as exc:  # ~nobody
            self._report(index, step, f"config.{key}", f"'{plain}' names no file: {exc}")
            return
        try:
            self.input_files.append(seal(source, path, step_id=step.id, key=key))
        except FileNotFoundError:
            if source.is_symlink():
                message, hint = f"{source} is a link to {os.readlink(source)}, which is not there", None  # noqa: PTH115
            else:
                message, hint = f"there is no file {source}", did_you_mean(source.name, _siblings(source))
            self._report(index, step, f"config.{key}", message, hint)
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
            reason = exc.strerror if isinstance(exc, OSError) else exc
            self._report(index, step, f"config.{key}", f"{source} cannot be read: {reason}")

    def _sources(self) -> list[SealedFile]:
        files = [self.manifest.file, *self.manifest.cfg_files]
        return [seal(Path(file)) for file in files if file]


def prepare_run(
    manifest: Manifest, context: ExecutionContext, *, allow_sql_files: bool = False, runs_here: bool = False
) -> PreparedRun:
    """
    The sealed package of `manifest` under `context`, without the places that an adapter adds. `runs_here`: the steps
    run in this process.

    Raises:
        PreparationError: With every problem: unknown drivers, bad configuration, cycles, duplicate or unknown ids,
            missing input files, connections and variables.
    """
    return Preparation(manifest, context, allow_sql_files, runs_here).run()


def _field_names(driver: type[Any]) -> set[str]:
    model = config_model(driver)
    return set(model.model_fields) if model else set()


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
