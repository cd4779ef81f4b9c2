"""Sweeps in ranks that a launcher gave: the real torchrun; and real processes with the variables that srun sets.

There is no Slurm where tests run. That srun sets these variables was seen with srun 22.05 (docs/launching.md).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from command import COMMAND
from workers import children, runs, worker_pids

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.launch.launched import launched
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.statistics import StopRule

MI300X = Path(__file__).parents[2] / "data" / "measurements" / "mi300x-all_reduce-rccl-quickreduce.csv"
REAL = """\
name: given
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 64 KiB, per_octave: 1}
measure: {min_samples: 12, min_seconds: 0.1}
"""
REPLAY = f"name: given\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}}}\nworld_sizes: [8]\n"
SETTINGS = MeasureSettings("gloo", ("shm",), "isolated", StopRule(0.03, 0.95, 1, 12, 40), 0.0, 1.0, 3, 30.0, 0)
REQUEST = PointRequest(Point(Cell("all_gather", "eager", "first", "bfloat16", 2), 64), 0)


def test_torchrun(tmp_path: Path) -> None:
    """Under torchrun a worker is the child of its rank's process, a killed one is replaced, and the sweep completes.

    A rank more than needed stays idle, and one alone prints.
    """
    (tmp_path / "given.yaml").write_text(REAL)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "--no-python"]
    command = [*torchrun, *COMMAND, "sweep", "given.yaml"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "] visit 1," in line:  # it is stored
                break
        # The sweep's own process is the one that has a child; what torchrun started otherwise are the hosts.
        ranks = [pid for pid in children(process.pid) if b"sweep" in _command(pid) or b"nursery" in _command(pid)]
        (first,) = [pid for pid in ranks if b"sweep" in _command(pid)]
        hosts = [pid for pid in ranks if pid != first]
        workers = [pid for host in hosts for pid in children(host)]
        assert (len(hosts), len(workers), len(worker_pids(first))) == (2, 1, 1)
        assert b"WORLD_SIZE" not in Path(f"/proc/{hosts[0]}/environ").read_bytes()
        os.kill(workers[0], signal.SIGKILL)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "its process was ended by SIGKILL" in errors
    assert printed.count("runs/given/table.yaml: ") == 1
    (cell,) = load_table(tmp_path / "runs/given/table.yaml").cells
    assert cell.bands
    assert not [pid for pid in hosts if runs(pid)]


def test_too_few_ranks_are_refused(tmp_path: Path) -> None:
    """A world size above the number of ranks given ends all of them with exit code 2, and one says both numbers."""
    first, second = _srun(tmp_path, REAL.replace("[2]", "[2, 4]"), 2)
    assert (second.wait(30), first.poll()) == (2, 2)  # in this order: a launcher reports who fails first
    ended = _finish([first, second])
    assert "world size 4 needs 4 ranks, srun gave this node 2. Start the job with --ntasks-per-node 4" in ended[0][2]
    assert ended[1][1:] == ("", "")


def test_nodes_need_a_storage_that_they_can_share(tmp_path: Path) -> None:
    """A job of two nodes is refused a journal, in words that name a storage that would do."""
    ((code, _, errors),) = _finish(_srun(tmp_path, REPLAY, 1, SLURM_STEP_TASKS_PER_NODE="1(x2)"))
    assert code == 2
    assert "2 nodes can't share the storage runs/given/study.journal" in errors
    assert "postgresql://" in errors


def test_a_replay_needs_no_ranks(tmp_path: Path) -> None:
    """A replayed sweep in given ranks completes in the first, and all of them end with 0."""
    ended = _finish(_srun(tmp_path, REPLAY, 2))
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[0][1].startswith("runs/given/table.yaml: ")
    assert ended[1][1:] == ("", "")


def test_a_lost_rank_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a rank's process is killed no backend is blamed, and the next point says whose it was and what to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environ = {**os.environ, **_step(tmp_path, 2)}
    first = launched({**environ, "SLURM_LOCALID": "0"})
    assert first is not None
    given = GivenRanks(first)
    host = subprocess.Popen(
        [*COMMAND, "sweep"], cwd=tmp_path, env={**environ, "SLURM_LOCALID": "1"}, stdout=subprocess.PIPE
    )
    with host, WorkerPool([2], 65536, SETTINGS, {}, tmp_path, given) as pool:
        given.gather(2)
        assert pool.measure(REQUEST)[0].timings is not None
        (worker,) = children(host.pid)
        host.kill()
        while runs(worker):
            time.sleep(0.01)
        with pytest.raises(WorkerFault) as fault:
            pool.measure(REQUEST)
        assert fault.value.backend == ""
        said = rf"the process of local rank 1 \(number {host.pid}\), .* Only srun can start another: start the job"
        with pytest.raises(MeasuringError, match=said):
            pool.measure(REQUEST)
    given.release(3, at_once=True)


def test_ranks_end_with_the_first_one(tmp_path: Path) -> None:
    """When the first rank's process is killed the others end with exit code 3."""
    first, second = _srun(tmp_path, REPLAY.replace("}", ", noise: 0.3}\nsizes: {per_octave: 40}", 1), 2)
    while not (tmp_path / "runs/given/study.journal").exists() or b"nursery" not in _command(second.pid):
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    assert [code for code, _, _ in _finish([first, second])] == [-signal.SIGKILL, 3]


def _srun(folder: Path, config: str, tasks: int, **more: str) -> list[subprocess.Popen[str]]:
    """The sweep of `config` in as many processes, which have the variables of srun's tasks."""
    (folder / "given.yaml").write_text(config)
    step = _step(folder, tasks)
    return [
        subprocess.Popen(
            [*COMMAND, "sweep", "given.yaml"],
            cwd=folder,
            env={**os.environ, **step, "SLURM_LOCALID": str(task), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in range(tasks)
    ]


def _step(folder: Path, tasks: int) -> dict[str, str]:
    """What srun tells all tasks of a step alike."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": str(time.monotonic_ns()),
        "SLURM_NODEID": "0",
        "TMPDIR": str(folder),
        "SLURM_STEP_TASKS_PER_NODE": str(tasks),
    }


def _finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    ended = []
    for process in processes:
        with process:
            printed, errors = process.communicate(timeout=60)
        ended.append((process.returncode, printed, errors))
    return ended


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
