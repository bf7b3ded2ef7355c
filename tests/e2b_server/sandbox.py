"""A sandbox: a private directory, real processes, a life with an end."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import shutil
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal

from tests.e2b_server.connect_protocol import RpcError
from tests.e2b_server.process_tree import MARK, ProcessTree
from tests.e2b_server.pythons import make_python

if TYPE_CHECKING:
    from tests.e2b_server.connection import Connection
    from tests.e2b_server.policy import Policy
    from tests.e2b_server.process import Process
    from tests.e2b_server.templates import Template

KEEPS_EXIT_CODES = (0, 6, 12)


def new_id(prefix: str = "i") -> str:
    return prefix + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(20))


class OutsideSandbox(Exception):
    """A path of the machine that the server runs on."""


@dataclass
class Sandbox:
    """
    Attributes:
        create_body: What the client asked for.
        networks: The network rules in the order in which they held.
        end_at: When it expires, in seconds since 1970.
    """

    root: Path
    template: Template
    create_body: dict[str, Any]
    policy: Policy
    sandbox_id: str = field(default_factory=new_id)
    token: str = field(default_factory=lambda: secrets.token_hex(20))
    state: Literal["running", "paused", "gone"] = "running"
    started_at: float = field(default_factory=time)
    end_at: float = 0.0
    networks: list[dict[str, Any]] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    connections: set[Connection] = field(default_factory=set)
    file_metadata: dict[Path, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve() / self.sandbox_id
        self.home = self.root / "home"
        self.tree = ProcessTree(self.sandbox_id, self.root)
        self.envd_version = self.policy.envd_version
        self.networks.append(self.create_body.get("network", {}))
        private = self.create_body.get("network", {}).get("allowPublicTraffic") is False
        self.traffic_token = secrets.token_hex(20) if private else None

    def make(self) -> None:
        """The directory, with what the template holds."""
        self.root.mkdir(parents=True)
        shutil.copytree(self.template.home, self.home, symlinks=True)
        make_python(self.root / "python", self.template.layers)
        noise = f"printf '%s\\n' {shlex.quote(self.policy.profile_noise)}\n" if self.policy.profile_noise else ""
        (self.home / ".bash_profile").write_text(f"PATH={shlex.quote(str(self.root / 'python/bin'))}:$PATH\n{noise}")

    @property
    def metadata(self) -> dict[str, str]:
        found: dict[str, str] = self.create_body.get("metadata", {})
        return found

    @property
    def pauses_at_end(self) -> bool:
        return bool(self.create_body.get("autoPause"))

    def environment(self) -> dict[str, str]:
        """Of every process in it, before what its request adds."""
        return {
            "PATH": f"{self.root / 'python/bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "USER": "user",
            "LOGNAME": "user",
            "E2B_SANDBOX": "true",
            MARK: self.sandbox_id,
            "E2B_TEMPLATE_ID": self.template.template_id,
            **self.template.envs,
            **self.create_body.get("envVars", {}),
        }

    def path(self, text: str) -> Path:
        """
        What a client calls so. Relative and `~` paths start at the home directory.

        Raises:
            OutsideSandbox: It is not in the sandbox's directory.
        """
        text = str(self.home) + text[1:] if text == "~" or text.startswith("~/") else text
        path = Path(self.home, text)
        if not path.parent.resolve().joinpath(path.name).is_relative_to(self.root):
            raise OutsideSandbox(
                f"path '{text}' is outside of this test server's sandbox, whose home is {self.home}; "
                "take the work directory from `pwd`"
            )
        return path

    def working_directory(self, text: str | None) -> str:
        return str(self.home / self.template.workdir) if text is None else str(Path(self.home, text))

    def add(self, process: Process) -> None:
        self.processes[process.pid] = process
        self.tree.sessions.add(process.pid)

    def running(self) -> list[Process]:
        return [process for process in self.processes.values() if not process.end_event]

    def process(self, selector: dict[str, Any], *, ended_too: bool = False) -> Process:
        """
        The running one that is meant; if asked, also one whose exit code is still kept.

        Raises:
            RpcError: There is none.
        """
        for process in self.processes.values():
            is_meant = process.pid == selector.get("pid") or (process.tag and process.tag == selector.get("tag"))
            if is_meant and (not process.end_event or (ended_too and self._is_kept(process))):
                return process
        name = f"pid {selector['pid']}" if "pid" in selector else f"tag {selector.get('tag')}"
        raise RpcError("not_found", f"process with {name} not found")

    def _is_kept(self, process: Process) -> bool:
        version = tuple(int(part) for part in self.envd_version.split("."))
        return version >= KEEPS_EXIT_CODES and monotonic() - process.ended_s < self.policy.exit_kept_s

    def living(self) -> list[int]:
        """The living processes of its whole tree."""
        return self.tree.living()

    def _leave_streams(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    async def haunt(self) -> None:
        """Reset every stream and let what stands behind it live on, unread."""
        for process in self.running():
            process.haunt()
        self._leave_streams()

    async def pause(self) -> None:
        """Stop every process where it is. Connections break."""
        self.state = "paused"
        if self.policy.ghosts:
            await self.haunt()
        self._leave_streams()
        await asyncio.to_thread(self.tree.stop)

    async def resume(self, timeout_s: float) -> None:
        await asyncio.to_thread(self.tree.resume)
        self.state = "running"
        self.started_at = time()
        self.end_at = self.started_at + min(timeout_s, self.policy.max_lifetime_s)

    async def kill(self) -> None:
        """No process of it lives on return, and its directory is gone."""
        self.state = "gone"
        if self.policy.kill_mode == "end":
            for process in self.running():
                process.cut_off.set()
            await asyncio.sleep(0.01)
        self._leave_streams()
        await asyncio.to_thread(self.tree.kill)
        for process in self.processes.values():
            await process.bury()
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    def extend(self, timeout_s: float, *, may_shorten: bool) -> None:
        """From now on, as far as the plan allows; a longer time is cut silently."""
        end_at = min(time() + timeout_s, self.started_at + self.policy.max_lifetime_s)
        self.end_at = end_at if may_shorten else max(self.end_at, end_at)

    def as_created(self) -> dict[str, Any]:
        return {
            "templateID": self.template.template_id,
            "sandboxID": self.sandbox_id,
            "clientID": "osiris-test-server",
            "envdVersion": self.envd_version,
            "envdAccessToken": self.token,
            "trafficAccessToken": self.traffic_token,
            "domain": None,
        }

    def as_listed(self) -> dict[str, Any]:
        return {
            "templateID": self.template.template_id,
            "alias": self.template.name,
            "sandboxID": self.sandbox_id,
            "clientID": "osiris-test-server",
            "startedAt": timestamp(self.started_at),
            "endAt": timestamp(self.end_at),
            "cpuCount": self.template.cpu_count,
            "memoryMB": self.template.memory_mb,
            "diskSizeMB": 10240,
            "state": self.state,
            "envdVersion": self.envd_version,
            "metadata": self.metadata,
        }

    def as_detail(self) -> dict[str, Any]:
        on_timeout = "pause" if self.pauses_at_end else "kill"
        return {
            **self.as_listed(),
            "envdAccessToken": self.token,
            "domain": None,
            "allowInternetAccess": self.create_body.get("allow_internet_access"),
            "network": self.networks[-1],
            "lifecycle": {"autoResume": False, "onTimeout": on_timeout},
        }


def timestamp(seconds: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
