"""The E2B adapter: one cloud sandbox a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.e2b_cloud.account import MISSING_KEY_HINT, Account, key_of
from adapters.e2b_cloud.check import host_problems, own_problems
from adapters.e2b_cloud.config import E2BConfig
from adapters.e2b_cloud.creation import Wanted
from adapters.e2b_cloud.lifetime import Lifetime
from adapters.e2b_cloud.loop import PrivateLoop
from adapters.e2b_cloud.metadata import run_metadata
from adapters.e2b_cloud.network import HostUnknown, Reach, is_open, network_options, reach_of
from adapters.e2b_cloud.sandbox import E2BSandbox
from adapters.e2b_cloud.sweep import find_leftovers
from adapters.e2b_cloud.templates import set_up, template_name, with_packages
from osiris_core.errors import FailureClass, PreparationError, Problem
from osiris_core.secrets import substitute
from osiris_core.session import SessionLayout, made_elsewhere, read_json
from remote.adapter import RemoteAdapter
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from osiris_core.collection import Run
    from osiris_core.config import AdapterConfig
    from osiris_core.context import ExecutionContext
    from osiris_core.leftovers import Leftover
    from osiris_core.prepared import PreparedRun

__all__ = ["E2BAdapter", "E2BConfig"]


class E2BAdapter(RemoteAdapter):
    """
    Runs manifests in sandboxes of E2B, one a run, with a network that reaches what the manifest's connections name and
    nothing else. A sandbox is killed when `collect` returns, and carries metadata until then.
    """

    name = "e2b"
    Config: ClassVar[type[AdapterConfig]] = E2BConfig
    example: ClassVar[str] = """\
type: e2b
cpu: 4
memory_mb: 8192
timeout: 1800
"""
    config: E2BConfig

    @classmethod
    def setup(cls, config: AdapterConfig, progress: Callable[[str], None]) -> str | None:
        """Build the template beforehand; says what was built, None when nothing was to be done."""
        assert isinstance(config, E2BConfig)
        return set_up(_account(config, {}), config, progress)

    def unusable(self) -> str | None:
        try:
            account = _account(self.config, {})
            with account.errors("E2B cannot be used"):
                PrivateLoop.shared().run(account.sandboxes.list(limit=1).next_items())
        except SandboxError as exc:
            return str(exc)
        return None

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:
        if key_of(self.config, {}) is None:
            self._miss_nothing(session_dirs)
            return []
        return find_leftovers(_account(self.config, {}), session_dirs)

    @property
    def far_end(self) -> tuple[str, ...]:
        config = self.config
        return (key_of(config, {}) or "", config.domain or "", config.api_url or "")

    def _miss_nothing(self, session_dirs: Iterable[Path]) -> None:
        """
        Raises:
            SandboxError: A run may have left a sandbox in the account that there is no key for.
        """
        for folder in session_dirs:
            run = read_json(SessionLayout(folder).run_file) or {}
            if run.get("adapter") != self.name or not made_elsewhere(run):
                continue
            try:
                config = E2BConfig(**run.get("config", {}))
            except ValueError:  # an older version's
                continue
            if type(self)(config).far_end == self.far_end:
                message = (
                    f"the run in {folder} may have left a sandbox, and there is no API key to ask E2B "
                    f"({MISSING_KEY_HINT}; osiris runs gc --config takes the configuration that it had)"
                )
                raise SandboxError(message, failure_class=FailureClass.USER_ERROR)

    def check(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        problems: list[Problem] = []
        try:
            super().check(prepared, context)
        except PreparationError as exc:
            problems += exc.problems
        problems += own_problems(self.config, context)
        problems += host_problems(self.config, prepared)
        if problems:
            raise PreparationError(problems)

    def make_sandbox(self, run: Run, context: ExecutionContext, token: str) -> E2BSandbox:
        facts: dict[str, Any] = run.extra.setdefault("e2b", {})
        session = run.session
        assert session is not None

        def say(message: str, level: str) -> None:
            if run.host is not None:
                run.host.emit("log", level=level, message=message, stream="e2b")

        password = _proxy_password(self.config, context)
        return E2BSandbox(
            _account(self.config, context.environment, *([password] if password is not None else [])),
            self.config,
            self._wanted(run, context, token, password, say),
            say=say,
            cancel_reason=lambda: run.cancel_reason,
            facts=facts,
            record=session.record,
        )

    def _wanted(
        self,
        run: Run,
        context: ExecutionContext,
        token: str,
        password: str | None,
        say: Callable[[str, str], None],
    ) -> Wanted:
        config, reach = self.config, Reach((), ())
        if not run.attached:  # otherwise the sandbox is there, and has what it has
            config = with_packages(config, (step["driver"] for step in run.prepared.manifest["steps"]))
            reach = reach_of(run.prepared)
        if is_open(config.network, reach) and reach.unknown:
            steps = ", ".join(f"'{step}'" for step in reach.unknown)
            say(
                f"no host of {steps} is known: the sandbox may reach everything (name them: network.allow_out)",
                "warning",
            )
        try:
            network = network_options(config.network, reach, password)
        except HostUnknown as exc:
            raise SandboxError(str(exc), failure_class=FailureClass.USER_ERROR) from exc
        return Wanted(
            token=token,
            metadata=run_metadata(context.session_id, token, config.metadata),
            template=config.template or template_name(config),
            is_own=config.template is None,
            lifetime=Lifetime.of(config, context.timeout),
            on_timeout=config.on_timeout,
            network=network,
            requirements=config.requirements,
            apt_packages=config.apt_packages,
            python_version=config.python_version,
            cpu=config.cpu,
            memory_mb=config.memory_mb,
            user=config.user,
        )


def _account(config: E2BConfig, environment: Mapping[str, str], *also: str) -> Account:
    key = key_of(config, environment)
    if key is None:
        message = f"there is no API key for E2B ({MISSING_KEY_HINT})"
        raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
    return Account(config, key, *also)


def _proxy_password(config: E2BConfig, context: ExecutionContext) -> str | None:
    proxy = config.network.egress_proxy
    if proxy is None or proxy.password is None:
        return None
    return str(substitute(proxy.password, {**os.environ, **context.environment}))
