"""What a connection to an HTTP interface says: where it is, who is asking, whom to trust."""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from osiris_core.drivers.http_address import check_address, origin

AuthType = Literal["none", "bearer", "basic", "api_key"]


class ApiConnection(BaseModel):
    """What every HTTP interface may need, whatever its address is called."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    auth_type: AuthType | None = Field(
        default="none",
        description="How a request says who is asking: bearer and basic in `Authorization`, api_key in a header of "
        "its own or in the query.",
    )
    auth_token: SecretStr | None = Field(
        default=None, description="The token of bearer, the password of basic, the key of api_key."
    )
    auth_username: str | None = Field(default=None, min_length=1, description="The user of basic.")
    auth_header_name: str = Field(
        default="X-API-Key", pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", description="The header that api_key goes into."
    )
    auth_query_name: str | None = Field(
        default=None, min_length=1, description="The query parameter that api_key goes into, instead of a header."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")
    validate_ssl: bool = Field(default=True, description="false: trust any certificate. For tests only.")
    ca_certificates: str | None = Field(
        default=None, description="Certificates (PEM) of an authority to trust besides the usual ones."
    )
    proxy: SecretStr | None = Field(
        default=None, description="The proxy to go through; one in the environment is not looked at."
    )

    @model_validator(mode="after")
    def _auth_is_whole(self) -> ApiConnection:
        if self.auth_type is None:  # somebody else says it
            return self
        if self.auth_type == "none" and (self.auth_token is not None or self.auth_username is not None):
            raise ValueError("there is an auth_token or auth_username, and auth_type is none; say which kind it is")
        if self.auth_type != "none" and (self.auth_token is None or not self.auth_token.get_secret_value()):
            raise ValueError(f"auth_type {self.auth_type} needs auth_token")
        if self.auth_type == "basic" and self.auth_username is None:
            raise ValueError("auth_type basic needs auth_username")
        if self.auth_query_name is not None and self.auth_type != "api_key":
            raise ValueError("auth_query_name is for auth_type api_key")
        return self

    @field_validator("headers", mode="after")
    @classmethod
    def _headers_fit(cls, headers: dict[str, str]) -> dict[str, str]:
        return check_headers(headers)

    @field_validator("auth_token", mode="after")
    @classmethod
    def _token_fits(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and any(char in token.get_secret_value() for char in "\r\n\0"):
            raise ValueError("has a line break in it")
        return token

    @property
    def address(self) -> str:
        """Where requests go."""
        raise NotImplementedError

    def reaches(self) -> list[tuple[str, int | None]]:
        """Hosts and ports that it goes to."""
        _, host, port = origin(self.address if self.proxy is None else self.proxy.get_secret_value())
        return [(host, port)]

    def auth_headers(self) -> dict[str, str]:
        """The headers that say who is asking."""
        if self.auth_token is None or self.auth_type is None:
            return {}
        token = self.auth_token.get_secret_value()
        if self.auth_type == "bearer":
            return {"Authorization": f"Bearer {token}"}
        if self.auth_type == "basic":
            return {"Authorization": f"Basic {base64.b64encode(f'{self.auth_username}:{token}'.encode()).decode()}"}
        return {} if self.auth_query_name else {self.auth_header_name: token}

    def auth_parameters(self) -> list[tuple[str, str]]:
        """The query parameters that say who is asking."""
        if self.auth_query_name is None or self.auth_token is None:
            return []
        return [(self.auth_query_name, self.auth_token.get_secret_value())]

    @property
    def has_credentials(self) -> bool:
        return self.auth_type not in ("none", None) or bool(self.headers)


class HttpConnection(ApiConnection):
    """A connection of family `http`."""

    base_url: str = Field(description="Where the interface is; steps name paths below it.")

    @field_validator("auth_type", mode="after")
    @classmethod
    def _is_said(cls, value: AuthType | None) -> AuthType:
        return value or "none"

    @field_validator("base_url", mode="after")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return check_address(value)

    @property
    def address(self) -> str:
        return self.base_url


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """
    `headers`, if requests can carry them.

    Raises:
        ValueError: A name or value is no header's, or one is set by the client itself.
    """
    for name, value in headers.items():
        if not name or any(not 33 <= ord(char) <= 126 or char in '":;,/()<>=?@[]{}\\' for char in name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in ("host", "content-length", "transfer-encoding", "connection", "accept-encoding"):
            raise ValueError(f"{name} is set by the client itself")
        if any(char in value for char in "\r\n\0"):
            raise ValueError(f"the value of {name} has a line break in it")
    return headers
