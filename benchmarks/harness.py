"""What keeping the workers is worth, and how much of a sweep goes into collectives: both from one real sweep.

    python benchmarks/harness.py [CONFIG.yaml]

The sweep is the real one: its search, its Optuna journal study, its stop rules (but for a limit of seconds, which the
other arm would use up). After each of its points the same point is measured once more the way AITER's
`test_allgather.py` does it, with a process pool started for it, each backend running as often as it ran in the sweep.
The arms alternate point by point, so that what disturbs the machine disturbs both.

1. Points per second of the sweep against a pool per point, over every point that the sweep measures. Wanted: 20 times
   as many, once workers are up; what the rate is with their start counted is printed beside it.
2. The share of the sweep's time, from ready workers to the last point stored, that is spent inside collectives and
   their barriers, as rank 0 sees it. Wanted: 70 %.

Ends with 1 when one of them misses what is wanted of it. The default config is `configs/cpu.yaml` (two to three minutes
on two cores). Replays are refused: their times are virtual.
"""

from __future__ import annotations

import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

# Nothing heavy is imported here: the processes of a new pool import this file again, and must not pay for what they
# don't use. They need torch and the backends, no more.
if TYPE_CHECKING:
    from ccl_dispatch.tuner.backends.base import Point
    from ccl_dispatch.tuner.config.model import SweepConfig
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.samples import PointResult
    from ccl_dispatch.tuner.search import Outlook
    from ccl_dispatch.tuner.statistics import Interval
    from ccl_dispatch.tuner.sweep import SweepOutcome

WANTED_RATIO = 20.0
WANTED_SHARE = 0.70
POOL_SECONDS = 300.0


class Pair(NamedTuple):
    """One point in both arms; seconds of the sweep are from the end of its point before, searching and storing too."""

    result: PointResult
    kept_seconds: float
    pool_seconds: float


def main(arguments: Sequence[str]) -> int:
    """Measure both and print them; 1 when one is missed, 2 on a config that measures nothing."""
    import optuna

    from ccl_dispatch.tuner.config.parsing import load_config

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = arguments[0] if arguments else str(Path(__file__).parents[1] / "configs" / "cpu.yaml")
    config = load_config(path)
    if config.replay is not None:
        print(f"{path} replays a file, whose times are virtual: there is nothing to measure here", file=sys.stderr)
        return 2
    print(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        reached = compare(config, Path(folder))
    print("reached" if reached else "MISSED")
    return 0 if reached else 1


def machine() -> str:
    """CPU model, usable cores, Python and torch."""
    import torch

    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} usable cores, Python {platform.python_version()}, torch {torch.__version__}"


class Alternation:
    """A sweep's progress that answers each point with the other arm's, and keeps the sweep's clock apart from it."""

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        self.pairs: list[Pair] = []
        self.pool_seconds = 0.0
        self.start_seconds = 0.0
        self._options = options
        self._began = self._last = 0.0
        self._plan: Plan | None = None

    def starting(self, what: str) -> None:
        """See `Progress`."""

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`: workers are started next."""
        self._plan = plan
        self._began = time.perf_counter()

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """See `Progress`: before the first point, workers have just become ready."""
        if not self._last:
            self._last = time.perf_counter()
            self.start_seconds = self._last - self._began

    def waiting(self, what: str) -> None:
        """See `Progress`: nobody else is at work."""

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`: the point is stored; now the other arm."""
        kept = time.perf_counter() - self._last
        assert self._plan is not None  # noqa: S101 - `begin` comes first
        point = self._plan.point(result.cell.name, result.size)
        before = time.perf_counter()
        pool = measure_with_new_pool(point, result.executions, self._options)
        self.pairs.append(Pair(result, kept, pool))
        self._last = time.perf_counter()
        self.pool_seconds += self._last - before

    def stopped(self, word: str, outlook: Outlook) -> None:
        """See `Progress`."""

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """See `Progress`."""


def compare(config: SweepConfig, folder: Path) -> bool:
    """Run the sweep with the other arm in between, and print both figures; whether both reach what is wanted."""
    from ccl_dispatch.tuner.sweep import run_sweep

    config = replace(config, budget=replace(config.budget, seconds=None))
    both = Alternation(config.backends)
    outcome = run_sweep(config, str(folder / "study.journal"), folder / "table.yaml", folder / "logs", both)
    summary = outcome.summary()
    count = len(both.pairs)
    kept = outcome.worker_seconds - both.pool_seconds
    pools = sum(pair.pool_seconds for pair in both.pairs)
    ratio = pools / kept
    share: float = summary["collective_seconds"] / kept
    print(f"sweep: {count} points in {summary['cells']} cells, ended by {outcome.stopped_by}")
    print_groups(both.pairs)
    print(
        f"points/s of the sweep {count / kept:.2f} ({kept:.2f} s), with a new pool per point {count / pools:.3f} "
        f"({pools:.1f} s): ratio {ratio:.1f} (at least {WANTED_RATIO:g} wanted)"
    )
    print(
        f"  starting the workers took {both.start_seconds:.2f} s, once; "
        f"with it the ratio is {pools / (kept + both.start_seconds):.1f}"
    )
    print(
        "  the pool's arm does less: one pool for all backends together, outputs unchecked, no barrier before each "
        "call, nothing searched or stored"
    )
    print(
        f"in collectives and their barriers {summary['collective_seconds']:.2f} s of {kept:.2f} s: "
        f"share {share:.3f} (at least {WANTED_SHARE:g} wanted)"
    )
    return ratio >= WANTED_RATIO and share >= WANTED_SHARE


def print_groups(pairs: Sequence[Pair]) -> None:
    """One line for each world size and range of sizes: where the ratio comes from."""
    groups: dict[tuple[int, str], list[Pair]] = {}
    for pair in pairs:
        size = pair.result.size
        group = "up to 64 KiB" if size <= 1 << 16 else "64 KiB to 1 MiB" if size <= 1 << 20 else "above 1 MiB"
        groups.setdefault((pair.result.cell.world_size, group), []).append(pair)
    for (world_size, group), rows in sorted(groups.items(), key=lambda item: (item[0][0], item[1][0].result.size)):
        ratios = sorted(row.pool_seconds / row.kept_seconds for row in rows)
        print(
            f"  {world_size} ranks, {group}: {len(rows)} points, a point takes the sweep "
            f"{statistics.mean(row.kept_seconds for row in rows):.3f} s, "
            f"a new pool {statistics.mean(row.pool_seconds for row in rows):.2f} s; "
            f"ratio of a point {ratios[0]:.1f} to {ratios[-1]:.1f}"
        )


def measure_with_new_pool(
    point: Point, executions: Mapping[str, int], options: Mapping[str, Mapping[str, Any]]
) -> float:
    """Seconds to spawn a pool, make a process group, run each backend as often as `executions` says, and end it all."""
    import multiprocessing

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = time.perf_counter()
    ranks = point.cell.world_size
    tasks = [(rank, port, point, dict(executions), options) for rank in range(ranks)]
    with multiprocessing.get_context("spawn").Pool(ranks) as pool:
        pool.starmap_async(run_rank, tasks, chunksize=1).get(POOL_SECONDS)
        pool.close()
        pool.join()
    return time.perf_counter() - before


def run_rank(
    rank: int, port: int, point: Point, executions: Mapping[str, int], options: Mapping[str, Mapping[str, Any]]
) -> None:
    """One rank of a new pool."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist

    from ccl_dispatch.tuner.backends.base import BackendContext
    from ccl_dispatch.tuner.backends.registry import backend_class

    torch.set_num_threads(1)  # as in the sweep's workers
    ranks = point.cell.world_size
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    source = torch.zeros(point.input_shape, dtype=getattr(torch, point.cell.dtype))
    target = torch.empty(point.output_shape, dtype=source.dtype)
    for name, times in executions.items():
        context = BackendContext(dist.group.WORLD, rank, ranks, options=options.get(name, {}))
        backend = backend_class(name)(context)
        call = backend.prepare(point, source, target)
        dist.barrier()
        for _ in range(times):
            call()
        dist.barrier()
        backend.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
