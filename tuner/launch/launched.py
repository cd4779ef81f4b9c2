"""What torchrun or srun says of this process, read from its environment. The one place that knows their variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from ccl_dispatch.runtime.errors import UsageError

# What torchrun gives its processes about the group that it thinks they make. Workers make their own, and torch or a
# library that found these would believe them.
_TORCH_GROUP = re.compile(
    r"RANK|WORLD_SIZE|(LOCAL|GROUP|ROLE)_(RANK|WORLD_SIZE|NAME)|MASTER_(ADDR|PORT)|TORCHELASTIC_.*"
)

_TASKS = "SLURM_STEP_TASKS_PER_NODE"


@dataclass(frozen=True)
class Launched:
    """One of the processes that a launcher started. One that is alone on its node starts its own ranks.

    Attributes:
        by: the launcher's name.
        option: of the launcher, which sets how many processes a node gets.
        local_rank, local_ranks: which of this node's processes, and how many there are.
        node, nodes: which of the job's nodes, and how many there are.
        job: equal for the processes of one job on one node, and for no others there.
    """

    by: str
    option: str
    local_rank: int
    local_ranks: int
    node: int
    nodes: int
    job: str


def launched(environ: Mapping[str, str]) -> Launched | None:
    """How this process was launched; None when nothing launched it, or it alone on a single node.

    torchrun goes before srun, which may have started it. In a Slurm job a process that no srun started (a line of the
    batch script, or of the shell that salloc gives) has variables of the job and none of a step.

    Raises:
        UsageError: the variables contradict each other.
    """
    found = _by_torchrun(environ) or _by_srun(environ)
    return None if found is None or found.local_ranks == found.nodes == 1 else found


def forget_group(environ: MutableMapping[str, str]) -> None:
    """Take out what torchrun says of its own group."""
    for name in [name for name in environ if _TORCH_GROUP.fullmatch(name)]:
        del environ[name]


def _by_torchrun(environ: Mapping[str, str]) -> Launched | None:
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    node = _number(environ, "GROUP_RANK", 0)
    named = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
    job = " ".join(["torchrun", *(environ.get(name, "") for name in named), str(node)])
    return Launched(
        "torchrun",
        "--nproc-per-node",
        _number(environ, "LOCAL_RANK"),
        _number(environ, "LOCAL_WORLD_SIZE"),
        node,
        _number(environ, "GROUP_WORLD_SIZE", 1),
        job,
    )


def _by_srun(environ: Mapping[str, str]) -> Launched | None:
    tasks = environ.get(_TASKS)
    if tasks is None or "SLURM_STEP_ID" not in environ:
        return None
    node = _number(environ, "SLURM_NODEID")
    counts = _tasks_per_node(tasks)
    if node >= len(counts):
        raise UsageError(
            f"SLURM_NODEID is {node}, and {_TASKS} ({tasks}) names {len(counts)} nodes: these are not of one srun. "
            "Start the sweep by srun directly"
        )
    named = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    job = " ".join(["srun", *(environ.get(name, "") for name in named), str(node)])
    return Launched(
        "srun", "--ntasks-per-node", _number(environ, "SLURM_LOCALID"), counts[node], node, len(counts), job
    )


def _tasks_per_node(text: str) -> list[int]:
    """Slurm's short form: `4(x2),3` is 4, 4, 3."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            raise UsageError(f"{_TASKS} is {text!r}; expected what srun sets, such as 8 or 4(x2),3")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _number(environ: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environ.get(name, "" if otherwise is None else str(otherwise))
    if not text.isdecimal():
        raise UsageError(
            f"the launcher's variable {name} is {text!r}; expected a number. Start the sweep by it directly"
        )
    return int(text)
