"""What starting workers takes: forked from the nursery, against a new interpreter for each of them.

    python benchmarks/startup.py

The same pool and the same workers in both arms, which take turns; only the launcher differs. A worker counts as started
when it has joined the process group and made its backends. Ends with 1 when workers take longer to start anew than
half a second, or the first start of four of them is slower than with interpreters.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ccl_dispatch.tuner.backends import backend_class
from ccl_dispatch.tuner.launch.launcher import Launcher, OwnRanks, RunningWorker
from ccl_dispatch.tuner.launch.link import Link
from ccl_dispatch.tuner.launch.nursery import WORKER_MODULE
from ccl_dispatch.tuner.measure import MeasureSettings
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.statistics import StopRule

TURNS = 5
AGAIN_SECONDS = 0.5
SETTINGS = MeasureSettings("gloo", ("shm",), "isolated", StopRule(0.03, 0.95, 1, 12, 40), 0.0, 1.0, 3, 30.0, 0)


class Interpreter(Link):
    """A worker that nobody forked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill(self, pid: int) -> None:
        """See `Link`."""
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def ending(self, pid: int, seconds: float) -> int | None:
        """See `Link`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.0, seconds))
        return None


class Interpreters:
    """The launcher of the other arm."""

    def prepare(self, log_folder: Path) -> None:
        """Nothing can begin before it is known who is wanted."""

    def unavailable(self, backend: str, log_folder: Path) -> str | None:
        """See `Launcher`: by this process."""
        return backend_class(backend).unavailable()

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], log_folder: Path) -> RunningWorker:
        """See `Launcher`."""
        channel, board, log = fds
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE, str(channel), str(board)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            pass_fds=(channel, board),
            start_new_session=True,
        )
        return RunningWorker(process.pid, Interpreter(process))

    def drop(self) -> None:
        """Nothing stands between the pool and its workers."""

    def close(self, *, at_once: bool) -> None:
        """Likewise."""


def main() -> int:
    """Measure, print, judge."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    arms: dict[str, Callable[[], Launcher]] = {"forked": OwnRanks, "interpreters": Interpreters}
    missed = False
    for ranks in (2, 4):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for _ in range(TURNS):
            for name, arm in arms.items():
                seconds[name].append(_seconds(ranks, arm()))
        first = {name: statistics.median(row[0] for row in rows) for name, rows in seconds.items()}
        again = {name: statistics.median(row[1] for row in rows) for name, rows in seconds.items()}
        for name in arms:
            print(f"{ranks} workers, {name}: {first[name]:.2f} s, started anew {again[name]:.2f} s (median of {TURNS})")
        missed |= again["forked"] > AGAIN_SECONDS or (ranks == 4 and first["forked"] > first["interpreters"])
    return int(missed)


def _seconds(ranks: int, launcher: Launcher) -> tuple[float, float]:
    """Seconds of the first start, and of one after all workers were ended."""
    taken = []
    with (
        tempfile.TemporaryDirectory() as name,
        WorkerPool([ranks], 1 << 16, SETTINGS, {}, Path(name), launcher) as pool,
    ):
        for _ in range(2):
            began = time.perf_counter()
            pool.start()
            taken.append(time.perf_counter() - began)
            pool.kill()
    return taken[0], taken[1]


if __name__ == "__main__":
    sys.exit(main())
