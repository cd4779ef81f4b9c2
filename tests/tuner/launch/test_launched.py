"""What launchers say of a process, in the variables that they set. Those of Slurm are as srun 22.05 set them."""

from __future__ import annotations

import pytest

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.launch.launched import forget_group, launched

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "WORLD_SIZE": "8",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "ROLE_RANK": "5",
    "ROLE_NAME": "default",
    "ROLE_WORLD_SIZE": "8",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}
BATCH = {
    "SLURM_JOB_ID": "17",
    "SLURM_NTASKS": "7",
    "SLURM_TASKS_PER_NODE": "4,3",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
STEP = {
    **BATCH,
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
}


def test_torchrun_is_known() -> None:
    """Of torchrun's variables come the local rank, the node, and how many there are of both."""
    found = launched(TORCHRUN)
    assert found is not None
    assert (found.by, found.local_rank, found.local_ranks, found.node, found.nodes) == ("torchrun", 1, 4, 1, 2)


def test_a_step_of_slurm_is_known() -> None:
    """Of srun's variables come the same, also where nodes have different numbers of tasks."""
    found = launched(STEP)
    assert found is not None
    assert (found.by, found.local_rank, found.local_ranks, found.node, found.nodes) == ("srun", 2, 3, 1, 2)
    many = launched({**STEP, "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"})
    assert many is not None
    assert (many.local_ranks, many.nodes) == (4, 3)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        BATCH,
        {**STEP, "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"},
        {**TORCHRUN, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"},
    ],
    ids=["shell", "batch script", "one task", "one process"],
)
def test_a_process_by_itself_starts_its_own_ranks(environ: dict[str, str]) -> None:
    """Nothing is given by a shell, by an allocation without srun, or by a launcher that started this process alone."""
    assert launched(environ) is None


def test_torchrun_in_a_task_of_slurm_comes_first() -> None:
    """A process of a torchrun that srun started belongs to torchrun."""
    found = launched({**STEP, **TORCHRUN})
    assert found is not None
    assert found.by == "torchrun"


@pytest.mark.parametrize("name", ["SLURM_STEP_ID", "SLURM_JOB_ID", "SLURM_NODEID"])
def test_jobs_are_told_apart(name: str) -> None:
    """Another job, step or node has another name for its processes to meet under, and ranks of one have the same."""
    one, peer = launched(STEP), launched({**STEP, "SLURM_PROCID": "5", "SLURM_LOCALID": "1"})
    other = launched({**STEP, name: "0" if name == "SLURM_NODEID" else "99"})
    assert one is not None
    assert peer is not None
    assert other is not None
    assert one.job == peer.job != other.job


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "4;3"}, "expected what srun sets"),
        ({"SLURM_NODEID": "2"}, "names 2 nodes"),
        ({"SLURM_LOCALID": "x"}, "SLURM_LOCALID is 'x'"),
    ],
)
def test_variables_that_make_no_sense_are_told(changed: dict[str, str], what: str) -> None:
    """Variables that no srun sets so are an error that names them."""
    with pytest.raises(UsageError, match=what):
        launched({**STEP, **changed})


def test_the_launchers_group_is_forgotten() -> None:
    """Nothing that torchrun says of its own group reaches a worker; all else does."""
    environ = {**TORCHRUN, "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"}
    forget_group(environ)
    assert environ == {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"}
