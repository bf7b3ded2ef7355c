"""What a connection to a database server says: where it is, who is asking, how it is encrypted, how long to wait."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

TlsMode = Literal["off", "prefer", "require", "verify-ca", "verify-full"]
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SqlConnection(BaseModel):
    """What the connections of every family of databases have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default_port: ClassVar[int]

    host: str = Field(
        default="localhost", min_length=1, description="The server's name or address; a folder with its socket: /run/…"
    )
    port: int = Field(default=0, ge=0, le=65535, description="Its port; 0: the usual one of the family.")
    database: str = Field(min_length=1, description="The database.")
    user: str = Field(min_length=1, description="Who is asking.")
    password: SecretStr | None = Field(default=None, description="The password; write it as ${VARIABLE}.")
    tls: TlsMode = Field(
        default="prefer",
        description="off; prefer: encrypted if the server can; require: encrypted, by whomever; verify-ca: by a server "
        "with a certificate of `tls_ca`; verify-full: and it is the one of `host`.",
    )
    tls_ca: str | None = Field(
        default=None,
        description="The certificates to trust: their text (PEM), which travels, or a file where the step runs.",
    )
    tls_cert: str | None = Field(default=None, description="Our own certificate: PEM, or a file where the step runs.")
    tls_key: SecretStr | None = Field(default=None, description="Its key: PEM, or a file where the step runs.")
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600, description="How long to wait for a connection.")
    statement_timeout_s: float | None = Field(
        default=None, gt=0, description="The longest one statement may take, by the server's own clock."
    )

    @field_validator("host", "database", "user")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if "\0" in value or "\n" in value:
            raise ValueError("has a line break or a NUL in it")
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> SqlConnection:
        if self.tls in ("verify-ca", "verify-full") and self.tls_ca is None:
            raise ValueError(f"tls {self.tls} needs tls_ca, the certificates to trust")
        if self.tls == "off" and (self.tls_ca or self.tls_cert or self.tls_key):
            raise ValueError("there are certificates, and tls is off")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        return self

    @property
    def server_port(self) -> int:
        return self.port or self.default_port

    @property
    def socket_dir(self) -> str | None:
        """The folder of the server's socket, when it is reached by one."""
        return self.host if self.host.startswith("/") else None

    def reaches(self) -> list[tuple[str, int | None]]:
        """Hosts and ports that it goes to; a socket is none."""
        return [] if self.socket_dir else [(self.host, self.server_port)]

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def secrets(self) -> list[str]:
        """The values that no text may show."""
        found = (self.password, self.tls_key)
        return [value.get_secret_value() for value in found if value is not None and value.get_secret_value()]

    def describe(self) -> str:
        """Where it goes, without who is asking."""
        place = self.host if self.socket_dir else f"{self.host}:{self.server_port}"
        return f"{place}, database {self.database}"


class PostgresConnection(SqlConnection):
    """A connection of family `postgres`."""

    default_port: ClassVar[int] = 5432


class MysqlConnection(SqlConnection):
    """A connection of family `mysql`: MariaDB and MySQL."""

    default_port: ClassVar[int] = 3306
