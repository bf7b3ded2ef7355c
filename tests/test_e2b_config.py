"""The settings of the E2B adapter: strict, every problem with its key and a remedy, nothing asked of E2B before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("e2b", reason="the extra [e2b] is not installed")

from osiris_core import AdapterFactory, ExecutionContext
from osiris_core.backends import E2BConfig
from osiris_core.errors import ConfigError, PreparationError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2b_server import E2BServer

SQL = {"pipeline": "p", "steps": [{"id": "a", "driver": "duckdb.processor", "config": {"query": "SELECT 1 AS x"}}]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tempalte": "x"}, "e2b.tempalte: there is no such key (did you mean 'template'?)"),
        ({"template": "no spaces"}, "no name of a template"),
        ({"template": "x", "requirements": ["polars"]}, "with template it is not"),
        ({"requirements": ["https://example.org/x.whl"]}, "a requirement is a name with versions"),
        ({"apt_packages": ["x; rm -rf /"]}, "cannot be the name of a Debian package"),
        ({"cpu": 0}, "e2b.cpu"),
        ({"memory_mb": 513}, "e2b.memory_mb"),
        ({"timeout": 59}, "e2b.timeout"),
        ({"timeout": 7200, "max_lifetime_s": 3600}, "more than the 3600 s"),
        ({"api_key": "two words"}, "this is no key"),
        ({"api_key": "x${NAME}"}, "or ${NAME} and nothing else"),
        ({"api_url": "e2b.example.org"}, "begins with http"),
        ({"api_url": "https://me:pw@e2b.example.org"}, "no user or password"),
        ({"domain": "https://e2b.example.org"}, "without https://"),
        ({"env_vars": {"A=B": "1"}}, "no name of an environment variable"),
        ({"metadata": {"osiris.token": "1"}}, "is ours"),
        ({"on_timeout": "sleep"}, "e2b.on_timeout"),
        ({"remote_dir": "relative"}, "e2b.remote_dir"),
        ({"user": "root; id"}, "no name of a user"),
        ({"network": {"allow_out": ["http://x"]}}, "no host, host:port, address or range"),
        ({"network": {"allow_out": ["*.example.org:5432"]}}, "ports 80 and 443 only"),
        ({"network": {"access": "all", "allow_out": ["x.org"]}}, "with all everything is allowed"),
        ({"network": {"deny_out": ["10.0.0.0/8"]}}, "deny_out is for access: all"),
        ({"network": {"access": "all", "deny_out": ["example.org"]}}, "hosts cannot be denied"),
        ({"network": {"dns_servers": ["dns.example.org"]}}, "e2b.network.dns_servers"),
        ({"network": {"egress_proxy": {"address": "p:1", "username": "u", "password": "clear"}}}, "${NAME}"),
        ({"network": {"egress_proxy": {"address": "p:1", "password": "${P}"}}}, "a password needs a username"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], words: str) -> None:
    """With its key, and with what to write instead."""
    with pytest.raises(ConfigError) as caught:
        AdapterFactory.create("e2b", **settings)
    assert words in str(caught.value)


def test_a_key_is_shown_nowhere() -> None:
    """Neither by repr nor as JSON nor in a complaint."""
    config = E2BConfig(api_key="e2b_0123456789abcdef", template="t")
    for text in (repr(config), str(config), config.model_dump_json(), json.dumps(config.model_dump(mode="json"))):
        assert "0123456789abcdef" not in text
    with pytest.raises(ConfigError) as caught:
        AdapterFactory.create("e2b", api_key="e2b_0123456789 abcdef")
    assert "0123456789" not in str(caught.value)


def test_the_schema_tells_of_every_key() -> None:
    """Each has a description, also those of the network."""
    schema = E2BConfig.model_json_schema()
    for part in (schema, schema["$defs"]["NetworkConfig"], schema["$defs"]["EgressProxyConfig"]):
        assert [name for name, field in part["properties"].items() if not field.get("description")] == []


def prepared(tmp_path: Path, context: dict[str, Any] | None = None, **settings: Any) -> str:
    """What `prepare` complains about; nothing is asked of E2B, which is nowhere."""
    settings = {"api_url": "http://127.0.0.1:9", "sandbox_url": "http://127.0.0.1:9", **settings}
    with pytest.raises(PreparationError) as caught, AdapterFactory.create("e2b", **settings) as adapter:
        adapter.prepare(SQL, ExecutionContext(session_dir=str(tmp_path / "s"), **(context or {})))
    return str(caught.value)


def test_every_problem_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no variable, no time, no host: all of it before anything is made."""
    for name in ("E2B_API_KEY", "NOBODY_SETS_THIS", "NOR_THAT"):
        monkeypatch.delenv(name, raising=False)
    said = prepared(
        tmp_path,
        {"timeout": 7200},
        max_lifetime_s=3600,
        env_vars={"TOKEN": "${NOBODY_SETS_THIS}"},
        network={
            "allow_out": ["db.invalid:5432"],
            "egress_proxy": {"address": "p:1", "username": "u", "password": "${NOR_THAT}"},
        },
    )
    assert "e2b.api_key: there is no API key (export E2B_API_KEY" in said
    assert "e2b.env_vars.TOKEN: NOBODY_SETS_THIS has no value here" in said
    assert (
        "e2b.max_lifetime_s: a run of 7200 s needs a sandbox that lives 7260 s, and the plan's limit is 3600 s" in said
    )
    assert "e2b.network.egress_proxy.password: NOR_THAT has no value here" in said
    assert "e2b.network: network.allow_out: db.invalid cannot be resolved" in said


def test_a_key_comes_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, e2b_server: E2BServer) -> None:
    """From the variable that is named, from the run's own, or from E2B_API_KEY."""
    far = {"api_url": e2b_server.api_url, "sandbox_url": e2b_server.sandbox_url}
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    monkeypatch.setenv("MY_KEY", e2b_server.api_key)
    assert AdapterFactory.create("e2b", api_key="${MY_KEY}", **far).unusable() is None
    assert "there is no API key" in str(AdapterFactory.create("e2b", api_key="${NOT_SET_AT_ALL}", **far).unusable())
    assert "there is no API key" in str(AdapterFactory.create("e2b", **far).unusable())
    monkeypatch.setenv("E2B_API_KEY", "e2b_wrong")
    refused = str(AdapterFactory.create("e2b", **far).unusable())
    assert "refused the API key" in refused
    assert "e2b_wrong" not in refused
    monkeypatch.setenv("E2B_API_KEY", e2b_server.api_key)
    assert AdapterFactory.create("e2b", **far).unusable() is None
