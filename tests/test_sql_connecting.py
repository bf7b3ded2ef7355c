"""Connecting to a database: what is looked at, what is told to whom, and how long it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core.cancellation import CancelToken
from osiris_core.drivers.mysql_extractor import MysqlExtractor
from osiris_core.errors import FailureClass, RunCancelled, StepError
from osiris_core.testing import run_driver
from tests.databases import in_thread
from tests.silent_server import greeting_server, silent_server

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "s3cret-of-nobody"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGHOSTADDR", "127.9.9.9"),
        ("PGPORT", "1"),
        ("PGOPTIONS", "-c search_path=pg_catalog"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/nowhere/ca.pem"),
        ("PGSSLCERT", "/etc/hostname"),
        ("PGSSLMINPROTOCOLVERSION", "nonsense"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGCHANNELBINDING", "nonsense"),
        ("PGREQUIREPEER", "nobody"),
        ("PGAPPNAME", "somebody"),
        ("PGCLIENTENCODING", "LATIN1"),
    ],
)
def test_a_variable_of_the_environment_is_not_looked_at(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The connection says everything: it goes where it says, and the session is what it always is."""
    monkeypatch.setenv(variable, value)
    query = "SELECT current_setting('search_path') AS path, current_setting('application_name') AS name, 'ž' AS letter"
    table = postgres.read(tmp_path, query=query)
    assert table.to_pylist() == [{"path": '"$user", public', "name": "osiris", "letter": "ž"}]


def test_no_password_but_the_connections_is_used(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    connection = {name: value for name, value in postgres.connection.items() if name != "password"}
    with pytest.raises(StepError, match="no password supplied"):
        postgres.read(tmp_path, query="SELECT 1", connection=connection)


def test_a_service_leads_nowhere_else(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there changes nothing; of one that is not there the error says what to do."""
    services = tmp_path / "services"
    services.write_text("[elsewhere]\nhost=127.9.9.9\nhostaddr=127.9.9.9\nport=1\noptions=-c search_path=pg_catalog\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    query = "SELECT current_setting('search_path') AS x"
    assert postgres.read(tmp_path / "1", query=query)["x"].to_pylist() == ['"$user", public']
    monkeypatch.setenv("PGSERVICE", "nobody")
    with pytest.raises(StepError, match="unset it"):
        postgres.read(tmp_path / "2", query=query)


def test_certificates_of_the_home_folder_are_not_looked_at(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`require` trusts whoever answers, also where somebody else's authority lies there."""
    home = tmp_path / ".postgresql"
    home.mkdir()
    (home / "root.crt").write_text(_authority().cert_pem.bytes().decode())
    (home / "postgresql.crt").write_text("none")
    monkeypatch.setenv("HOME", str(tmp_path))
    connection = {**postgres.connection, "tls": "require"}
    assert postgres.read(tmp_path / "x", query="SELECT 1 AS x", connection=connection)["x"].to_pylist() == [1]


def test_a_certificate_of_ones_own_leaves_no_file(database: Any, tmp_path: Path) -> None:
    """It and its key are given as texts, and no folder of the step has them."""
    issued = database.server.authority.issue_cert("reader")
    own = {
        "tls_cert": issued.cert_chain_pems[0].bytes().decode(),
        "tls_key": issued.private_key_pem.bytes().decode(),
    }
    connection = {**database.connection, "tls": "require", **own}
    assert database.read(tmp_path, query="SELECT 1 AS x", connection=connection)["x"].to_pylist() == [1]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()] == []


def test_a_certificate_that_is_not_there_is_named(database: Any, tmp_path: Path) -> None:
    connection = {**database.connection, "tls": "verify-ca", "tls_ca": "/nowhere/ca.pem"}
    with pytest.raises(StepError, match=r"tls_ca: the file '/nowhere/ca.pem'") as caught:
        database.read(tmp_path, query="SELECT 1", connection=connection)
    assert caught.value.failure_class is FailureClass.USER_ERROR


def test_a_server_that_says_nothing_is_given_up_in_time(database: Any, tmp_path: Path) -> None:
    """The limit holds for all of the connecting, not for the first packet."""
    with silent_server() as port:
        connection = {**database.connection, "port": port, "connect_timeout_s": 0.5}
        started_s = time.monotonic()
        with pytest.raises(StepError, match="no answer within") as caught:
            database.read(tmp_path, query="SELECT 1", connection=connection)
    assert time.monotonic() - started_s < 3
    assert caught.value.failure_class is FailureClass.INFRA_LOST


def test_a_cancel_does_not_wait_for_a_connection(database: Any, tmp_path: Path) -> None:
    token = CancelToken()
    with silent_server() as port:
        connection = {**database.connection, "port": port, "connect_timeout_s": 60}
        attempt = in_thread(
            lambda: database.read(tmp_path, query="SELECT 1", connection=connection, harness={"token": token})
        )
        time.sleep(0.3)
        token.cancel(FailureClass.CANCELLED)
        assert isinstance(attempt.exception(3), RunCancelled)


@pytest.mark.parametrize(
    ("plugin", "asks_for"),
    [("mysql_clear_password", None), ("mysql_native_password", "mysql_clear_password"), ("dialog", None)],
)
@pytest.mark.parametrize("tls", ["off", "prefer"])
def test_who_asks_for_the_password_as_it_is_does_not_get_it(
    tmp_path: Path, plugin: str, asks_for: str | None, tls: str
) -> None:
    """Nobody knows who that is; with a certificate that is checked it would be known."""
    with greeting_server(plugin, asks_for) as (port, told):
        error = _failure(tmp_path, port, tls)
    assert "asks for the password as it is" in str(error)
    assert error.failure_class is FailureClass.USER_ERROR
    assert PASSWORD.encode() not in b"".join(told)


@pytest.mark.parametrize("tls", ["require", "verify-ca"])
def test_a_server_without_encryption_is_told_nothing(tmp_path: Path, tls: str) -> None:
    """Where encryption is asked for: neither the user's name nor anything of the password."""
    with greeting_server("mysql_native_password") as (port, told):
        _failure(
            tmp_path, port, tls, **({"tls_ca": _authority().cert_pem.bytes().decode()} if tls != "require" else {})
        )
    assert b"reader" not in b"".join(told)


def test_an_account_with_an_ed25519_key_logs_in(mariadb: Any, tmp_path: Path) -> None:
    mariadb.ask_admin("INSTALL SONAME 'auth_ed25519'")
    try:
        mariadb.ask_admin(
            f"CREATE OR REPLACE USER '{mariadb.user}_e'@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{mariadb.password}')"
        )
        mariadb.ask_admin(f"GRANT SELECT ON {mariadb.name}.* TO '{mariadb.user}_e'@'%'")
        connection = {**mariadb.connection, "user": f"{mariadb.user}_e"}
        assert mariadb.read(tmp_path, query="SELECT 1 AS x", connection=connection)["x"].to_pylist() == [1]
        mariadb.ask_admin(f"DROP USER '{mariadb.user}_e'@'%'")
    finally:
        mariadb.ask_admin("UNINSTALL SONAME 'auth_ed25519'")


def _failure(folder: Path, port: int, tls: str, **more: str) -> StepError:
    connection = {"host": "127.0.0.1", "port": port, "database": "d", "user": "reader", "password": PASSWORD}
    with pytest.raises(StepError) as caught:
        run_driver(
            MysqlExtractor,
            {"query": "SELECT 1", "connection": {**connection, "tls": tls, "connect_timeout_s": 3, **more}},
            folder,
        )
    assert PASSWORD not in str(caught.value)
    return caught.value


def _authority() -> Any:
    import trustme

    return trustme.CA()
