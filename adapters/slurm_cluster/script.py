"""The job script: sees the run's folder, sets the environment up, starts the worker, writes down how it ended."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from osiris_core.journal import JOURNAL_NAME
from remote import folders
from remote.bundle import PILOT_BOOT
from remote.order_file import PASS_ON_VARIABLE, RESTARTS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.slurm_cluster.config import SlurmConfig

NO_FOLDER, NO_PYTHON, SETUP_FAILED = 97, 98, 99
"""Exit codes of the script itself."""
CLAIM_FILE = f"{folders.WORKER_FOLDER}/job"
"""A link to nowhere that only one can make: its target is the job that has the run."""
DEVICES = "CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK"
"""How Slurm's plugins tell a job which devices are its own."""
_LINKED = (
    folders.CODE_ZIP,
    folders.PACKAGE_FILE,
    folders.PREPARED_FILE,
    folders.ORDER_FILE,
    folders.INPUTS_FOLDER,
    folders.CODE_FOLDER,
)

FAIL = """\
fail() { # fail CODE WORDS
  printf 'osiris: node %s: %s\\n' "${SLURMD_NODENAME:-$(hostname)}" "$2" >&2
  finish "$1"
}
"""
_HEAD = f"""\
# Osiris core: one worker. The first argument is the folder of its run.
node=${{SLURMD_NODENAME:-$(hostname)}}
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}
job=${{job:-$SLURM_JOB_ID}}
base=$1
[ -z "$SLURM_ARRAY_TASK_ID" ] || base=$(readlink -- "$1/$SLURM_ARRAY_TASK_ID")
place=
finish() {{ # finish CODE: the last thing that is done
  if [ -n "$place" ]; then
    ended=$place/{folders.EXIT_FILE}
    printf '%s\\n' "$1" >"$ended.new" && mv -f -- "$ended.new" "$ended"
  fi
  exit "$1"
}}
{FAIL}# The worker hears signals itself and ends what is below it; this script outlives it to say how it ended.
trap : TERM INT HUP
"""

_PLACE = f"""\
cd -- "$base" || fail {NO_FOLDER} "it does not see the folder $base (shared_dir must be the same folder on every node)"
# Where the answer to a submission is lost, two jobs may come of it: the first to be here has the run, also when it is
# started again, and another one leaves everything as it is.
ln -sT -- "$job" "$base/{CLAIM_FILE}" 2>/dev/null
first=$(readlink -- "$base/{CLAIM_FILE}") || fail {NO_FOLDER} "it cannot write to the folder $base"
[ "$first" = "$job" ] || exit 0
place=$base
export {RESTARTS_VARIABLE}=${{SLURM_RESTART_COUNT:-0}}
if [ "${RESTARTS_VARIABLE}" -gt 0 ]; then # started again: a folder that no earlier worker knows
  place=$base/{folders.RESTART_PREFIX}${RESTARTS_VARIABLE}
  mkdir -p -- "$place"
  for part in {" ".join(_LINKED)}; do
    [ ! -e "$base/$part" ] || ln -sfn -- "../$part" "$place/$part"
  done
fi
mkdir -p -- "$place/{folders.WORKER_FOLDER}" "$place/{folders.SESSION_FOLDER}"
: >>"$place/{folders.SESSION_FOLDER}/{JOURNAL_NAME}"
printf '%s %s\\n' "$node" "$job" >"$place/{folders.BEGAN_FILE}"
"""
_OWN_WORDS = f'exec 2>>"$place/{folders.STDERR_FILE}"\n'
"""Where the job's output is not a file of the run's own."""

_TAIL = f"""\
command -v "$python" >/dev/null ||
  fail {NO_PYTHON} "there is no interpreter $python here (set python, or run osiris adapters setup slurm)"
"""


_BEFORE = """\
declare -A osiris_before=()
while IFS= read -r -d '' pair; do osiris_before[${pair%%=*}]=${pair#*=}; done < <(env -0)"""
_AFTER = f"""\
{PASS_ON_VARIABLE}='<known>'
while IFS= read -r -d '' pair; do
  name=${{pair%%=*}}
  [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ && $name != _ && $name != SHLVL && $name != PWD && $name != OLDPWD ]] || continue
  [[ -v osiris_before[$name] && ${{osiris_before[$name]}} == "${{pair#*=}}" ]] || {PASS_ON_VARIABLE}+=" $name"
done < <(env -0)
export {PASS_ON_VARIABLE}
"""


def job_script(config: SlurmConfig, argv: Sequence[str]) -> str:
    """The script of a run whose worker is started by `argv`, the last of which is its folder."""
    own = _OWN_WORDS if has_own_words(config) else ""
    return _shebang(config) + _HEAD + _PLACE + own + set_up(config) + _start(argv[:-1])


def has_own_words(config: SlurmConfig) -> bool:
    """Whether what the script and the worker say lies in the run's folder, and not where the job's output goes."""
    return config.mode == "array" or config.output_file is not None or config.error_file is not None


def pilot_script(config: SlurmConfig, python: str) -> str:
    """The script of a pilot; its argument is the folder of its pool."""
    # The time that it has counts from the start of the job.
    numbers = [config.workers_per_node, config.pilot_idle_s, f"$(({config.time_limit_s} - SECONDS))", config.drain_s]
    argv = [python, "-I", "-c", PILOT_BOOT]
    command = " ".join(['"$python"', *map(shlex.quote, argv[1:])])
    pool = f'"$base/{folders.CODE_ZIP}" "$base" "$node $SLURM_JOB_ID" ' + " ".join(map(str, numbers))
    seen = f"""\
cd -- "$base" || fail {NO_FOLDER} "it does not see the folder $base (shared_dir must be the same folder on every node)"
exec 2>>"$base/$SLURM_JOB_ID.out"
"""
    return (
        _shebang(config) + _HEAD + seen + set_up(config) + f"python={shlex.quote(python)}\n{_TAIL}"
        f"{command} {pool} </dev/null\nfinish $?\n"
    )


def set_up(config: SlurmConfig) -> str:
    """
    What the site's environment needs; the first line that fails ends the job, by `fail`.

    What these lines change, and what Slurm says of the job, the steps are to see.
    """
    known = f"SLURM* {DEVICES}"
    lines = [*map(_load, config.modules), *config.setup]
    if not lines:
        return f"export {PASS_ON_VARIABLE}='{known}'\n"
    trap = f"trap 'fail {SETUP_FAILED} \"modules or setup failed: $BASH_COMMAND\"' ERR"
    return "\n".join([_BEFORE, trap, *lines, "trap - ERR", _AFTER.replace("<known>", known)])


def _load(module: str) -> str:
    line = f"module load {shlex.quote(module)}"
    # `module` is a function: what failed would be named by its own last line.
    return f"{line} || fail {SETUP_FAILED} {shlex.quote(f'modules or setup failed: {line}')}"


def _shebang(config: SlurmConfig) -> str:
    # A login shell knows `module`; without one a node need not read the user's profile.
    return "#!/bin/bash -l\n" if config.modules or config.setup else "#!/bin/bash\n"


def _start(argv: Sequence[str]) -> str:
    python, *arguments = argv
    command = " ".join(['"$python"', *map(shlex.quote, arguments), '"$place"'])
    # Its standard streams are no wire here: events are followed in its folder.
    return f"python={shlex.quote(python)}\n{_TAIL}{command} </dev/null >/dev/null\nfinish $?\n"
