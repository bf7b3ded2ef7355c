"""A connection of family `supabase`: a project by its Postgres server, by its REST interface, or both."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from osiris_core.drivers.http_address import below, check_address
from osiris_core.drivers.http_connection import ApiConnection
from osiris_core.drivers.sql_connection import PostgresConnection, TlsMode

_TLS_OF_SSLMODE = {"disable": "off", "allow": "prefer"}


class SupabaseConnection(BaseModel):
    """The Postgres server needs `pg_dsn` or `password`, the REST interface `key`; with both the server is used."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str | None = Field(default=None, description="The project's address: https://PROJECT.supabase.co.")
    project_id: str | None = Field(
        default=None, pattern=r"^[a-zA-Z0-9-]+$", description="The project, instead of its address."
    )
    key: SecretStr | None = Field(
        default=None, description="A key of the REST interface; it decides what is seen and may be written."
    )
    rest_path: str = Field(default="/rest/v1", description="Where below the address the REST interface is.")
    pg_dsn: SecretStr | None = Field(
        default=None, description="The Postgres server: postgresql://user:password@host:port/database?sslmode=require."
    )
    host: str | None = Field(default=None, description="The server, instead of pg_dsn; db.PROJECT.supabase.co.")
    port: int = Field(default=5432, ge=1, le=65535, description="Its port.")
    database: str = Field(default="postgres", min_length=1, description="The database.")
    user: str = Field(default="postgres", min_length=1, description="Who is asking.")
    password: SecretStr | None = Field(default=None, description="The password of `user`.")
    tls: TlsMode = Field(default="require", description="How the connection to the server is encrypted.")
    tls_ca: str | None = Field(default=None, description="The certificates to trust there (PEM, or a file).")
    connect_timeout_s: float = Field(default=10.0, gt=0, le=600, description="How long a connection may take.")
    statement_timeout_s: float | None = Field(default=None, gt=0, description="How long one statement may take.")
    validate_ssl: bool = Field(default=True, description="REST; false: trust any certificate. For tests only.")
    ca_certificates: str | None = Field(default=None, description="REST: certificates (PEM) to trust besides.")
    proxy: SecretStr | None = Field(default=None, description="REST: the proxy to go through.")

    @field_validator("url", mode="after")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        return check_address(value) if value is not None else None

    @model_validator(mode="after")
    def _leads_somewhere(self) -> SupabaseConnection:
        if self.pg_dsn is not None and (self.password is not None or self.host is not None):
            raise ValueError("give either pg_dsn, or host and password")
        if not self.has_postgres and self.key is None:
            raise ValueError("needs pg_dsn or password (the Postgres server), or key (the REST interface)")
        if self.key is not None and self.rest_address is None:
            raise ValueError("key needs url or project_id")
        if self.has_postgres:
            self.postgres()
        return self

    @property
    def has_postgres(self) -> bool:
        return self.pg_dsn is not None or self.password is not None

    @property
    def has_rest(self) -> bool:
        return self.key is not None

    @property
    def rest_address(self) -> str | None:
        """Where the REST interface is."""
        home = self.url or (f"https://{self.project_id}.supabase.co" if self.project_id else None)
        return below(home, self.rest_path) if home else None

    def postgres(self) -> PostgresConnection:
        """
        The server, as a connection of family `postgres`.

        Raises:
            ValueError: What is said of it is not whole.
        """
        found: dict[str, Any] = {
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "tls": self.tls,
            "tls_ca": self.tls_ca,
            "connect_timeout_s": self.connect_timeout_s,
            "statement_timeout_s": self.statement_timeout_s,
        }
        if self.pg_dsn is not None:
            found.update(_parts(self.pg_dsn.get_secret_value()))
        elif self.host or self.project_id:
            found["host"] = self.host or f"db.{self.project_id}.supabase.co"
        else:
            raise ValueError("password needs host or project_id")
        try:
            return PostgresConnection(**found)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def reaches(self) -> list[tuple[str, int | None]]:
        """Hosts and ports that it goes to, either way."""
        return [
            *(self.postgres().reaches() if self.has_postgres else []),
            *(self.rest().reaches() if self.has_rest else []),
        ]

    def rest(self) -> RestConnection:
        """The REST interface. To be asked only where `has_rest`."""
        assert self.key is not None
        key = self.key.get_secret_value()
        return RestConnection(
            base_url=self.rest_address or "",
            auth_type="bearer",
            auth_token=self.key,
            headers={"apikey": key},
            validate_ssl=self.validate_ssl,
            ca_certificates=self.ca_certificates,
            proxy=self.proxy,
        )


class RestConnection(ApiConnection):
    """The REST interface of a project, as the HTTP client takes it."""

    base_url: str

    @property
    def address(self) -> str:
        return self.base_url


def _parts(dsn: str) -> dict[str, Any]:
    """What a DSN says. Raises ValueError without any of it in the message."""
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError:
        raise ValueError("pg_dsn is no address of a server") from None
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.username:
        raise ValueError("pg_dsn must be postgresql://user:password@host:port/database")
    found: dict[str, Any] = {"host": unquote(parts.hostname), "user": unquote(parts.username)}
    if port is not None:
        found["port"] = port
    if parts.password is not None:
        found["password"] = SecretStr(unquote(parts.password))
    if parts.path.strip("/"):
        found["database"] = unquote(parts.path.strip("/"))
    query = parse_qs(parts.query)
    if unknown := sorted(set(query) - {"sslmode"}):
        raise ValueError(f"pg_dsn: {', '.join(unknown)} is not known there; known is sslmode")
    if "sslmode" in query:
        mode = query["sslmode"][0]
        found["tls"] = _TLS_OF_SSLMODE.get(mode, mode)
    return found
