"""The job script: sees the run's folder, sets the environment up, starts the worker, writes down how it ended."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from remote import folders
from remote.bundle import PILOT_BOOT
from remote.order_file import PASS_ON_VARIABLE, RESTARTS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.slurm_cluster.config import SlurmConfig

NO_FOLDER, NO_PYTHON, SETUP_FAILED = 97, 98, 99
"""Exit codes of the script itself."""
_LINKED = (
    folders.CODE_ZIP,
    folders.PACKAGE_FILE,
    folders.PREPARED_FILE,
    folders.ORDER_FILE,
    folders.INPUTS_FOLDER,
    folders.CODE_FOLDER,
)

_HEAD = f"""\
# Osiris core: one worker. The first argument is the folder of its run.
node=${{SLURMD_NODENAME:-$(hostname)}}
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
fail() {{ # fail CODE WORDS
  printf 'osiris: node %s: %s\\n' "$node" "$2" >&2
  finish "$1"
}}
# The worker hears signals itself and ends what is below it; this script outlives it to say how it ended.
trap : TERM INT HUP
"""

_PLACE = f"""\
cd -- "$base" || fail {NO_FOLDER} "it does not see the folder $base (shared_dir must be the same folder on every node)"
place=$base
export {RESTARTS_VARIABLE}=${{SLURM_RESTART_COUNT:-0}}
if [ "${RESTARTS_VARIABLE}" -gt 0 ]; then # started again: a folder that no earlier worker knows
  place=$base/{folders.RESTART_PREFIX}${RESTARTS_VARIABLE}
  mkdir -p -- "$place"
  for part in {" ".join(_LINKED)}; do
    [ ! -e "$base/$part" ] || ln -sfn -- "../$part" "$place/$part"
  done
fi
mkdir -p -- "$place/{folders.WORKER_FOLDER}"
printf '%s\\n' "$node" >"$place/{folders.BEGAN_FILE}"
"""

_TAIL = f"""\
command -v "$python" >/dev/null ||
  fail {NO_PYTHON} "there is no interpreter $python here (set python, or run osiris adapters setup slurm)"
"""


def job_script(config: SlurmConfig, argv: Sequence[str]) -> str:
    """The script of a run whose worker is started by `argv`, the last of which is its folder."""
    return _shebang(config) + _HEAD + _PLACE + set_up(config) + _start(argv[:-1])


def pilot_script(config: SlurmConfig, python: str) -> str:
    """The script of a pilot; its argument is the folder of its pool."""
    numbers = [config.workers_per_node, config.pilot_idle_s, config.time_limit_s, config.drain_s]
    argv = [python, "-I", "-c", PILOT_BOOT]
    command = " ".join(['"$python"', *map(shlex.quote, argv[1:])])
    pool = f'"$base/{folders.CODE_ZIP}" "$base" "$node $SLURM_JOB_ID" ' + " ".join(map(str, numbers))
    seen = f"""\
cd -- "$base" || fail {NO_FOLDER} "it does not see the folder $base (shared_dir must be the same folder on every node)"
"""
    return (
        _shebang(config) + _HEAD + seen + set_up(config) + f"python={shlex.quote(python)}\n{_TAIL}"
        f"{command} {pool} </dev/null\nfinish $?\n"
    )


def set_up(config: SlurmConfig) -> str:
    """What the site's environment needs; the first line that fails ends the job."""
    lines = [f"module load -- {shlex.quote(module)}" for module in config.modules] + list(config.setup)
    # Steps that start tasks of their own (srun, mpirun) have to know of their allocation.
    known = f"export {PASS_ON_VARIABLE}=SLURM_\n" if config.ntasks > 1 or config.nodes > 1 else ""
    if not lines:
        return known
    trap = f"trap 'fail {SETUP_FAILED} \"modules or setup failed: $BASH_COMMAND\"' ERR"
    return known + "\n".join([trap, *lines, "trap - ERR", ""])


def _shebang(config: SlurmConfig) -> str:
    # A login shell knows `module`; without one a node need not read the user's profile.
    return "#!/bin/bash -l\n" if config.modules or config.setup else "#!/bin/bash\n"


def _start(argv: Sequence[str]) -> str:
    python, *arguments = argv
    command = " ".join(['"$python"', *map(shlex.quote, arguments), '"$place"'])
    # Its standard streams are no wire here: events are followed in its folder.
    own = f'[ -z "$SLURM_ARRAY_TASK_ID" ] || exec 2>>"$base/{folders.STDERR_FILE}"\n'
    return f"{own}python={shlex.quote(python)}\n{_TAIL}{command} </dev/null >/dev/null\nfinish $?\n"
