"""
A model as a batch job of Slurm: submitted, followed, and cancelled when this program ends before it.

    python 05_slurm_run.py [PARTITION]
"""

import sys

from pydantic import ValidationError

from osiris_core.backends import SlurmConfig
from osiris_core.models.model_run import ModelRun


def main() -> int:
    try:
        SlurmConfig(command="./model", time_limit="an hour")
    except ValidationError as exc:
        for error in exc.errors():
            print(f"refused, as it should be: {error['loc'][0]}: {error['msg']}")

    config = SlurmConfig(
        command='echo "on $(hostname)" > outputs/where.txt',
        queue=sys.argv[1] if len(sys.argv) > 1 else None,
        nodes=1,
        ntasks=1,
        cpus_per_task=1,
        time_limit="0:10:00",
        timeout=600,
        env_vars={"OMP_NUM_THREADS": "1"},
    )
    print(config.model_dump(exclude_defaults=True))

    model = ModelRun(run_id="slurm", output_dir="./output", expected_outputs=["outputs/where.txt"])
    if not model.run(backend=config):
        # The scheduler's own reason: a partition that is not there, a limit, a node that failed, ...
        print(f"The model failed ({model.last_result.failure_class}): {model.last_result.error}")
        return 1
    print((model.staging_dir / "outputs" / "where.txt").read_text().strip())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
