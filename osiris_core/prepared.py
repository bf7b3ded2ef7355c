"""The sealed package of a run: everything that decides its result, and not one secret value."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import PreparationError, Problem
from osiris_core.plan import StepPlan
from osiris_core.sealing import SealedFile
from osiris_core.secret_sources import find_value, how_to_give
from osiris_core.secrets import SecretValues, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from osiris_core.context import ExecutionContext

PREPARED_VERSION = 1


@dataclass
class PreparedRun:
    """
    What `prepare` gives and `execute` takes.

    Attributes:
        manifest: The manifest in normal form, as a plain dict (`pipeline`, `steps`).
        configs: Each step's configuration by step id; `${NAME}` stands where a value is secret.
        environment: Declared variables; `${NAME}` stands for the value unless it was declared as public.
        artifacts_dir: Where the artifacts go, a folder a step.
        connections: The connections that steps name, `${NAME}` in place of values.
        input_files: The files that travel with the run, sealed.
        sources: The manifest and the files it was made of, sealed.
        secret_names: Every name whose value the run will be given.
        fingerprint: `sha256:…` over everything that decides the result.
        adapter: The name of the adapter it was prepared for.
        run_key: Names the run towards systems outside, from `execute` on; one that resumes another has the other's.
    """

    manifest: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    environment: dict[str, str]
    artifacts_dir: str
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    input_files: list[SealedFile] = field(default_factory=list)
    sources: list[SealedFile] = field(default_factory=list)
    secret_names: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    adapter: str = ""
    fingerprint: str = ""
    run_key: str = ""
    secrets: SecretValues = field(default_factory=SecretValues, repr=False, compare=False)

    @property
    def steps(self) -> list[StepPlan]:
        """The steps as the engine takes them, each with its sealed configuration."""
        return [
            StepPlan.from_json({**step, "config": self.configs.get(step["id"], {})}) for step in self.manifest["steps"]
        ]

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.manifest.get("pipeline") or "pipeline")

    def compute_fingerprint(self) -> str:
        """The fingerprint that fits the present content."""
        sealed = {
            "manifest": self.manifest,
            "configs": self.configs,
            "environment": self.environment,
            "connections": self.connections,
            "secret_names": self.secret_names,
            "settings": self.settings,
            "files": [[file.path, file.step_id, file.identity] for file in self.input_files],
        }
        text = json.dumps(sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without one secret value."""
        return {
            "v": PREPARED_VERSION,
            "manifest": self.manifest,
            "configs": self.configs,
            "environment": self.environment,
            "artifacts_dir": self.artifacts_dir,
            "connections": self.connections,
            "input_files": [file.to_json() for file in self.input_files],
            "sources": [file.to_json() for file in self.sources],
            "secret_names": self.secret_names,
            "settings": self.settings,
            "adapter": self.adapter,
            "fingerprint": self.fingerprint,
            "run_key": self.run_key,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], secrets: SecretValues | None = None) -> PreparedRun:
        """The inverse of `to_json`; values that are not given here are looked up when it is executed."""
        fields = {key: value for key, value in data.items() if key != "v"}
        for key in ("input_files", "sources"):
            fields[key] = [SealedFile(**item) for item in fields.get(key, [])]
        return cls(**fields, secrets=secrets or SecretValues())


def look_up_again(prepared: PreparedRun, context: ExecutionContext) -> None:
    """
    Give a run its values as they are now: from `context.environment`, the process's environment, the keyring, the
    connections file.

    A secret that was changed since `prepare` has its new value from here on; one that is nowhere any more keeps its
    old one.

    Raises:
        PreparationError: Some are nowhere, each by its name.
    """
    missing = look_up_known(prepared, context)
    if missing:
        raise PreparationError(Problem(f"{name} has no value here", hint=_how_to_give(name)) for name in missing)


def look_up_known(prepared: PreparedRun, context: ExecutionContext) -> list[str]:
    """Like `look_up_again`, but for those that are nowhere: it returns their names."""
    literal = {
        name: str(substitute(text, {})) for name, text in prepared.environment.items() if not _is_own(name, text)
    }
    found = {**literal, **prepared.secrets}
    wanted = {*prepared.secret_names, *(name for name, text in prepared.environment.items() if _is_own(name, text))}
    rotated = {name: now for name in prepared.secret_names if (now := _as_it_is_now(name, context)) is not None}
    if rotated.items() - found.items():
        found.update(rotated)
        prepared.secrets = SecretValues({**prepared.secrets, **rotated})
    missing = sorted(wanted - found.keys())
    if missing or literal.keys() - prepared.secrets.keys():
        places = [context.environment, os.environ, _lifted_again(prepared, context, missing)]
        for name in missing:
            value = next((place[name] for place in places if name in place), None) or find_value(name)
            if value is not None:
                found[name] = value
        prepared.secrets = SecretValues(found)
    return [name for name in missing if name not in found]


def _as_it_is_now(name: str, context: ExecutionContext) -> str | None:
    """The value that a name has now; None for what is written in a file, and what is nowhere."""
    if name.startswith("@"):
        return None
    return context.environment[name] if name in context.environment else find_value(name)


def _is_own(name: str, text: str) -> bool:
    """Whether a declared variable stands for its own, secret value."""
    return text == f"${{{name}}}"


def _lifted_again(prepared: PreparedRun, context: ExecutionContext, names: list[str]) -> dict[str, str]:
    """Values that are written in the connections file itself."""
    if not any(name.startswith("@") for name in names):
        return {}
    from osiris_core.connections import ConnectionBook  # not where runs arrive prepared: it reads YAML

    folder = Path(prepared.sources[0].source).parent if prepared.sources else Path.cwd()
    book = ConnectionBook.find(context.connections, folder)
    for reference in prepared.connections:
        with suppress(LookupError):  # reported as a value that is missing
            within = [name.removeprefix(f"{reference}.") for name in names if name.startswith(f"{reference}.")]
            book.get(reference, {name.partition(".")[0].rstrip("'") for name in within})
    return book.lifted


def _how_to_give(name: str) -> str:
    if name.startswith("@"):
        return "it was written in the manifest or the connections file; prepare the run again"
    return how_to_give(name)
