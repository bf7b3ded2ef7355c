"""
Reads manifests compiled by Osiris (osiris-pipeline 0.5) as native ones.

Format: a `manifest.yaml` with `steps[] {id, driver, component, cfg_path, needs}` beside compact JSON in `cfg/`.
There are no inputs: a step gets the `df` of every step it needs, named `df_<sanitised id>`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from osiris_core.errors import ManifestError, Problem
from osiris_core.suggestion import did_you_mean

if TYPE_CHECKING:
    from osiris_core.documents import Document

_STEP_KEYS = {"id", "driver", "component", "cfg_path", "needs", "mode"}


def translate_manifest(document: Document) -> dict[str, Any]:
    """
    The native form of a compiled manifest; reads its cfg files.

    Raises:
        ManifestError: Its own fingerprint does not fit (it was changed after compiling), or a step is not well
            formed, or a cfg file is missing, broken or outside the manifest's folder. All problems at once.
    """
    data = document.data
    problems = list(_fingerprint_problems(data, document))
    steps: list[dict[str, Any]] = []
    folder = Path(document.file).parent if document.file else Path.cwd()
    for index, step in enumerate(data["steps"]):
        try:
            steps.append(_translate_step(step, folder))
        except _BadStepError as exc:
            step_id = step.get("id") if isinstance(step, dict) else None
            line = document.line_of(["steps", index, exc.key])
            problems.append(
                Problem(str(exc), step_id=step_id or f"#{index + 1}", key=exc.key, file=document.file, line=line)
            )
    if problems:
        raise ManifestError(problems)
    _name_inputs(steps)
    pipeline = data.get("pipeline") or {}
    return {"pipeline": str(pipeline.get("id") or data.get("name") or "pipeline"), "steps": steps}


class _BadStepError(Exception):
    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def manifest_fingerprint(data: dict[str, Any]) -> str:
    """
    `pipeline.fingerprints.manifest_fp` as Osiris computes it: sha256 of the compact, sorted JSON of the
    manifest without its times, hashes and this very field. It does not cover the cfg files.
    """
    bare = json.loads(json.dumps(data))
    for key in ("generated_at", "manifest_hash", "manifest_short"):
        bare.get("meta", {}).pop(key, None)
    bare.get("pipeline", {}).get("fingerprints", {}).pop("manifest_fp", None)
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _fingerprint_problems(data: dict[str, Any], document: Document) -> list[Problem]:
    path = ["pipeline", "fingerprints", "manifest_fp"]
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


def _translate_step(step: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(step, dict):
        raise _BadStepError("a step is a mapping", "")
    for key in step:
        if key not in _STEP_KEYS:
            hint = did_you_mean(str(key), _STEP_KEYS)
            raise _BadStepError(f"there is no such key{f' ({hint})' if hint else ''}", str(key))
    for key in ("id", "cfg_path"):
        if not isinstance(step.get(key), str):
            raise _BadStepError("is missing or not a text", key)
    driver = step.get("driver") or step.get("component")
    if not isinstance(driver, str):
        raise _BadStepError("is missing or not a text", "driver")
    needs = step.get("needs", [])
    if not isinstance(needs, list) or not all(isinstance(need, str) for need in needs):
        raise _BadStepError("is a list of step ids", "needs")
    config = _read_cfg(folder, step["cfg_path"])
    config.pop("component", None)
    return {"id": step["id"], "driver": driver, "config": config, "needs": needs}


def _read_cfg(folder: Path, cfg_path: str) -> dict[str, Any]:
    if ".." in PurePosixPath(cfg_path).parts or "\\" in cfg_path:
        raise _BadStepError(f"{cfg_path!r} leaves the manifest's folder", "cfg_path")
    path = folder / cfg_path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _BadStepError(f"there is no file {path}", "cfg_path") from None
    except (OSError, ValueError) as exc:
        raise _BadStepError(f"{path} cannot be read as JSON: {exc}", "cfg_path") from exc
    if not isinstance(config, dict):
        raise _BadStepError(f"{path} is not a JSON object", "cfg_path")
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
