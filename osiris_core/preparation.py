"""
Makes a `PreparedRun` of a manifest, or finds every reason why it cannot be one. Starts nothing, writes nothing.

The same for every adapter: what differs between them is only which policies they can enforce.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.artifacts import in_the_way
from osiris_core.connections import ConnectionBook
from osiris_core.errors import ManifestError, PreparationError, Problem
from osiris_core.manifest import Manifest, Param
from osiris_core.parameters import ParameterError, parameter_values
from osiris_core.plan import plan_steps
from osiris_core.prepared import PreparedRun
from osiris_core.redaction import Redactor
from osiris_core.sealing import SealedFile, seal
from osiris_core.secret_sources import find_value, how_to_give
from osiris_core.secrets import SecretValues, escape, references, substitute
from osiris_core.step_preparation import StepPreparation

if TYPE_CHECKING:
    from osiris_core.context import ExecutionContext


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
    publish_dir: Path | None = None

    def __post_init__(self) -> None:
        self.values.update(self.context.environment)
        try:
            self.book = ConnectionBook.find(self.context.connections, self.manifest.base_dir)
        except ManifestError as exc:
            self.problems.extend(exc.problems)
            self.book = ConnectionBook()

    def run(self) -> PreparedRun:
        params = self._parameters()
        self.publish_dir = self._publish_dir()
        prepared = [StepPreparation(self, index, step) for index, step in enumerate(self.manifest.steps)]
        for each in prepared:
            each.prepare(params)
        secrets = {self.values[name] for name in self.secret_names}
        for each in prepared:
            each.name_known_values(secrets)
        plans, plan_problems = plan_steps(self.manifest, self.outputs)
        self.problems.extend(plan_problems)
        self.problems.extend(self._missing_variable(name, step_ids) for name, step_ids in self.missing.items())
        if self.problems:
            raise PreparationError(self._masked())
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
            sources=[seal(file) for file in self.manifest.source_files],
            secret_names=sorted(self.secret_names),
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

    def _publish_dir(self) -> Path | None:
        """Where outputs are to be published, if they are and can be."""
        wanted = self.context.publish_dir
        if wanted is None:
            return None
        if reason := in_the_way(Path(wanted).absolute()) if wanted else "an empty text names no folder":
            self.problems.append(Problem(f"outputs cannot be published: {reason}", key="publish_dir"))
            return None
        return Path(wanted).absolute()

    def _missing_variable(self, name: str, step_ids: list[str]) -> Problem:
        index = next(index for index, step in enumerate(self.manifest.steps) if step.id == step_ids[0])
        also = f"; also used by {', '.join(step_ids[1:])}" if step_ids[1:] else ""
        message, hint = f"the variable {name} is not set", f"{how_to_give(name)}{also}"
        if name in os.environ:
            message, hint = f"the variable {name} is empty", f"${{{name}:-}} takes it as it is{also}"
        line = self.manifest.line_of("steps", index, "config")
        return Problem(message, step_ids[0], None, self.manifest.file, line, hint)

    def look_up(self, step_id: str, value: Any) -> None:
        """Every value that a step's configuration refers to is known on return, or its name is among the missing."""
        for name, default in references(value):
            if name in self.values:
                continue
            # A name with a default may well be nowhere: for it no keyring is to be opened.
            if found := os.environ.get(name) if default is not None else find_value(name):
                self.values[name] = found
            elif default is None and step_id not in (users := self.missing.setdefault(name, [])):
                users.append(step_id)

    @property
    def secret_names(self) -> frozenset[str]:
        """The names of all values that are known by now, but for those that were declared as public."""
        return frozenset(self.values.keys() - self.context.public_environment)

    def shown(self, text: str) -> str:
        """`text` as it may be shown: with the values that are no secret, and the names of the others."""
        names = {name: f"${{{name}}}" for name in self.secret_names}
        return str(substitute(text, {**self.values, **names}))

    def _masked(self) -> list[Problem]:
        """The problems as they may be shown: what a driver, a library or the system says may have a value in it."""
        redactor = Redactor(self.values[name] for name in self.secret_names)

        def text(found: str | None) -> str | None:
            return None if found is None else redactor.text(found)

        return [
            replace(problem, message=redactor.text(problem.message), hint=text(problem.hint), key=text(problem.key))
            for problem in self.problems
        ]


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
