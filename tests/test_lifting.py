"""What is a literal secret is one rule: in a step's configuration and in a connection alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from osiris_core import DriverRegistry, ExecutionContext, LocalAdapter, PreparedRun
from osiris_core.secrets import substitute

if TYPE_CHECKING:
    from pathlib import Path


class Takes:
    def run(self, step_id: str, config: dict[str, Any], inputs: dict[str, Any], ctx: Any) -> None: ...


@pytest.fixture(autouse=True)
def driver() -> Any:
    DriverRegistry.register("l.takes", Takes)
    yield
    DriverRegistry.unregister("l.takes")


def prepare(folder: Path, *configs: dict[str, Any], connections: dict[str, Any] | None = None) -> PreparedRun:
    file = folder / "connections.json"
    file.write_text(json.dumps({"connections": connections or {}}))
    steps = [{"id": f"s{n}", "driver": "l.takes", "config": config} for n, config in enumerate(configs)]
    context = ExecutionContext(
        session_dir=str(folder / "s"),
        connections=str(file),
        environment={"TOK": "tok-Alpha-12345", "DB": "main"},
        public_environment=frozenset({"DB"}),
    )
    return LocalAdapter().prepare({"steps": steps}, context)


def in_a_step(folder: Path, config: dict[str, Any]) -> tuple[PreparedRun, dict[str, Any]]:
    prepared = prepare(folder, config)
    return prepared, prepared.configs["s0"]


def in_a_connection(folder: Path, config: dict[str, Any]) -> tuple[PreparedRun, dict[str, Any]]:
    prepared = prepare(folder, {"connection": "@acme.a"}, connections={"acme": {"a": config}})
    return prepared, prepared.connections["@acme.a"]


@pytest.mark.parametrize("place", [in_a_step, in_a_connection])
@pytest.mark.parametrize(
    ("config", "secrets"),
    [
        ({"password": "hunter2"}, ["hunter2"]),
        ({"api_token": 98765432, "secret": 12345.75}, ["98765432", "12345.75"]),
        ({"max_token": 100, "maxToken": 100, "num_token": 5.5, "secret": True, "token": None}, []),
        ({"DB_PW": 11223344}, ["11223344"]),
        ({"credentials": {"user": "bob77", "port": 5}}, ["bob77", "5"]),
        ({"list": [{"api_key": ["abc", 12]}]}, ["abc", "12"]),
        ({"password": "${TOK}"}, []),
        ({"password": "${NONE:-hunter2}"}, ["hunter2"]),
        ({"target": "mysql://u:hunter2@h/db"}, ["mysql://u:hunter2@h/db"]),
        ({"target": "postgresql://u:${NONE:-hunter2-default}@h/db"}, ["hunter2-default"]),
        ({"target": "postgresql://u:${NONE:-p@ss/word}@h/${DB:-main}"}, ["p@ss/word"]),
        ({"target": "postgresql://${U:-bob}:hunter2@${DB:-h}/db"}, ["hunter2"]),
        ({"target": "postgresql://u:pre-${TOK}-$${x}@h"}, ["pre-", "-${x}"]),
        ({"target": "postgresql://u:${TOK}@h/${DB:-main}"}, []),
        ({"target": "http://${DB:-host}:80/a@b", "mail": "${U:-me}@example.org"}, []),
    ],
)
def test_what_is_lifted(tmp_path: Path, place: Any, config: dict[str, Any], secrets: list[str]) -> None:
    """The same literals go by name in both places, stand nowhere in clear, and come back as they were."""
    prepared, found = place(tmp_path, config)
    lifted = {name: value for name, value in prepared.secrets.items() if name.startswith("@")}
    assert sorted(lifted.values()) == sorted(secrets)
    written = json.dumps(prepared.to_json())
    assert not any(secret in written for secret in secrets if len(secret) > 2)
    assert str(substitute(found, prepared.secrets)) == str(
        substitute(_as_text(config, secrets), {"TOK": "tok-Alpha-12345", "DB": "main"})
    )


def _as_text(value: Any, secrets: list[str]) -> Any:
    """Numbers that are secret come back as text."""
    if isinstance(value, dict):
        return {key: _as_text(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item, secrets) for item in value]
    return str(value) if str(value) in secrets else value


def test_what_one_place_calls_secret_is_in_clear_in_none(tmp_path: Path) -> None:
    """A password of one step that stands in the text of another goes by name there, and so does a variable's value."""
    query = "SELECT * FROM t WHERE a = 'hunterABC22' OR b = '${NONE:-hunterABC22}' -- $${x} tok-Alpha-12345"
    prepared = prepare(tmp_path, {"query": query}, {"env": {"PASSWORD": "hunterABC22", "TOK": "${TOK}"}})
    written = json.dumps(prepared.to_json())
    assert "hunterABC22" not in written
    assert "tok-Alpha-12345" not in written
    plain = "SELECT * FROM t WHERE a = 'hunterABC22' OR b = 'hunterABC22' -- ${x} tok-Alpha-12345"
    assert substitute(prepared.configs["s0"], prepared.secrets) == {"query": plain}


def test_names_and_common_words_stay_as_they_are(tmp_path: Path) -> None:
    """A connection's name, and words too short or common to be searched for, are no secret that leaked."""
    connections = {"acme": {"billing": {"password": "billing", "user": "postgres"}}}
    configs = [
        {"connection": "@acme.billing", "a": "test postgres x1"},
        {"password": "test", "pw": "x1", "token": "postgres"},
    ]
    prepared = prepare(tmp_path, *configs, connections=connections)
    assert prepared.configs["s0"] == configs[0]
