"""What the drivers of databases accept: every mistake is found before a run, with its key, and no value is shown."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.drivers.mysql_extractor_config import MysqlExtractorConfig
from osiris_core.drivers.mysql_writer import MysqlWriterConfig
from osiris_core.drivers.postgres_extractor_config import PostgresExtractorConfig
from osiris_core.drivers.postgres_writer import PostgresWriterConfig
from osiris_core.drivers.sql_certificates import certificate_files
from osiris_core.drivers.sql_connection import MysqlConnection, PostgresConnection
from osiris_core.drivers.sql_errors import DatabaseFailed, line_and_column
from osiris_core.errors import FailureClass, PreparationError

CONNECTION = {"database": "shop", "user": "reader", "password": "hunter2-secret"}
READS = [PostgresExtractorConfig, MysqlExtractorConfig]
WRITES = [PostgresWriterConfig, MysqlWriterConfig]


@pytest.mark.parametrize("model", READS)
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "either a query or a table"),
        ({"query": "SELECT 1", "table": "t"}, "either a query or a table"),
        ({"query": "SELECT 1", "columns": ["a"], "limit": 3}, "columns, limit: for a table"),
        ({"query": "SELECT 1", "schema": "s"}, "schema: for a table"),
        ({"table": "t", "offset": 5}, "offset without order_by"),
        ({"table": "t", "wide_decimals": "decimal(50,2)"}, "at most 38"),
        ({"table": "t", "wide_decimals": "number"}, "write text, float"),
        ({"table": "t", "limt": 5}, "Extra inputs"),
    ],
)
def test_what_is_read_must_be_clear(model: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate({"connection": CONNECTION, **config})


@pytest.mark.parametrize("model", WRITES)
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Field required"),
        ({"table": "t", "write_mode": "upsert"}, "needs primary_key"),
        ({"table": "t", "primary_key": ["a", "a"]}, "twice"),
        ({"table": "t", "write_mode": "merge"}, "append"),
        ({"table": "t", "batch_size": 0}, "greater than"),
    ],
)
def test_what_is_written_must_be_clear(model: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate({"connection": CONNECTION, **config})


@pytest.mark.parametrize("model", [PostgresConnection, MysqlConnection])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tls": "verify-full"}, "needs tls_ca"),
        ({"tls": "off", "tls_ca": "x"}, "tls is off"),
        ({"tls_cert": "x"}, "belong together"),
        ({"host": "a\nb"}, "line break"),
        ({"port": 70_000}, "65535"),
        ({"user": ""}, "at least 1"),
        ({"pasword": "x"}, "Extra inputs"),
    ],
)
def test_a_connection_must_be_whole(model: Any, change: dict[str, Any], message: str) -> None:
    """And what is wrong with it is said without a value."""
    with pytest.raises(ValidationError, match=message) as caught:
        model.model_validate({**CONNECTION, **change})
    assert "hunter2-secret" not in str(caught.value)


def test_a_connection_shows_no_secret() -> None:
    connection = PostgresConnection.model_validate({**CONNECTION, "tls_key": "k", "tls_cert": "c"})
    assert "hunter2-secret" not in repr(connection) + str(connection) + connection.describe()
    assert connection.describe() == "localhost:5432, database shop"
    assert MysqlConnection.model_validate(CONNECTION).server_port == 3306


def test_every_mistake_of_a_manifest_is_found_at_once(tmp_path: Path) -> None:
    """With the key, the nearest name and the line in the connections file; nothing was connected to."""
    (tmp_path / "osiris_connections.yaml").write_text(
        "connections:\n  postgres:\n    shop:\n      default: true\n      databse: shop\n      user: reader\n"
        "      password: hunter2-secret\n"
    )
    manifest = {
        "steps": [
            {"id": "read", "driver": "postgres.extractor", "config": {"tabel": "t"}},
            {"id": "write", "driver": "mysql.writer", "inputs": {"df": "read"}, "config": {"table": "t"}},
            {"id": "odd", "driver": "mysql.extractor", "config": {"connection": "@postgres.shop", "table": "t"}},
        ]
    }  # fmt: skip
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(PreparationError) as caught:
        AdapterFactory.create("local").prepare(path, ExecutionContext(session_dir=str(tmp_path / "session")))
    said = str(caught.value)
    for part in (
        "did you mean 'table'", "databse", "no connection family 'mysql'", "takes a connection of family 'mysql'",
    ):  # fmt: skip
        assert part in said, said
    assert "hunter2-secret" not in said


def test_a_compiled_manifest_of_osiris_is_taken_as_it_is() -> None:
    """With every key that its compiler puts in."""
    compiled = {
        "mode": "extract", "query": "SELECT 1", "batch_size": 10000, "pool_size": 5, "pool_recycle": 3600,
        "echo": False, "host": "localhost", "port": 3306, "offset": 0,
    }  # fmt: skip
    found = MysqlExtractorConfig.model_validate({"connection": CONNECTION, **compiled})
    assert (found.query, found.batch_size) == ("SELECT 1", 10000)


def test_a_key_as_text_is_a_file_that_only_we_read_and_on_no_disk(tmp_path: Path) -> None:
    """As long as it is needed. A file that is named is what it is; one that is not there is named."""
    key = tmp_path / "key.pem"
    key.write_text("a key\n")
    pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"
    connection = PostgresConnection(
        **{**CONNECTION, "tls": "require", "tls_ca": pem, "tls_cert": pem, "tls_key": SecretStr(str(key))}
    )
    with certificate_files(connection) as files:
        assert files["tls_key"] == str(key)
        assert Path(files["tls_ca"]).read_text() == pem + "\n"
        assert Path(files["tls_ca"]).stat().st_mode & 0o777 == 0o600
        if sys.platform == "linux":
            assert "memfd" in os.readlink(files["tls_ca"])
    assert not Path(files["tls_ca"]).exists()
    missing = connection.model_copy(update={"tls_ca": "/nowhere/ca"})
    with (
        pytest.raises(DatabaseFailed, match=r"tls_ca: the file '/nowhere/ca' cannot be") as caught,
        certificate_files(missing),
    ):
        pass
    assert caught.value.failure_class is FailureClass.USER_ERROR


def test_a_position_is_a_line_and_a_column() -> None:
    statement = "SELECT a,\n  b\nFROM t"
    assert line_and_column(statement, 1) == (1, 1)
    assert line_and_column(statement, statement.index("b") + 1) == (2, 3)
    assert line_and_column(statement, len(statement) + 5) == (3, 7)
