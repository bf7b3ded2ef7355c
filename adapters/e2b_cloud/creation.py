"""How a sandbox comes about: asked for once, found again when the answer is lost, with the packages that it needs."""

from __future__ import annotations

import secrets
import threading
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, cast

from adapters.e2b_cloud.errors import AnswerLost, SandboxGone, TemplateUnknown, translate
from adapters.e2b_cloud.metadata import TOKEN
from adapters.e2b_cloud.packages import FOUND, INSTALL_LIMIT_S, install_command, why_not
from adapters.e2b_cloud.sweep import sandboxes_with
from adapters.e2b_cloud.templates import BASE_TEMPLATE
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from e2b.sandbox.sandbox_api import SandboxNetworkOpts

    from adapters.e2b_cloud.account import Account
    from adapters.e2b_cloud.lifetime import Lifetime
    from adapters.e2b_cloud.loop import PrivateLoop

PENDING_LIMIT_S = 8.0
"""How long an answer is waited for of which only the sandbox's end is still wanted."""
LOOK_INTERVAL_S = 1.0
FIND_LIMIT_S = 5.0
"""How long a sandbox whose answer was lost is looked for: it is listed a moment after it was made."""


@dataclass(frozen=True)
class Wanted:
    """
    What is asked for.

    Attributes:
        token: Marks the sandbox, and makes a repeated request the same one.
        metadata: What else marks it.
        template: Its name; `is_own` when it is the one that we build.
        requirements: Packages beside the worker's, to be installed where the template is not there.
        network: What may be reached.
        user: Who installs packages.
    """

    token: str
    metadata: Mapping[str, str]
    template: str
    is_own: bool
    lifetime: Lifetime
    on_timeout: Literal["kill", "pause"]
    network: Mapping[str, Any]
    requirements: tuple[str, ...] = ()
    apt_packages: tuple[str, ...] = ()
    cpu: int | None = None
    memory_mb: int | None = None
    user: str | None = None


class Creation:
    """
    One making of one sandbox.

    Attributes:
        template: What it was made from.
        python: The interpreter in it that has the worker's packages.
        asked_twice: A second one may come to light.
    """

    def __init__(
        self,
        account: Account,
        loop: PrivateLoop,
        wanted: Wanted,
        count: Callable[[str], None],
        check: Callable[[], None],
        say: Callable[[str, str], None],
    ) -> None:
        self.template = wanted.template
        self.python = "python3"
        self.asked_twice = False
        self._key = secrets.token_hex(4)  # another making for the same run is another request
        self._pending: Future[Any] | None = None
        self._account = account
        self._loop = loop
        self._wanted = wanted
        self._count = count
        self._check = check
        self._say = say

    def make(self) -> Any:
        """
        The sandbox, as the SDK's object.

        Raises:
            SandboxError: It cannot be had. When the answer was lost it may exist all the same: `kill_all` finds it.
        """
        try:
            return self._made(self._wanted.template, self._wanted.network)
        except TemplateUnknown:
            if not self._wanted.is_own:
                raise
        self._refuse_what_only_a_template_gives()
        return self._with_packages()

    def _made(self, template: str, network: Mapping[str, Any], *, again: bool = False) -> Any:
        try:
            with translate("the sandbox cannot be made", self._account.redactor, self._account.address):
                self._count("create")
                # Not cancelled when the run is: cut off, it would be carried out all the same, and nobody would know.
                self._pending = self._loop.begin(self._asked_for(template, network))
                made = self._loop.wait(self._pending, self._check)
                self._pending = None
                return made
        except AnswerLost as exc:
            if (found := self._found_again()) is not None:
                self._say(f"{exc}; the sandbox was found again by its metadata", "warning")
                return found
            if again:
                raise
            # Nothing was made, as far as can be seen; the key makes it the same request if it was after all.
            self._say(f"{exc}; it is asked for once more", "warning")
            self.asked_twice = True
            return self._made(template, network, again=True)

    async def _asked_for(self, template: str, network: Mapping[str, Any]) -> Any:
        wanted = self._wanted
        return await self._account.sandboxes.create(
            template,
            timeout=wanted.lifetime.asked_s,
            metadata=dict(wanted.metadata),
            network=cast("SandboxNetworkOpts", dict(network)),
            lifecycle={"on_timeout": wanted.on_timeout},
            idempotency_key=f"osiris-{wanted.token}-{self._key}-{'own' if template == wanted.template else 'base'}",
        )

    def give_up(self) -> None:
        """No sandbox of this making is alive on return. Raises as the SDK does."""
        deadline_s = monotonic() + PENDING_LIMIT_S
        while self._pending is not None and not self._pending.done() and monotonic() < deadline_s:
            futures.wait([self._pending], LOOK_INTERVAL_S)
            # It may be there though the answer never comes.
            if not self._pending.done() and kill_all(self._account, self._loop, self._wanted.token, self._count):
                return
        if self._pending is not None and self._pending.done() and self._pending.exception() is None:
            self._kill(self._pending.result())  # it may not be listed yet
        kill_all(self._account, self._loop, self._wanted.token, self._count)

    def _kill(self, sandbox: Any) -> None:
        self._count("kill")
        self._loop.run(self._account.sandboxes.kill(sandbox.sandbox_id))

    def _found_again(self) -> Any:
        deadline_s = monotonic() + FIND_LIMIT_S
        pause_s = 0.3
        while True:
            self._check()
            try:
                with translate("the sandbox cannot be looked for"):
                    return adopted(self._account, self._loop, self._wanted, None, self._count, self._check, must=True)
            except SandboxError:
                if monotonic() + pause_s > deadline_s:
                    return None
            threading.Event().wait(pause_s)
            pause_s = min(pause_s * 2, 3.0)

    def _refuse_what_only_a_template_gives(self) -> None:
        named = [name for name in ("cpu", "memory_mb", "apt_packages") if getattr(self._wanted, name)]
        if named:
            message = (
                f"{' and '.join(named)} come from a template, and {self._wanted.template} is not built yet; run "
                "osiris adapters setup e2b with this configuration once"
            )
            raise TemplateUnknown(message)

    def _with_packages(self) -> Any:
        """From the plain template: packages are installed while the network is open for that, then it is closed."""
        self.template = BASE_TEMPLATE
        self._say(
            f"there is no template {self._wanted.template}: the worker's packages are installed in this sandbox, which "
            "takes about a minute of each run, and the network is open meanwhile; osiris adapters setup e2b builds the "
            f"template once{self._with_requirements()}",
            "warning",
        )
        opened = {**self._wanted.network, "deny_out": []}
        opened.pop("allow_out", None)
        sandbox = self._made(BASE_TEMPLATE, opened)
        try:
            self.python = self._installed(sandbox)
            with translate("the sandbox's network cannot be closed", self._account.redactor):
                self._count("network")
                locked = {name: value for name, value in self._wanted.network.items() if name != "allow_public_traffic"}
                self._loop.run(sandbox.update_network(locked), self._check)
        except BaseException:
            with suppress(Exception):  # `start` fails, so nobody else knows of it yet; `osiris runs gc` would find it
                self._kill(sandbox)
            raise
        return sandbox

    def _with_requirements(self) -> str:
        """What the configuration has to name for that; drivers of the manifest may want packages that it does not."""
        wanted = self._wanted.requirements
        return f" (with requirements: [{', '.join(wanted)}])" if wanted else ""

    def _installed(self, sandbox: Any) -> str:
        said: list[str] = []
        errors: list[str] = []
        command = install_command(f"osiris-packages-{self._wanted.token[:12]}", self._wanted.requirements)

        async def install() -> int:
            handle = await sandbox.commands.run(
                command,
                background=True,
                user=self._wanted.user,
                timeout=INSTALL_LIMIT_S,
                on_stdout=said.append,
                on_stderr=errors.append,
                retain_output=False,
            )
            return await _exit_code(handle)

        with translate("the worker's packages cannot be installed in the sandbox", self._account.redactor):
            self._count("install")
            code = self._loop.run(install(), self._check)
        text = "".join(said)
        if code != 0 or FOUND not in text:
            message = why_not(code, BASE_TEMPLATE, self._account.redactor.text("".join(errors)))
            raise SandboxError(message, failure_class=FailureClass.USER_ERROR)
        return text.rpartition(FOUND)[2].strip().splitlines()[0]


async def _exit_code(handle: Any) -> int:
    from e2b import CommandExitException

    try:
        return int((await handle.wait()).exit_code)
    except CommandExitException as exc:
        return int(exc.exit_code)


def adopted(
    account: Account,
    loop: PrivateLoop,
    wanted: Wanted,
    native_id: str | None,
    count: Callable[[str], None],
    check: Callable[[], None],
    *,
    must: bool = False,
) -> Any:
    """
    The sandbox that was made before: the one of that id, or the one that carries the token. None when there is none.

    With `must` that is an error, as it is when E2B cannot be asked.
    """
    if native_id is None:
        count("list")
        found = loop.run(sandboxes_with(account, {TOKEN: wanted.token}), check)
        if not found:
            if must:
                raise SandboxGone("no sandbox carries the run's token")
            return None
        native_id = found[0].sandbox_id
    count("connect")
    try:
        with translate("the sandbox cannot be connected to", account.redactor, account.address):
            return loop.run(account.sandboxes.connect(native_id, timeout=wanted.lifetime.asked_s), check)
    except SandboxGone:
        if must:
            raise
        return None


def kill_all(account: Account, loop: PrivateLoop, token: str, count: Callable[[str], None]) -> int:
    """Every sandbox that carries the token is gone on return; how many that were. Raises as the SDK does."""
    count("list")
    found = loop.run(sandboxes_with(account, {TOKEN: token}))
    for item in found:
        count("kill")
        loop.run(account.sandboxes.kill(item.sandbox_id))
    return len(found)
