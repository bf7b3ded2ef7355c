"""How two runs of a scenario are compared: what belongs to the place and the moment is taken out, the rest is equal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import osiris_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from osiris_core.testing.parity_outcome import Outcome

MOMENT = frozenset(
    {"seq", "ts", "session_id", "started_at", "execution_time_ms", "wall_ms", "memory_usage_mb", "adapter"}
)
"""Fields of events and records that tell when, how fast and where, and nothing else."""
REPORT_KEYS = ("status", "pipeline", "attempt", "fingerprint", "artifacts", "published", "input_files", "secret_names")
_FOLDER = r"(?:/[^\s/'\":<>]+)*"
_PLACES = (
    # As a package is laid out where it arrives; see `remote/folders.py`.
    (re.compile(rf"{_FOLDER}/code\.zip/"), "<osiris>/"),
    (re.compile(rf"{_FOLDER}/code/(?=[^\s/'\":]+\.py)"), "<code>/"),
    (re.compile(rf"{_FOLDER}/inputs/\d+/"), "<inputs>/"),
    (re.compile(rf"{_FOLDER}/(?=(?:artifacts|checkpoints|work/run-\d+)(?:/|\b))"), "<session>/"),
)
_DEEPER = re.compile(r"<inputs>/(?:[^\s/'\":<>]+/)*")
"""A worker gets each input file in a folder of its own, under its last name."""
_ROOMS = tuple(f"{Path(osiris_core.__file__).parent.parent}/{room}/" for room in ("osiris_core", "remote", "adapters"))
_MAX_SHOWN_CHARS = 1500


class Normaliser:
    """
    Replaces what names the place of one run in texts: `<session>`, `<inputs>`, `<code>`, `<osiris>`.

    Args:
        places: Folders of this machine that a run was given, by the name that takes their place.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        named = {"<osiris>": Path(osiris_core.__file__).parent.parent, **places}
        # The longest first: a session may lie in the folder of another.
        self._known = sorted(((str(path), name) for name, path in named.items()), key=lambda item: -len(item[0]))

    def text(self, text: str) -> str:
        if "/" not in text:
            return text
        # Before the literal ones: a worker's folder may lie in the session directory.
        for pattern, name in _PLACES[:3]:
            text = pattern.sub(name, text)
        for path, name in self._known:
            text = text.replace(path, name)
        text = _PLACES[3][0].sub(_PLACES[3][1], text).replace("<session><session>/", "<session>/")
        return _DEEPER.sub("<inputs>/", text)

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                key: self.text(user_frames(item)) if key == "traceback" else self.value(item)
                for key, item in value.items()
                if key not in MOMENT
            }
        return [self.value(item) for item in value] if isinstance(value, list) else value


def user_frames(traceback: str) -> str:
    """A traceback without the frames of installed packages and of our own drivers; its messages stay."""
    lines, kept, skips = traceback.splitlines(), [], False
    for line in lines:
        if match := re.match(r'\s+File "(.*?)", line \d+', line):
            skips = not _is_users(match[1])
        elif not line.startswith("    "):
            skips = False
        if not skips:
            kept.append(line)
    return "\n".join(kept)


def _is_users(filename: str) -> bool:
    installed = re.search(r"/(?:site-packages|dist-packages|lib/python3[^/]*)/", filename)
    # Compiled modules and our own zip have relative names.
    return filename.startswith("/") and not installed and not filename.startswith(_ROOMS)


def differences(ours: Outcome, theirs: Outcome, left_out: Callable[[Mapping[str, Any]], bool]) -> Iterator[str]:
    """What differs between two outcomes of one scenario, a sentence each. `left_out` names events not to compare."""
    one, other = _facts(ours, left_out), _facts(theirs, left_out)
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield f"{name}: {_shown(one.get(name), other.get(name), ours.adapter, theirs.adapter)}"


def _facts(outcome: Outcome, left_out: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    normal = outcome.normaliser
    facts: dict[str, Any] = {
        "problems": normal.value(outcome.problems),
        "raised": normal.value(outcome.raised),
        "names in the session directory": outcome.left,
        "artifact files": {name: item for name, item in outcome.tree.items() if name not in outcome.strays},
    }
    for event in outcome.events:
        if not _belongs_to_the_place(event) and not left_out(event):
            facts.setdefault(f"events of {_voice(event)}", []).append(normal.value(event))
    if outcome.report:
        facts["error"] = normal.value(outcome.report["error"])
        facts["steps"] = normal.value(outcome.report["steps"])
        facts["metrics"] = normal.value(outcome.report["metrics"])
        facts["report"] = normal.value({key: outcome.report[key] for key in REPORT_KEYS})
    return facts


def _voice(event: Mapping[str, Any]) -> str:
    """Whose events follow one another in a certain order; two streams of one program promise none."""
    if "step_id" not in event:
        return f"the {event['origin']}"
    stream = event["data"].get("stream") if event["event"] == "log" and "data" in event else None
    return f"step '{event['step_id']}'" + (f", {stream}" if stream else "")


def _belongs_to_the_place(event: Mapping[str, Any]) -> bool:
    if event["event"] == "metric":
        return bool(event["tags"] == {"sample": True})
    # Progress is written once a second; what the host logs is about the place (an image that is built).
    return event["event"] in ("heartbeat", "step.progress") or (event["event"] == "log" and event["origin"] == "host")


def _shown(one: Any, other: Any, one_name: str, other_name: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        one, other = ({key: item[key] for key in keys if key in item} for item in (one, other))
    if isinstance(one, list) and isinstance(other, list):
        at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        where = f"{len(one)} and {len(other)} of them, the first that differs is number {at + 1}"
        one, other = one[at : at + 1], other[at : at + 1]
        return f"{where}\n  {one_name}: {_json(one)}\n  {other_name}: {_json(other)}"
    return f"\n  {one_name}: {_json(one)}\n  {other_name}: {_json(other)}"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"


def journal_faults(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with a journal in itself: gaps, doubles, an end that is missing or said twice."""
    counts: dict[tuple[str, int], int] = {}
    for event in events:
        voice = (event["origin"], event["attempt"])
        counts[voice] = counts.get(voice, 0) + 1
        if event["seq"] != counts[voice]:
            yield f"event {counts[voice]} of {voice} has the number {event['seq']}"
            return
    for attempt in sorted({event["attempt"] for event in events}):
        mine = [event for event in events if event["attempt"] == attempt]
        steps_ends = [event["event"] for event in mine if event["event"] in ("steps.complete", "steps.error")]
        run_ends = [event["event"] for event in mine if event["event"] in ("run.complete", "run.error")]
        if mine[0]["event"] != "run.start" or mine[-1]["event"] not in ("run.complete", "run.error"):
            yield f"attempt {attempt} begins with {mine[0]['event']} and ends with {mine[-1]['event']}"
        if len(run_ends) != 1 or len(steps_ends) > 1:
            yield f"attempt {attempt} ends more than once or never: {steps_ends + run_ends}"
        engine = [event for event in mine if event["origin"] == "engine"]
        if steps_ends and engine[-1]["event"] != steps_ends[0]:
            yield f"attempt {attempt}: {engine[-1]['event']} follows {steps_ends[0]}"
