"""Makes of the options what an adapter takes, and finds everything that is wrong with them at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.cli import exits
from osiris_core.cli.sessions import SessionInfo, newest_of, sessions_root
from osiris_core.context import ExecutionContext, new_session_id
from osiris_core.errors import ManifestError, OsirisError, PreparationError, Problem
from osiris_core.factory import AdapterFactory
from osiris_core.manifest import Manifest, load_manifest
from osiris_core.redaction import is_secret_field
from osiris_core.session import SessionLayout

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter
    from osiris_core.cli.options import RunOptions
    from osiris_core.prepared import PreparedRun


@dataclass
class Request:
    """A run that can be asked for. `resumes` is the session it goes on with; `notice` is for people."""

    manifest: Manifest
    adapter: ExecutionAdapter
    context: ExecutionContext
    earlier: SessionInfo | None
    notice: str | None = None

    def prepare(self) -> PreparedRun:
        return self.adapter.prepare(self.manifest, self.context)


def make_request(options: RunOptions, *, verbose: bool = False, **extras: Any) -> Request:
    """
    The run that the options ask for. Starts nothing, writes nothing. `extras` go into the context.

    Raises:
        PreparationError: With every problem of the options, and those of the manifest beside them.
    """
    problems: list[Problem] = []
    environment, public = environment_of(options.env, problems)
    adapter = _adapter(options, problems)
    manifest: Manifest | None = None
    try:
        manifest = load_manifest(options.manifest, base_dir=options.base_dir)
    except ManifestError as exc:
        problems.extend(_no_manifest(options.manifest) or exc.problems)
    earlier, notice = _earlier(options, manifest)
    session_dir = earlier.layout.root if earlier else Path(options.session_dir or sessions_root() / new_session_id())
    context = ExecutionContext(
        session_id=earlier.session_id if earlier else "",
        session_dir=str(session_dir),
        verbose=verbose,
        timeout=options.timeout,
        environment=environment,
        public_environment=public,
        params=dict(options.param),
        connections=options.connections,
        publish_dir=str(Path(options.out).absolute()) if options.out else options.out,
        resume=options.resume,
        max_parallel_steps=options.max_parallel,
        memory_budget_bytes=options.memory_budget,
        on_failure="continue" if options.keep_going else "stop",
        checkpoint=options.checkpoint,
        **extras,
    )
    if problems and adapter is not None and manifest is not None:
        try:
            adapter.prepare(manifest, context)
        except PreparationError as exc:
            problems.extend(exc.problems)
    if problems:
        raise PreparationError(problems)
    assert adapter is not None
    assert manifest is not None
    return Request(manifest, adapter, context, earlier, notice)


def environment_of(given: tuple[str, ...], problems: list[Problem]) -> tuple[dict[str, str], frozenset[str]]:
    """The declared variables, and the names of those that are no secret."""
    values: dict[str, str] = {}
    public = set()
    for entry in given:
        name, equals, value = entry.partition("=")
        if not name:
            problems.append(Problem("--env takes NAME or NAME=VALUE"))
            continue
        if equals:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
        else:
            problems.append(
                Problem(f"the variable {name} is not set", key="--env", hint=f"export it or write {name}=VALUE")
            )
            continue
        if equals and not is_secret_field(name):
            public.add(name)
        else:
            public.discard(name)
            exits.given_secrets.append(values[name])
    return values, frozenset(public)


def _no_manifest(file: str) -> list[Problem]:
    """What there is to say of a file that is something else: a model run, or a pipeline of one."""
    from osiris_core.configuration_file import read_trees
    from osiris_core.configurations.kinds import is_model_run
    from osiris_core.models.pipeline_file import is_pipeline

    try:
        tree = read_trees(file)[0]
    except PreparationError:
        return []
    if not isinstance(tree.data, dict) or "steps" in tree.data:
        return []
    if is_pipeline(tree):
        return [tree.problem("this is a pipeline of a model run, not a manifest", hint=f"osiris pipeline {file}")]
    if is_model_run(tree.data):
        return [tree.problem("this is a model run, not a manifest", hint=f"osiris run --model-run {file}")]
    return []


def _adapter(options: RunOptions, problems: list[Problem]) -> ExecutionAdapter | None:
    try:
        return configured_adapter(options)
    except PreparationError as exc:
        problems.extend(exc.problems)
    except OsirisError as exc:
        problems.append(Problem(str(exc)))
    return None


def configured_adapter(options: RunOptions) -> ExecutionAdapter:
    """The adapter that the options name, with what their configuration file says; problems have their line in it."""
    if options.config is None:
        return AdapterFactory.create(options.adapter or "local")
    from osiris_core.configurations.adapters import adapter_of_file

    return adapter_of_file(options.config, options.adapter, os.environ)


def _earlier(options: RunOptions, manifest: Manifest | None) -> tuple[SessionInfo | None, str | None]:
    """The session that is gone on with, and what to say about it."""
    if options.session_dir is not None:
        session = SessionInfo(SessionLayout(Path(options.session_dir).absolute()))
        if session.run:
            return session, None
        return None, f"nothing to resume in {options.session_dir}; starting anew" if options.resume else None
    if not options.resume or manifest is None:
        return None, None
    newest = newest_of(sessions_root(), manifest)
    if newest is None:
        return None, f"no earlier session of '{manifest.name}' to resume; starting anew"
    return newest, f"resuming session {newest.session_id}"
