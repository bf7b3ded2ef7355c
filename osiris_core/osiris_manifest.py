"""
Reads manifests compiled by Osiris (osiris-pipeline 0.5) as native ones.

Format: a `manifest.yaml` with `steps[] {id, driver, component, cfg_path, needs}` beside compact JSON in `cfg/`.
There are no inputs: a step gets the `df` of every step it needs, named `df_<sanitised id>`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from osiris_core.documents import Document, read_document
from osiris_core.errors import ManifestError, Problem
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

_FINGERPRINT = ["pipeline", "fingerprints", "manifest_fp"]
_STEP_KEYS = {"id", "driver", "component", "cfg_path", "needs", "mode"}


def translate_manifest(document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """
    The native form of a compiled manifest, and what is wrong with it; reads its cfg files.

    A problem is that its own fingerprint does not fit (it was changed after compiling), that a step is not well
    formed, or that a cfg file is missing, broken, or reached by `..`. A bad step is translated as far as it goes.
    """
    data = document.data
    problems = list(_fingerprint_problems(data, document))
    steps: list[dict[str, Any]] = []
    folder = Path(document.file).parent if document.file else Path.cwd()
    for index, step in enumerate(data["steps"]):
        native: dict[str, Any] = {"id": f"#{index + 1}", "driver": "", "config": {}, "needs": []}
        for key, message in _translate_step(step, folder, native):
            step_id = step.get("id") if isinstance(step, dict) else None
            line = document.line_of(["steps", index, key])
            problems.append(Problem(message, str(step_id or f"#{index + 1}"), key or None, document.file, line))
        steps.append(native)
    _name_inputs(steps)
    pipeline = data.get("pipeline")
    name = pipeline.get("id") if isinstance(pipeline, dict) else None
    return {"pipeline": str(name or data.get("name") or "pipeline"), "steps": steps}, problems


def manifest_fingerprint(data: dict[str, Any]) -> str:
    """
    `pipeline.fingerprints.manifest_fp` as Osiris computes it: sha256 of the compact, sorted JSON of the
    manifest without its times, hashes and this very field. It does not cover the cfg files.
    """
    bare = copy.deepcopy(data)
    for path in (["meta", "generated_at"], ["meta", "manifest_hash"], ["meta", "manifest_short"], _FINGERPRINT):
        holder: Any = bare
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
    text = json.dumps(json.loads(json.dumps(bare)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _fingerprint_problems(data: dict[str, Any], document: Document) -> list[Problem]:
    path = _FINGERPRINT
    node: Any = data
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if node is None or node == manifest_fingerprint(data):
        return []
    return [
        Problem(
            "the manifest was changed after it was compiled: its fingerprint does not fit",
            key=".".join(path),
            file=document.file,
            line=document.line_of(path),
            hint="compile it again",
        )
    ]


def _translate_step(step: Any, folder: Path, native: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Fill in `native`; yields (key, message) for what is wrong."""
    if not isinstance(step, dict):
        yield "", "a step is a mapping"
        return
    for key in step:
        if key not in _STEP_KEYS:
            hint = did_you_mean(str(key), _STEP_KEYS)
            yield str(key), f"there is no such key{f' ({hint})' if hint else ''}"
    for name, value in (("id", step.get("id")), ("driver", step.get("driver") or step.get("component"))):
        if isinstance(value, str):
            native[name] = value
        else:
            yield name, "is missing or not a text"
    needs = step.get("needs") or []
    if isinstance(needs, list) and all(isinstance(need, str) for need in needs):
        native["needs"] = list(dict.fromkeys(needs))
    else:
        yield "needs", "is a list of step ids"
    cfg_path = step.get("cfg_path")
    if not isinstance(cfg_path, str):
        yield "cfg_path", "is missing or not a text"
    elif ".." in PurePosixPath(cfg_path).parts or "\\" in cfg_path:
        yield "cfg_path", f"{cfg_path!r} leaves the manifest's folder"
    else:
        try:
            native["config"] = _read_cfg(folder / cfg_path)
        except ManifestError as exc:
            for problem in exc.problems:
                yield "cfg_path", str(problem)


def _read_cfg(path: Path) -> dict[str, Any]:
    config = read_document(path).data
    if not isinstance(config, dict):
        raise ManifestError([Problem("is not a JSON object", file=str(path))])
    config.pop("component", None)
    return config


def sanitise(step_id: str) -> str:
    """A step id as part of a table name: other characters become `_`, a leading digit gets one in front."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", step_id)
    return f"_{name}" if name[:1].isdigit() else name


def _name_inputs(steps: list[dict[str, Any]]) -> None:
    """Give each step the `df` of all it needs; ids that collide when sanitised get a hash behind their name."""
    for step in steps:
        names = [sanitise(need) for need in step["needs"]]
        step["inputs"] = {}
        for need, name in zip(step["needs"], names, strict=True):
            if names.count(name) > 1:
                name = f"{name}_{hashlib.sha256(need.encode()).hexdigest()[:8]}"
            step["inputs"][f"df_{name}"] = {"from_step": need, "key": "df", "optional": True}
