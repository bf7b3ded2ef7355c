"""The report of a conformance run as plain JSON: what was checked, on what, and what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import TYPE_CHECKING, Any

import osiris_core
from osiris_core.factory import AdapterFactory
from osiris_core.recorded_settings import recordable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from osiris_core.testing.candidate import Candidate
    from osiris_core.testing.check import Verdict

REPORT_VERSION = 1
_LIBRARIES = ("pyarrow", "duckdb", "pydantic")


def report_of(candidate: Candidate, verdicts: Sequence[Verdict], started_at: str, took_s: float) -> dict[str, Any]:
    """Everything that is known, with a digest of it. Holds no secret of the adapter's settings."""
    states = [verdict.state for verdict in verdicts]
    report = {
        "v": REPORT_VERSION,
        "adapter": candidate.name,
        "class": f"{type(candidate.exemplar).__module__}:{type(candidate.exemplar).__qualname__}",
        "settings": recordable(candidate.config, []) if candidate.config is not None else {},
        "status": "failed" if "fails" in states else "completed",
        "counts": {state: states.count(state) for state in ("holds", "fails", "gap")},
        "started_at": started_at,
        "took_s": round(took_s, 3),
        "versions": _versions(candidate),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "processors": os.cpu_count(),
        },
        "checks": [verdict.to_json() for verdict in verdicts],
    }
    return {**report, "digest": digest_of(report)}


def digest_of(report: Mapping[str, Any]) -> str:
    """`sha256:…` over a report, but for its digest: who has the report can tell whether it was changed."""
    content = {name: value for name, value in report.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _versions(candidate: Candidate) -> dict[str, str]:
    found = {"osiris-core": osiris_core.__version__, "python": platform.python_version()}
    found |= {name: version(name) for name in _LIBRARIES}
    if AdapterFactory.source(candidate.name) != "built in":
        module = type(candidate.exemplar).__module__.partition(".")[0]
        for name in packages_distributions().get(module, ()):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found
