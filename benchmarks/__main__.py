"""Runs every benchmark, each in a process of its own: `python -m benchmarks [--quick]`."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "adapter_benchmark",
    "noop_step",
    "startup",
    "csv_sql_csv",
    "memory",
    "command_output",
    "worker_start",
    "noop_run",
    "rpc_round_trip",
    "events_pipe",
    "docker_artifact",
    "e2b_run",
    "e2b_transfer",
    "attach",
    "model_run",
    "postgres_transfer",
    "mysql_transfer",
    "slurm_run",
)


def main() -> int:
    failed = []
    for name in ALL:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nnot measured: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
