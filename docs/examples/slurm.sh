#!/bin/bash
# One node:      sbatch docs/examples/slurm.sh mi300x
# Several nodes: STORAGE=postgresql://ccl@db.example/ccl sbatch --nodes=8 docs/examples/slurm.sh mi300x
# The same command continues what was interrupted. Adapt the lines below to your cluster: as many tasks as GPUs per node.
#SBATCH --job-name=ccl-dispatch
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --requeue

set -euo pipefail
config=${1:-mi300x}
name=$(basename "$config" .yaml)

# Several nodes share the work through a database. Its password belongs into ~/.pgpass, not on a command line.
storage=${STORAGE:-runs/$name/study.journal}

# All tasks of a node see all of its GPUs, as the processes of serving do: no --gpus-per-task.
# One that fails ends the others; SIGTERM at the time limit ends the sweep with what it has measured kept.
srun --kill-on-bad-exit=1 \
    ccl-dispatch sweep "$config" --storage "$storage" --out "runs/$name/table.yaml"

ccl-dispatch show "runs/$name/table.yaml"
