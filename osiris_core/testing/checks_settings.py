"""Checks of an adapter's configuration: strict, described, writable as JSON, and read by something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_core.testing.candidate import made_from
from osiris_core.testing.check import Check
from osiris_core.testing.trial import context, manifest, shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from osiris_core.testing.bench import Arrival, Bench
    from osiris_core.testing.evidence import Evidence

_TOPIC = "settings"


def settings(bench: Bench, evidence: Evidence) -> None:
    """Its configuration is looked at; nothing is run."""
    config, recipe = bench.candidate.config, bench.recipe()
    if config is None:
        raise TypeError("it has no `Config`, and takes no settings that could be checked")
    fields = type(config).model_fields
    evidence.facts["undescribed"] = [name for name, field in fields.items() if not field.description]
    evidence.facts["accepted"] = []
    for name in [f"{field}x" for field in fields] + ["conformance_nonsense"]:
        try:
            made_from({**recipe, "settings": {**recipe["settings"], name: 1}})
        except Exception as exc:  # noqa: BLE001 - how it is refused is looked at below
            evidence.facts.setdefault("refusals", {})[name] = str(exc)
        else:
            evidence.facts["accepted"].append(name)
    evidence.facts["restored"] = made_from(recipe).config == bench.make().config
    try:
        config.code = ("another",)
    except Exception:  # noqa: BLE001 - pydantic's own, and that is all that is asked
        evidence.facts["frozen"] = True


def _unknown_settings_are_refused(evidence: Evidence) -> Iterator[str]:
    yield from (f"the unknown setting {name!r} is accepted" for name in evidence.facts["accepted"])
    for name, refusal in evidence.facts.get("refusals", {}).items():
        if name not in refusal:
            yield f"the unknown setting {name!r} is refused without its name: {refusal}"


def _settings_are_described(evidence: Evidence) -> Iterator[str]:
    yield from (f"the setting {name!r} has no description" for name in evidence.facts["undescribed"])


def _settings_survive_json(evidence: Evidence) -> Iterator[str]:
    if not evidence.facts["restored"]:
        yield "settings that were written down as JSON, as they are for attach, give other settings"
    if not evidence.facts.get("frozen"):
        yield "a configuration can be changed after it was made"


def arrival_checks(arrivals: Mapping[str, Arrival]) -> tuple[Check, ...]:
    """One check for each setting whose arrival an adapter's author has named."""
    return tuple(_arrival_check(name, arrival) for name, arrival in arrivals.items())


def _arrival_check(name: str, arrival: Arrival) -> Check:
    def run(bench: Bench, evidence: Evidence) -> None:
        for label, changed in (("without", {}), ("with", dict(arrival.settings))):
            there = context(evidence, label)
            with bench.make(**changed) as adapter:
                report = adapter.run(manifest(shell("looks", arrival.shell)), there)
                outcome = evidence.outcome(label, adapter, evidence.folder / label, report)
            evidence.facts[label] = [event["message"].strip() for event in outcome.named("log", "looks")]

    def faults(evidence: Evidence) -> Iterator[str]:
        for label, wanted in (("without", False), ("with", True)):
            lines: list[Any] = evidence.facts[label]
            if (arrival.prints in lines) is not wanted:
                yield f"{label} {dict(arrival.settings)}, {arrival.shell!r} prints {lines}, {arrival.prints!r} " + (
                    "is not among them" if wanted else "also without the setting"
                )
        yield from evidence.left()

    return Check(f"setting-{name}", f"the setting {name} reaches the place of a run", _TOPIC, run, faults)


SETTINGS_CHECKS = (
    Check(
        "unknown-settings-are-refused",
        "a setting that does not exist is refused by its name, however near it is to one that does",
        _TOPIC,
        settings,
        _unknown_settings_are_refused,
    ),
    Check("settings-are-described", "every setting says what it is for", _TOPIC, settings, _settings_are_described),
    Check(
        "settings-survive-json",
        "settings can be written down and read again, and not be changed in between",
        _TOPIC,
        settings,
        _settings_survive_json,
    ),
)
