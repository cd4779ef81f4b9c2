"""What keeping the workers is worth, and how much of a sweep goes into collectives. Run it on a machine that idles.

    python benchmarks/harness.py [--all] [CONFIG.yaml]

1. Points per second of a sweep's measuring loop against a new process pool for every point, which is how AITER's
   `test_allgather.py` measures. The ratio is over the same points in both arms, in the same run: the lowest, middle
   and highest size of each world size, or with `--all` every point of the loop (minutes). The few weigh the highest
   size, which gains least from kept workers, far more than the loop does; nothing is extrapolated from them.
2. The share of a sweep's wall time, from ready workers to the last point stored in its Optuna journal study, that is
   spent inside collectives and their barriers, as rank 0 sees it.

Ends with 1 when one of them misses what is wanted of it. The default config is `configs/cpu.yaml`. Replays are refused:
their times are virtual.
"""

from __future__ import annotations

import os
import platform
import socket
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
    from ccl_dispatch.tuner.config_model import SweepConfig
    from ccl_dispatch.tuner.samples import PointResult

WANTED_RATIO = 20.0
WANTED_SHARE = 0.70
POOL_SECONDS = 300.0


class Loop(NamedTuple):
    """The kept workers: seconds to start them, seconds of the loop, and its points with their results."""

    start_seconds: float
    seconds: float
    points: tuple[tuple[Point, PointResult], ...]


def main(arguments: Sequence[str]) -> int:
    """Measure both and print them; 1 when one is missed, 2 on a config that measures nothing."""
    import optuna

    from ccl_dispatch.tuner.config import load_config

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    paths = [word for word in arguments if word != "--all"]
    path = paths[0] if paths else str(Path(__file__).parents[1] / "configs" / "cpu.yaml")
    config = load_config(path)
    if config.replay is not None:
        print(f"{path} replays a file, whose times are virtual: there is nothing to measure here", file=sys.stderr)
        return 2
    print(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        ratio = compare_pools(config, Path(folder), every="--all" in arguments)
        share = share_in_collectives(config, Path(folder))
    reached = ratio >= WANTED_RATIO and share >= WANTED_SHARE
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


def compare_pools(config: SweepConfig, folder: Path, *, every: bool) -> float:
    """Print the rate of both arms, over every point or a few; how many times as fast the kept workers are."""
    loop = measure_with_kept_workers(config, folder / "logs")
    count = len(loop.points)
    print(
        f"kept workers: {count} points at one size per octave, {loop.seconds:.2f} s, "
        f"{count / loop.seconds:.2f} points/s; starting them once took {loop.start_seconds:.2f} s more"
    )
    kept = fresh = 0.0
    chosen = list(loop.points) if every else spread(loop.points)
    which = "all" if every else "lowest, middle and highest size of each world size"
    print(f"the same {len(chosen)} of these points ({which}) in both arms:")
    for point, result in chosen:
        seconds = measure_with_new_pool(point, result.executions, config.backends)
        runs = ", ".join(f"{name} {times}" for name, times in result.executions.items())
        print(
            f"  {point.cell.name} {point.size} B: kept {result.wall_seconds:.3f} s "
            f"({result.collective_seconds:.3f} s in collectives), "
            f"new pool {seconds:.3f} s (runs of each arm: {runs})"
        )
        kept += result.wall_seconds
        fresh += seconds
    ratio = fresh / kept
    print(
        f"points/s over these: kept {len(chosen) / kept:.2f}, new pool per point {len(chosen) / fresh:.3f}; "
        f"ratio {ratio:.1f} (at least {WANTED_RATIO:g} wanted)"
    )
    print(
        "  one pool per point for all backends together, checks and barriers between calls left out: "
        "the new pool's arm does less work"
    )
    return ratio


def measure_with_kept_workers(config: SweepConfig, logs: Path) -> Loop:
    """Measure every cell at one size per octave, and its workload shapes, with workers that are started once."""
    from ccl_dispatch.tuner.plan import make_measurer, make_plan

    plan = make_plan(replace(config, sizes=replace(config.sizes, per_octave=1)))
    done = []
    with make_measurer(plan, logs) as measurer:
        before = time.perf_counter()
        measurer.start()
        ready = time.perf_counter()
        for cell, sizes in plan.space.grid.items():
            for size in sizes:
                point = plan.point(cell, size)
                done.append((point, measurer.measure(point, plan.number(cell, size, 0))))
        return Loop(ready - before, time.perf_counter() - ready, tuple(done))


def spread(points: Sequence[tuple[Point, PointResult]]) -> list[tuple[Point, PointResult]]:
    """The lowest, the middle and the highest size of the first cell of each world size."""
    cells = {pair[0].cell.world_size: pair[0].cell for pair in reversed(points)}
    chosen = []
    for _, cell in sorted(cells.items()):
        mine = [pair for pair in points if pair[0].cell == cell]
        chosen += [mine[place] for place in sorted({0, len(mine) // 2, len(mine) - 1})]
    return chosen


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
        backend = backend_class(name)(BackendContext(dist.group.WORLD, rank, ranks, "cpu", options.get(name, {})))
        backend.prepare(point, source, target)
        dist.barrier()
        for _ in range(times):
            backend.run()
        dist.barrier()
        backend.close()
    dist.destroy_process_group()


def share_in_collectives(config: SweepConfig, folder: Path) -> float:
    """Print and return the share of a whole sweep, book-keeping in its journal included, that collectives take."""
    from ccl_dispatch.tuner.progress import SilentProgress
    from ccl_dispatch.tuner.sweep import run_sweep

    outcome = run_sweep(config, str(folder / "study.journal"), folder / "table.yaml", folder / "logs", SilentProgress())
    summary = outcome.summary()
    share: float = summary["collective_seconds"] / summary["worker_seconds"]
    print(
        f"sweep: {summary['trials']} points in a journal study, ended by {summary['stopped_by']}; "
        f"{summary['collective_seconds']:.2f} s in collectives and their barriers of {summary['worker_seconds']:.2f} s "
        f"once workers were up ({summary['wall_seconds']:.2f} s in all): share {share:.3f} "
        f"(at least {WANTED_SHARE:g} wanted)"
    )
    return share


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
