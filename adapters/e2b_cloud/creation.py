"""How a sandbox comes about: asked for once, found again when the answer is lost, with the packages that it needs."""

from __future__ import annotations

import secrets
import threading
from concurrent import futures
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, cast

from adapters.e2b_cloud.errors import AnswerLost, TemplateUnknown
from adapters.e2b_cloud.finding import adopted, kill, kill_all
from adapters.e2b_cloud.installing import Installation
from adapters.e2b_cloud.templates import BASE_TEMPLATE
from osiris_core.errors import FailureClass
from remote.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from e2b.sandbox.sandbox_api import SandboxNetworkOpts

    from adapters.e2b_cloud.lifetime import Lifetime
    from adapters.e2b_cloud.line import Line

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
        python_version: The template's, where that is said.
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
    python_version: str | None = None
    cpu: int | None = None
    memory_mb: int | None = None
    user: str | None = None


class Creation:
    """
    One making of one sandbox.

    Args:
        line: The way to E2B.
        wanted: What is asked for.
        say: Told what a person should know.
        record_id: Told the id of a sandbox as soon as it is known.

    Attributes:
        template: What it was made from.
        python: The interpreter in it that has the worker's packages.
    """

    def __init__(
        self, line: Line, wanted: Wanted, say: Callable[[str, str], None], record_id: Callable[[str], None]
    ) -> None:
        self.template = wanted.template
        self.python = "python3"
        self._key = secrets.token_hex(4)  # another making for the same run is another request
        self._pending: Future[Any] | None = None
        self._unanswered = 0
        self._lost_s = 0.0
        self._ids: list[str] = []
        self._line = line
        self._wanted = wanted
        self._say = say
        self._record_id = record_id

    def make(self) -> Any:
        """
        The sandbox, as the SDK's object.

        Raises:
            SandboxError: It cannot be had. One may exist all the same, until `give_up`.
        """
        try:
            return self._made(self._wanted.template, self._wanted.network)
        except TemplateUnknown:
            if not self._wanted.is_own:
                raise
        self._refuse_what_only_a_template_gives()
        return self._with_packages()

    @property
    def may_exist(self) -> bool:
        """Whether a sandbox was made, or may have been, that was not given up."""
        return bool(self._ids or self._unanswered)

    def _made(self, template: str, network: Mapping[str, Any], *, again: bool = False) -> Any:
        self._unanswered += 1
        try:
            with self._line.account.errors("the sandbox cannot be made"):
                self._line.count("create")
                # Not cancelled when the run is: cut off, it would be carried out all the same, and nobody would know.
                self._pending = self._line.loop.begin(self._asked_for(template, network))
                made = self._line.loop.wait(self._pending, self._line.check)
        except AnswerLost as exc:
            self._pending, self._lost_s = None, monotonic()
            if (found := self._found_again()) is not None:
                self._say(f"{exc}; the sandbox was found again by its metadata", "warning")
                return self._answered(found)
            if again:
                raise
            # Nothing was made, as far as can be seen; the key makes it the same request if it was after all.
            self._say(f"{exc}; it is asked for once more", "warning")
            return self._made(template, network, again=True)
        except SandboxError as exc:
            self._pending, self._lost_s = None, monotonic()
            if exc.failure_class is not FailureClass.PROTOCOL:  # refused, or never heard
                self._unanswered -= 1
            raise
        self._pending = None
        return self._answered(made)

    def _answered(self, sandbox: Any) -> Any:
        self._unanswered -= 1
        self._ids.append(str(sandbox.sandbox_id))
        self._record_id(str(sandbox.sandbox_id))
        return sandbox

    async def _asked_for(self, template: str, network: Mapping[str, Any]) -> Any:
        wanted = self._wanted
        return await self._line.account.sandboxes.create(
            template,
            timeout=wanted.lifetime.asked_s,
            metadata=dict(wanted.metadata),
            network=cast("SandboxNetworkOpts", dict(network)),
            lifecycle={"on_timeout": wanted.on_timeout},
            idempotency_key=f"osiris-{wanted.token}-{self._key}-{'own' if template == wanted.template else 'base'}",
        )

    def _found_again(self) -> Any:
        deadline_s = monotonic() + FIND_LIMIT_S
        pause_s = 0.3
        while True:
            self._line.check()
            try:
                found = adopted(self._line, self._wanted, None)
                if found is not None:
                    return found
            except SandboxError:
                pass
            if monotonic() + pause_s > deadline_s:
                return None
            threading.Event().wait(pause_s)
            pause_s = min(pause_s * 2, 3.0)

    def give_up(self) -> None:
        """
        No sandbox of this making is alive on return: one whose answer was lost is looked for until it would be listed.

        May be called again.

        Raises:
            SandboxError: E2B does not answer.
        """
        while self._ids:
            kill(self._line, self._ids[-1])
            self._ids.pop()
        limit_s = PENDING_LIMIT_S if self._pending is not None else self._lost_s + FIND_LIMIT_S - monotonic()
        deadline_s = monotonic() + limit_s
        while self._unanswered:
            if self._pending is not None and self._pending.done():
                self._take_late_answer(self._pending)
                deadline_s = monotonic() + FIND_LIMIT_S
                continue
            killed = kill_all(self._line, self._wanted.token)
            self._unanswered = max(0, self._unanswered - killed)
            if monotonic() > deadline_s:
                self._unanswered = 0
            elif self._unanswered and self._pending is not None:
                futures.wait([self._pending], LOOK_INTERVAL_S)
            elif self._unanswered:
                threading.Event().wait(LOOK_INTERVAL_S)

    def _take_late_answer(self, pending: Future[Any]) -> None:
        try:
            with self._line.account.errors("the sandbox cannot be made"):
                made = pending.result()
        except AnswerLost:
            pass
        except SandboxError:
            self._unanswered -= 1
        else:
            kill(self._line, str(made.sandbox_id))  # it may not be listed yet
            self._unanswered -= 1
        self._pending = None

    def _refuse_what_only_a_template_gives(self) -> None:
        settings = ("cpu", "memory_mb", "apt_packages", "python_version")
        named = [name for name in settings if getattr(self._wanted, name)]
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
        self.python = Installation(self._line, sandbox, self._wanted, BASE_TEMPLATE).python()
        locked = {name: value for name, value in self._wanted.network.items() if name != "allow_public_traffic"}
        self._line.ask(
            "network", "the sandbox's network cannot be closed", sandbox.update_network(locked), of_account=True
        )
        return sandbox

    def _with_requirements(self) -> str:
        """What the configuration has to name for that; drivers of the manifest may want packages that it does not."""
        wanted = self._wanted.requirements
        return f" (with requirements: [{', '.join(wanted)}])" if wanted else ""
