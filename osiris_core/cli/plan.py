"""`osiris plan`: what a run would do. Starts nothing, writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from osiris_core.cli import formatting, stdout
from osiris_core.cli.command import Command
from osiris_core.cli.options import RunOptions, json_option, run_options
from osiris_core.errors import PreparationError, Problem

if TYPE_CHECKING:
    from osiris_core.checkpoint import ResumePlan
    from osiris_core.cli.request import Request
    from osiris_core.plan import StepPlan
    from osiris_core.prepared import PreparedRun


@click.command(cls=Command)
@click.argument("manifest")
@run_options
@click.option("--show-script", is_flag=True, help="Only print the script that a batch system would get, as it is.")
@json_option
def plan(manifest: str, show_script: bool, as_json: bool, **options: Any) -> None:
    """
    Show what `osiris run` with the same options would do: the order of the steps, which would run or be reused and
    why, the files and secrets that are needed, what would be published, and the limits.
    """
    from osiris_core.cli.outlook import resume_outlook
    from osiris_core.cli.request import make_request

    request = make_request(RunOptions(manifest, **options))
    prepared = request.prepare()
    if show_script:
        _show_script(request, prepared, as_json=as_json)
        return
    document = _document(request, prepared, resume_outlook(request, prepared))
    if as_json:
        stdout.write_json(document)
    else:
        stdout.write_result("\n".join(_lines(document)))


def _show_script(request: Request, prepared: PreparedRun, *, as_json: bool) -> None:
    import shlex

    # An adapter of somebody else's need not know this hook.
    shown = getattr(request.adapter, "shown_script", lambda _: None)(prepared)
    if shown is None:
        message = f"adapter '{prepared.adapter}' hands no script to a batch system"
        raise PreparationError([Problem(message, key="--show-script", hint="use adapter slurm")])
    script, command = shown
    if as_json:
        stdout.write_json({"status": "planned", "adapter": prepared.adapter, "script": script, "command": command})
    else:
        stdout.say(f"osiris: handed in by: {shlex.join(command)}")
        stdout.write_result(script.removesuffix("\n"), exact=not stdout.result_is_terminal())


def _document(request: Request, prepared: PreparedRun, outlook: ResumePlan | None) -> dict[str, Any]:
    from osiris_core.plan import execution_waves
    from osiris_core.resources import cpu_count, default_memory_budget_bytes

    context = request.context
    waves = execution_waves(prepared.steps)
    earlier = request.earlier
    return {
        "status": "planned",
        "pipeline": prepared.name,
        "adapter": prepared.adapter,
        "fingerprint": prepared.fingerprint,
        "resumes": earlier.session_id if earlier and context.resume else None,
        "reusable": sorted(outlook.reused) if outlook else [],
        "notice": request.notice,
        "steps": [
            _step(step, number, outlook, resume=context.resume)
            for number, wave in enumerate(waves, start=1)
            for step in wave
        ],
        "input_files": [
            {
                "step_id": file.step_id,
                "key": file.key,
                "path": file.path,
                "source": file.source,
                "size_bytes": file.size_bytes,
            }
            for file in prepared.input_files
        ],
        "secrets": [{"name": name, "set": True} for name in prepared.secret_names],
        "outputs": _outputs(prepared, context.publish_dir),
        "limits": {
            "max_parallel_steps": context.max_parallel_steps or cpu_count(),
            "side_by_side": min(context.max_parallel_steps or cpu_count(), max(len(wave) for wave in waves)),
            "memory_budget_bytes": context.memory_budget_bytes or default_memory_budget_bytes(),
            "timeout_s": prepared.settings["timeout_s"],
            "on_failure": context.on_failure,
            "checkpoint": context.checkpoint,
        },
    }


def _step(step: StepPlan, wave: int, outlook: ResumePlan | None, *, resume: bool) -> dict[str, Any]:
    from osiris_core.cli.outlook import UNCHANGED

    action, reason = "run", "nothing of it is there yet"
    if outlook is not None and not resume:
        reason = "--resume was not asked for"
    elif outlook is not None:
        reused = step.id in outlook.reused
        action, reason = ("reuse", UNCHANGED) if reused else ("run", outlook.runs[step.id])
    reads = [f"{item.from_step}.{item.key}" if item.key else item.from_step for item in step.inputs.values()]
    waits_for = [name for name in step.needs if name not in {item.from_step for item in step.inputs.values()}]
    return {
        "wave": wave,
        "step_id": step.id,
        "driver": step.driver,
        "reads": reads,
        "waits_for": waits_for,
        "action": action,
        "reason": reason,
    }


def _outputs(prepared: PreparedRun, publish_dir: str | None) -> list[dict[str, Any]]:
    """The declared outputs as the manifest writes them: a path may be made of a secret."""
    from osiris_core.driver import DriverRegistry, config_model
    from osiris_core.paths import map_paths, path_fields

    found: list[dict[str, Any]] = []
    for step in prepared.steps:
        model = config_model(DriverRegistry.get(step.driver))
        for name, role in path_fields(model) if model else ():
            if role.role == "output":
                paths: list[str] = []
                map_paths(step.config.get(name), lambda path, into=paths: into.append(path) or path)  # type: ignore[misc]
                for path in paths:
                    target = str(Path(publish_dir, path)) if publish_dir else None
                    found.append({"step_id": step.id, "path": path, "published_as": target})
    return found


def _lines(document: dict[str, Any]) -> list[str]:
    steps, limits = document["steps"], document["limits"]
    waves = formatting.count(max(step["wave"] for step in steps), "waves")
    counted = formatting.count(len(steps), "steps")
    lines = [f"{document['pipeline']} on {document['adapter']}: {counted} in {waves}"]
    if document["notice"]:
        lines.append(document["notice"])
    rows = [
        (
            str(step["wave"]),
            step["step_id"],
            step["driver"],
            ", ".join([*step["reads"], *(f"({name})" for name in step["waits_for"])]) or "-",
            step["action"],
            step["reason"],
        )
        for step in steps
    ]
    lines += ["", *formatting.table(("wave", "step", "driver", "reads", "would", "why"), rows)]
    if document["reusable"] and not document["resumes"]:
        lines += ["", f"with --resume, reused: {', '.join(document['reusable'])}"]
    if document["input_files"]:
        files = [(f["step_id"], f["source"], formatting.size(f["size_bytes"])) for f in document["input_files"]]
        lines += ["", *formatting.table(("input of", "file", "size"), files)]
    if document["secrets"]:
        lines += ["", "secrets (all set): " + ", ".join(item["name"] for item in document["secrets"])]
    if document["outputs"]:
        outputs = [(o["step_id"], o["path"], o["published_as"] or "in the session only") for o in document["outputs"]]
        lines += ["", *formatting.table(("output of", "path", "published as"), outputs)]
    timeout = "no timeout" if limits["timeout_s"] is None else f"timeout {formatting.duration(limits['timeout_s'])}"
    lines += [
        "",
        f"limits: {limits['side_by_side']} of at most {limits['max_parallel_steps']} steps side by side, "
        f"{formatting.size(limits['memory_budget_bytes'])} of memory, {timeout}, "
        f"checkpoints {limits['checkpoint']}, {limits['on_failure']} after a failure",
    ]
    return lines
