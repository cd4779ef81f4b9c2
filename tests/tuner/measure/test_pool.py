"""Workers: they measure right, and the parent knows what happened when they don't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from workers import nursery_pids, runs, worker_pids

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import BACKENDS, Point
from ccl_dispatch.tuner.measure import MeasureSettings, PointRequest
from ccl_dispatch.tuner.measure.fault import RankLog, WorkerFault
from ccl_dispatch.tuner.measure.measurer import WorkerMeasurer
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.statistics import StopRule

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)


def _settings(timeout: float = 30.0) -> MeasureSettings:
    return MeasureSettings("gloo", ("shm",), "isolated", StopRule(0.03, 0.95, 1, 12, 40), 0.0, 1.0, 3, timeout, 0)


def test_samples_are_paired_and_counted(tmp_path: Path) -> None:
    """A point has as many latencies of each backend, and executions are warm-up, two checks and all repetitions."""
    with WorkerMeasurer([2], 65536, _settings(), {}, tmp_path) as measurer:
        result = measurer.measure(PointRequest(Point(CELL, 4096), 1))
    counts = {name: len(values) for name, values in result.latencies_us.items()}
    assert set(counts) == {"gloo", "shm"}
    assert len(set(counts.values())) == 1
    for name, count in counts.items():
        assert result.executions[name] == 3 + 2 + count * result.calls_per_sample[name]
        assert min(result.latencies_us[name]) > 0
        assert len(result.rank_medians_us[name]) == 2
    assert result.exclusions == ()


def test_a_size_past_the_pool_is_excluded_with_its_reason(tmp_path: Path) -> None:
    """A candidate that can't take a size is excluded there as unsupported, and nothing is timed."""
    with WorkerMeasurer([2], 65536, _settings(), {"shm": {"max_size": "64 KiB"}}, tmp_path) as measurer:
        result = measurer.measure(PointRequest(Point(CELL, 65536), 1))
    assert [(item.backend, item.reason) for item in result.exclusions] == [("shm", "unsupported")]
    assert "limit" in result.exclusions[0].detail
    assert result.latencies_us == {}


def test_a_candidate_that_raises_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Excluded for raising at two sizes of a cell, a candidate is left out of the third without starting anything."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"), prepend=os.pathsep)
    raising = replace(_settings(), candidates=("raising",), extra_backends={"raising": "faulty:Raising"})
    with WorkerMeasurer([2], 65536, raising, {}, tmp_path) as measurer:
        details = [measurer.measure(PointRequest(Point(CELL, size), 1)).exclusions[0].detail for size in (64, 128, 256)]
        other = measurer.measure(PointRequest(Point(CELL._replace(dtype="float32"), 64), 1))
    assert ["out of handles" in detail for detail in details] == [True, True, False]
    assert details[2] == "not tried, after the same at 2 other sizes"
    assert "out of handles" in other.exclusions[0].detail


def test_a_candidate_that_can_not_be_set_up_is_excluded_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constructor that raises on one rank costs the candidate, on all ranks alike, and not the sweep."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"), prepend=os.pathsep)
    half = replace(_settings(), candidates=("shm", "unmade"), extra_backends={"unmade": "faulty:Unmade"})
    with WorkerMeasurer([2], 65536, half, {}, tmp_path) as measurer:
        result = measurer.measure(PointRequest(Point(CELL, 64), 1))
    (exclusion,) = result.exclusions
    assert (exclusion.backend, exclusion.reason) == ("unmade", "unsupported")
    assert set(result.latencies_us) == {"gloo", "shm"}


def test_a_killed_worker_is_told_and_replaced(tmp_path: Path) -> None:
    """SIGKILL of a rank is a fault that names the rank, the signal and the log; the next point has new workers."""
    with WorkerPool([2], 65536, _settings(), {}, tmp_path) as pool:
        pool.start()
        os.kill(worker_pids()[1], signal.SIGKILL)
        with pytest.raises(WorkerFault, match=r"rank 1 crashed .* its process was ended by SIGKILL") as found:
            pool.measure(PointRequest(Point(CELL, 64), 0))
        assert found.value.reason == "crashed"
        assert str(tmp_path) in str(found.value)
        assert worker_pids() == []
        reports = pool.measure(PointRequest(Point(CELL, 64), 0))
        assert reports[0].timings is not None


def test_a_log_that_can_not_be_written_is_told_with_its_rank(tmp_path: Path) -> None:
    """And nothing was started for it."""
    (tmp_path / "rank0.log").mkdir()
    with (
        WorkerPool([2], 65536, _settings(), {}, tmp_path) as pool,
        pytest.raises(MeasuringError, match=r"rank 0 can't be started: .*rank0\.log"),
    ):
        pool.start()
    assert not (tmp_path / "nursery.log").exists()


def test_a_stopped_worker_is_a_hang(tmp_path: Path) -> None:
    """A rank that never answers is found at the time limit, and no worker is left."""
    with WorkerPool([2], 65536, _settings(timeout=2.0), {}, tmp_path) as pool:
        pool.start()
        os.kill(worker_pids()[0], signal.SIGSTOP)
        with pytest.raises(WorkerFault, match="no answer within the time limit") as found:
            pool.measure(PointRequest(Point(CELL, 64), 0))
        assert found.value.reason == "hung"
        assert worker_pids() == []


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """When the parent is killed with SIGKILL, its workers and what started them are gone within moments."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from ccl_dispatch.tuner.measure.pool import WorkerPool\n"
        "from ccl_dispatch.tuner.measure import MeasureSettings\n"
        "from ccl_dispatch.tuner.statistics import StopRule\n"
        "settings = MeasureSettings('gloo', ('shm',), 'isolated', StopRule(0.03, 0.95, 1, 12, 40), 0, 1, 3, 30, 0)\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool([2], 65536, settings, {}, Path(sys.argv[1]))\n"
        "    pool.start()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        started = [*nursery_pids(parent.pid), *worker_pids(parent.pid)]
        assert len(started) == 3
        parent.kill()
    deadline = time.monotonic() + 5
    while any(runs(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(runs(pid) for pid in started)


def test_the_registry_is_what_workers_use() -> None:
    """Workers find backends by the registry's names."""
    assert set(BACKENDS) >= {"gloo", "shm"}


def test_a_log_tells_the_reason_and_not_the_noise(tmp_path: Path) -> None:
    """Of a log only what was written at this point is told, without the frames that would crowd out the reason."""
    path = tmp_path / "rank0.log"
    path.write_text("of another point\n")
    log = RankLog(path)
    frame = "frame #30: <unknown function> + 0x2a1ca (0x7f425702a1ca in /lib/libc.so.6)\n"
    with path.open("a") as file:
        file.write(f"CUDA error: device-side assert triggered\n{60 * frame}Extension modules: torch._C, numpy\n")
    assert log.tail() == "CUDA error: device-side assert triggered"
    log.mark()
    assert log.tail() == ""
