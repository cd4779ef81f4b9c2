"""The nursery: workers that it forks are as processes of their own, and the pool survives its end."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from workers import nursery_pids, runs, worker_pids

from ccl_dispatch.runtime.errors import MeasuringError, UsageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.device.placement import Placement
from ccl_dispatch.tuner.launch import link
from ccl_dispatch.tuner.launch.launcher import OwnRanks, once_more
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.statistics import StopRule

SETTINGS = MeasureSettings("gloo", ("shm",), "isolated", StopRule(0.03, 0.95, 1, 12, 40), 0.0, 1.0, 3, 30.0, 0)
REQUEST = PointRequest(Point(Cell("all_gather", "eager", "first", "bfloat16", 2), 64), 0)
SUPPORT = str(Path(__file__).parents[2] / "support")


def test_forked_workers_share_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked worker has its rank's environment, its own session and random numbers, and ignores Ctrl-C."""
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
    placement = Placement("cpu", 1, shared=True)
    settings = replace(SETTINGS, extra_backends={"telling": "faulty:Telling"}, placement=placement)
    with WorkerPool([2], 65536, replace(settings, candidates=("telling",)), {}, tmp_path) as pool:
        pool.start()
        (nursery,) = nursery_pids()
        assert len(list(Path(f"/proc/{nursery}/task").iterdir())) == 1
    told = [re.findall("told (.*), drew (.*) (.*)", (tmp_path / f"rank{rank}.log").read_text()) for rank in (0, 1)]
    (first,), (second,) = told
    assert [host for host, *_ in (first, second)] == [
        f"host rank{rank}, own session True, Ctrl-C ignored True" for rank in (0, 1)
    ]
    assert first[1] != second[1]
    assert first[2] != second[2]


def _told_where_nothing_is_forked(customized: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The nursery's log, where each interpreter begins with `customized` and workers are new ones, which measure."""
    (folder / "sitecustomize.py").write_text(customized)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    with WorkerPool([2], 65536, SETTINGS, {}, folder) as pool:
        assert pool.measure(REQUEST)[0].timings is not None
        for pid in worker_pids():
            assert b"ccl_dispatch.tuner.measure.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return (folder / "nursery.log").read_text()


def test_a_thread_in_every_interpreter_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a nursery can't be single-threaded it forks nothing: workers are new interpreters, and measure as well."""
    loaded = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    assert "2 threads" in _told_where_nothing_is_forked(loaded, tmp_path, monkeypatch)


def test_a_gpu_that_is_open_already_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HIP that was started before a fork fails in it, and torch doesn't call itself initialized for every start."""
    opened = (
        "import os\n"
        "held, real = os.open('/dev/null', os.O_RDONLY), os.readlink\n"
        "os.readlink = lambda path, **given: '/dev/kfd' if path == f'/proc/self/fd/{held}' else real(path, **given)\n"
    )
    told = _told_where_nothing_is_forked(opened, tmp_path, monkeypatch)
    assert "a GPU in use /dev/kfd: workers get their own interpreters" in told


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    """Workers dump no memory, which on ROCm would be the GPU's as well."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if not before[1]:
        pytest.skip("nothing may dump a core here")
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with WorkerPool([2], 65536, SETTINGS, {}, tmp_path) as pool:
            pool.start()
            assert [resource.prlimit(pid, resource.RLIMIT_CORE) for pid in worker_pids()] == [(0, before[1])] * 2
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def test_a_nursery_that_stops_or_ends_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nursery that does not answer is ended with its workers, stopped ones too; so are those of one that was killed.

    The next point has new ones, and no backend is blamed for the end of the nursery.
    """
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.5)
    with WorkerPool([2], 65536, SETTINGS, {}, tmp_path) as pool:
        pool.start()
        before = [*nursery_pids(), *worker_pids()]
        os.kill(before[0], signal.SIGSTOP)
        os.kill(before[1], signal.SIGSTOP)
        os.kill(before[2], signal.SIGKILL)
        with pytest.raises(WorkerFault, match="rank 1 crashed"):
            pool.measure(REQUEST)
        assert pool.measure(REQUEST)[0].timings is not None
        assert not {*before} & {*nursery_pids(), *worker_pids()}
        after = [*nursery_pids(), *worker_pids()]
        os.kill(after[0], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(runs(pid) for pid in after) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(WorkerFault, match="the process that starts the workers ended") as found:
            pool.measure(REQUEST)
        assert found.value.backend == ""
        assert pool.measure(REQUEST)[0].timings is not None


def test_a_nursery_that_can_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its end comes while it imports torch, the error says how the process ended, and what its log says."""
    (tmp_path / "torch.py").write_text("import os\nos.write(2, b'no such instruction')\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with (
        WorkerPool([2], 65536, SETTINGS, {}, tmp_path / "logs") as pool,
        pytest.raises(MeasuringError, match=r"ended with exit code 7\. (?s:.)*nursery\.log(?s:.)*instruction") as found,
    ):
        pool.start()
    assert not isinstance(found.value, WorkerFault)


@pytest.mark.parametrize("asked", ["start", "look"])
def test_a_torch_that_can_not_be_imported_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A torch that lacks a library is no fault of the nursery, which is not replaced: one line says what is missing."""
    (tmp_path / "torch.py").write_text("raise ImportError('libamdhip64.so.7: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    ranks = OwnRanks()
    told = r"^torch can't be imported: ImportError: libamdhip64.*file\. .*works$"
    with WorkerPool([2], 65536, SETTINGS, {}, tmp_path / "logs", ranks) as pool:
        ask = pool.start if asked == "start" else partial(ranks.unavailable, "gloo", tmp_path / "logs")
        with pytest.raises(UsageError, match=told):
            once_more(ask)
    assert (tmp_path / "logs" / "nursery.log").read_text().count("Traceback") == 1


def test_what_torch_tells_of_backends_is_asked_of_the_nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether torch has gloo, of the nursery that starts the workers then; if it is lost, of the next one."""
    ranks = OwnRanks()
    with WorkerPool([2], 65536, SETTINGS, {}, tmp_path, ranks) as pool:
        assert ranks.unavailable("gloo", tmp_path) is None
        (nursery,) = nursery_pids()
        assert pool.measure(REQUEST)[0].timings is not None
        assert nursery_pids() == [nursery]
        os.kill(nursery, signal.SIGKILL)
        assert once_more(lambda: ranks.unavailable("gloo", tmp_path)) is None
    without = "import torch.distributed\ntorch.distributed.is_gloo_available = lambda: False\n"
    (tmp_path / "sitecustomize.py").write_text(without)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    ranks = OwnRanks()
    assert ranks.unavailable("gloo", tmp_path) == "this build of torch has no gloo"
    ranks.close(at_once=True)
