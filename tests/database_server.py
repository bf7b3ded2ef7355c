"""Servers of the tests' own: started from the programs of this machine in a temporary folder, on a free port."""

from __future__ import annotations

import ctypes
import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Sequence

START_LIMIT_S = 40
_PR_SET_PDEATHSIG = 1
BRIDGE = "172.17.0.1"
"""Docker's bridge, by which a container reaches this machine."""


def _die_with_us() -> None:
    """In the child: a session of tests that is killed leaves no server."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DatabaseServer:
    """
    One server, with a database and a user of its own. `stop` may be called twice; `start` starts it again.

    Attributes:
        folder: Everything of it; gone after `remove`.
        admin_password: Of the user who may do anything.
        authority: Whose certificates it has, and trusts.
        ca_pem: The certificate to trust.
    """

    kind: ClassVar[str]
    account: ClassVar[str]
    admin: ClassVar[str]

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"osiris-{self.kind}-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.admin_password = secrets.token_hex(12)
        self._process: subprocess.Popen[bytes] | None = None
        self.authority = trustme.CA()
        self.ca_pem = self.authority.cert_pem.bytes().decode()
        certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        self.cert_file, self.key_file = self.folder / "server.crt", self.folder / "server.key"
        certificate.cert_chain_pems[0].write_to_path(self.cert_file)
        certificate.private_key_pem.write_to_path(self.key_file)
        (self.folder / "ca.crt").write_text(self.ca_pem)
        self.own(self.cert_file, self.key_file)
        self.key_file.chmod(0o600)

    def own(self, *paths: Path) -> None:
        """Give files to the account that the server runs as, when we are root."""
        if os.getuid() == 0:
            for path in paths:
                shutil.chown(path, self.account, self.account)

    @property
    def as_account(self) -> dict[str, Any]:
        return {"user": self.account, "group": self.account} if os.getuid() == 0 else {}

    def launch(self, argv: Sequence[str | Path]) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                preexec_fn=_die_with_us, **self.as_account,
            )  # fmt: skip
        give_up_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up_s:
            if self._process.poll() is not None:
                break
            if self.answers():
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{self.kind} did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            if how == signal.SIGKILL:  # its children die of it by themselves, those of others are not ours
                os.killpg(self._process.pid, how)
            else:
                self._process.send_signal(how)
            self._process.wait(START_LIMIT_S)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresServer(DatabaseServer):
    kind = "postgres"
    account = "postgres"
    admin = "chief"

    def __init__(self) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        if not found:
            pytest.skip("PostgreSQL is not installed; install it with bash .ci/databases")
        super().__init__()
        self._programs = Path(found[-1]).parent
        data, password = self.folder / "data", self.folder / "password"
        password.write_text(self.admin_password)
        data.mkdir()
        self.own(data, password)
        command = [self._programs / "initdb", "-D", data, "-U", self.admin, f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self.as_account)
        password.unlink()
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all 172.16.0.0/12 scram-sha-256\n")
        with (data / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '*'\nunix_socket_directories = '{self.folder}'\n"
                f"fsync = off\nssl = on\nssl_cert_file = '{self.cert_file}'\nssl_key_file = '{self.key_file}'\n"
                "max_connections = 40\ndeadlock_timeout = 200ms\n"
            )
        self.start()

    def start(self) -> None:
        self.own(self.folder)
        self.launch([self._programs / "postgres", "-D", self.folder / "data"])

    def answers(self) -> bool:
        command = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


class MariadbServer(DatabaseServer):
    kind = "mariadb"
    account = "mysql"
    admin = "root"

    def __init__(self) -> None:
        program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("MariaDB is not installed; install it with bash .ci/databases")
        super().__init__()
        self._program = program
        self.own(self.folder)
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", "--skip-name-resolve"]
        command += [f"--user={self.account}"] if os.getuid() == 0 else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._password = ""
        self.start()
        for statement in (
            "DELETE FROM mysql.global_priv WHERE user = ''",
            "FLUSH PRIVILEGES",
            f"CREATE OR REPLACE USER 'root'@'127.0.0.1' IDENTIFIED BY '{self.admin_password}'",
            "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION",
            f"SET PASSWORD FOR 'root'@'localhost' = PASSWORD('{self.admin_password}')",
        ):
            with self._root() as root, root.cursor() as cursor:
                cursor.execute(statement)
        self._password = self.admin_password

    def _root(self) -> Any:
        import pymysql

        place = str(self.folder / "socket")
        return pymysql.connect(unix_socket=place, user="root", password=self._password, connect_timeout=2)

    def start(self) -> None:
        self.launch(
            [
                self._program, "--no-defaults", f"--datadir={self.folder / 'data'}", f"--port={self.port}",
                "--bind-address=*", f"--socket={self.folder / 'socket'}",
                f"--ssl-cert={self.cert_file}", f"--ssl-key={self.key_file}", f"--ssl-ca={self.folder / 'ca.crt'}",
                "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve", "--innodb-lock-wait-timeout=5",
                "--lock-wait-timeout=20", f"--pid-file={self.folder / 'pid'}",
            ]
        )  # fmt: skip

    def answers(self) -> bool:
        import pymysql

        with socket.socket() as probe:  # the library leaves a socket behind when it is refused
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        try:
            self._root().close()
        except pymysql.MySQLError as exc:
            if exc.args[0] == 1045:
                raise
            return False
        return True
