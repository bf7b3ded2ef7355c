"""The settings of `graphql.extractor`: the keys of Osiris, and those that every driver reading over HTTP has."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from osiris_core.drivers.graphql_query import operations
from osiris_core.drivers.http_address import check_address
from osiris_core.drivers.http_connection import ApiConnection, AuthType, check_headers
from osiris_core.drivers.http_extractor_config import RecordSettings
from osiris_core.drivers.json_path import parse_path
from osiris_core.pydantic_words import findings


class GraphQLConnection(ApiConnection):
    """A connection of family `graphql`."""

    endpoint: str = Field(description="The address that takes queries.")
    auth_type: AuthType | None = Field(
        default=None, description="How a request says who is asking; where it is not said here, the step says it."
    )

    @field_validator("endpoint", mode="after")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return check_address(value)

    @property
    def address(self) -> str:
        return self.endpoint


class GraphQLExtractorConfig(RecordSettings):
    """Settings of `graphql.extractor`; the names and defaults are those of Osiris."""

    connection: GraphQLConnection | None = Field(
        default=None, description="A connection of family `graphql`. Without one `endpoint` is needed here."
    )
    mode: Literal["extract", "read"] = Field(
        default="extract", description="Accepted because compiled manifests carry it; both words mean the same."
    )
    endpoint: str | None = Field(
        default=None, description="The address that takes queries; with a connection, one of the same server."
    )
    query: str = Field(min_length=1, description="The query. One that changes something is refused.")
    variables: dict[str, Any] = Field(default_factory=dict, description="The query's variables.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of this step's requests.")
    auth_type: AuthType = Field(default="none", description="How a request says who is asking.")
    auth_token: SecretStr | None = Field(
        default=None, description="The token of bearer, the password of basic, the key of api_key."
    )
    auth_username: str | None = Field(default=None, description="The user of basic.")
    auth_header_name: str = Field(default="X-API-Key", description="The header that api_key goes into.")
    timeout: float = Field(default=30, gt=0, description="How long one answer may take, in seconds.")
    max_retries: int = Field(
        default=3, ge=0, le=20, description="How often a request is asked again after 429, 5xx or a broken connection."
    )
    retry_delay: float = Field(default=1, ge=0, le=60, description="The first pause, in seconds; it doubles.")
    pagination_enabled: bool = Field(default=False, description="Whether to turn pages by their cursor.")
    pagination_path: str = Field(default="data.pageInfo", description="Where the answer has its pageInfo.")
    pagination_cursor_field: str = Field(default="endCursor", min_length=1, description="The cursor's name there.")
    pagination_has_next_field: str = Field(
        default="hasNextPage", min_length=1, description="The name there of what says whether there is more."
    )
    pagination_variable_name: str = Field(
        default="after", min_length=1, description="The query's variable that takes the cursor."
    )
    max_pages: int = Field(default=0, ge=0, description="The most pages to read, the rest is left; 0: all.")
    data_path: str = Field(default="data", description="Where the records are: data.items.nodes, data.a.edges[*].node.")
    validate_ssl: bool = Field(default=True, description="Without a connection; false: trust any certificate.")

    @field_validator("query", mode="after")
    @classmethod
    def _reads_only(cls, value: str) -> str:
        for name in operations(value):
            if name in ("mutation", "subscription"):
                raise ValueError(f"is a {name}; an extractor only reads, and may ask a question again")
        return value

    @field_validator("data_path", "pagination_path", mode="after")
    @classmethod
    def _is_path(cls, value: str) -> str:
        parse_path(value)
        return value

    @field_validator("headers", mode="after")
    @classmethod
    def _headers_fit(cls, value: dict[str, str]) -> dict[str, str]:
        return check_headers(value)

    @model_validator(mode="after")
    def _fits_together(self) -> GraphQLExtractorConfig:
        if self.connection is None and self.endpoint is None:
            raise ValueError("endpoint is missing, or a connection")
        if self.endpoint is not None:
            try:
                check_address(self.endpoint)
            except ValueError as exc:
                raise ValueError(f"endpoint {exc}") from None
        self.used_connection()
        return self

    def used_connection(self) -> GraphQLConnection:
        """
        The connection, with what these settings add to it; without one, what they make up alone.

        Raises:
            ValueError: Both say the same thing in two ways, or together they are not whole.
        """
        given = self.connection
        said: dict[str, Any] = {} if given is None else {name: getattr(given, name) for name in given.model_fields_set}
        for name in ("auth_type", "auth_token", "auth_username", "auth_header_name", "validate_ssl"):
            value = getattr(self, name)
            if value == type(self).model_fields[name].default:  # compiled manifests write defaults out
                continue
            if said.get(name, value) != value or (given is not None and name in ("auth_token", "auth_username")):
                raise ValueError(f"{name} is said here and belongs into the connection; say it there only")
            said[name] = value
        said.setdefault("endpoint", self.endpoint or "")
        if said.get("auth_type") is None:
            said["auth_type"] = "none"
        try:
            return GraphQLConnection(**said)
        except ValidationError as exc:
            first = findings(exc, said, GraphQLConnection)[0]
            raise ValueError(f"{first.key}: {first.message}" if first.path else first.message) from None
