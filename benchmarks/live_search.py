"""What the search is worth on this machine: our sweeps against scans, judged by a truth measured before and after.

    python benchmarks/live_search.py [CONFIG.yaml] [--rounds 3] [--out FOLDER]

Everything is measured here, by one set of workers and one harness, in this order: a dense scan; then in each round an
exhaustive scan (each size of a 2x grid, 100 samples), the two plain even grids of `tuning_cost.py` (9 sizes with 2
samples, 21 with 5), and our sweep with as many executions as each of these grids took, and with 1/100 and 1/20 of the
exhaustive scan's; then the dense scan once more. What is run to check outputs and to warm up counts for all alike.

Truth is the median latency of both dense scans at each size. A method's regret is the mean of T(chosen)/T(best) - 1
over the dense sizes, by this truth. How far truth itself can be trusted is printed as what one dense scan's choices
lose by the other's figures. Scans decide by which median is less, and between two sizes by interpolated log-ratios.

Nothing is asked of the figures: they say what this machine shows. Replays are refused: `tuning_cost.py` is for them.
The default config is `configs/cpu.yaml`, on whose noise see docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from harness import machine
from tuning.rivals import evenly

from ccl_dispatch.runtime.errors import CclDispatchError, UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.config.model import SweepConfig
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.measure.messages import PointRequest
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.sizes import size_grid
from ccl_dispatch.tuner.sweep import run_sweep

DENSE_PER_OCTAVE = 4
DENSE_SAMPLES = 100
EXHAUSTIVE_SAMPLES = 100
# Sizes and samples of the plain grids, as `tuning_cost.py` has them.
GRIDS = ((9, 2), (21, 5))
FRACTIONS = (100, 20)
# Where one dense scan's choices lose more than that by the other's figures, nothing else can be judged by them.
STEADY = 0.002
EXHAUSTIVE = "exhaustive"


@dataclass(frozen=True)
class Curve:
    """One cell as a dense scan found it.

    Attributes:
        sizes: per-rank input bytes.
        latencies_us: medians, shape (2, sizes), baseline first.
    """

    sizes: np.ndarray
    latencies_us: np.ndarray

    def regret(self, chosen: np.ndarray) -> float:
        """What using the candidate where `chosen` loses, by this curve."""
        used = np.where(chosen, self.latencies_us[1], self.latencies_us[0])
        return float(np.mean(used / self.latencies_us.min(axis=0) - 1))


class Run(NamedTuple):
    """One method in one round: each cell's regret (1 is 100 %), executions, seconds in collectives and of the clock."""

    method: str
    regrets: Mapping[str, float]
    executions: int
    collective_seconds: float
    seconds: float


class Kept:
    """The workers that all sweeps share: leaving a sweep ends nothing."""

    def __init__(self, measurer: Measurer) -> None:
        self.measure = measurer.measure
        self._numbers = itertools.count(1 << 20)

    def remember(self, results: Sequence[PointResult]) -> None:
        """See `Measurer`: a sweep that begins knows nothing."""

    def start(self) -> None:
        """See `Measurer`: they are up."""

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        """See `Measurer`."""

    def scan(self, plan: Plan, sizes: Mapping[str, Sequence[int]], samples: int) -> tuple[list[PointResult], float]:
        """Measure `sizes` of each cell with that many samples, in the order in which they come; seconds as well."""
        began = time.perf_counter()
        results = [
            self.measure(PointRequest(plan.point(cell, size), next(self._numbers), repeats=samples, thorough=True))
            for cell in plan.cells
            for size in sizes[cell]
        ]
        return results, time.perf_counter() - began


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", nargs="?", default=str(Path(__file__).parents[1] / "configs" / "cpu.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=540.0, help="no new round is begun when one may end later")
    parser.add_argument("--out", help="folder for truth.csv (measurements) and runs.csv")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        config = _bare(load_config(options.config))
    except CclDispatchError as problem:
        print(problem, file=sys.stderr)
        return 2
    if config.replay is not None or len(config.candidates) != 1:
        print(f"{options.config}: one candidate, measured and not replayed, is needed here", file=sys.stderr)
        return 2
    print(f"machine: {machine()}")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _workers(config, Path(folder)) as (plan, kept):
        dense = {name: size_grid(low, high, DENSE_PER_OCTAVE) for name, (low, high) in _ranges(plan).items()}
        scans = [kept.scan(plan, dense, DENSE_SAMPLES)]
        print(f"dense scan: {len(scans[0][0])} points in {scans[0][1]:.1f} s", flush=True)
        raw: list[tuple[str, Table | list[PointResult], int, float, float]] = []
        for number in range(options.rounds):
            before = time.perf_counter()
            raw += _round(plan, kept, Path(folder), number)
            took = time.perf_counter() - before
            print(f"round {number + 1}: {took:.1f} s", flush=True)
            if time.perf_counter() - began + took + scans[0][1] > options.seconds:
                break
        scans.append(kept.scan(plan, dense, DENSE_SAMPLES))
        halves = [_curves(plan, results) for results, _ in scans]
        truth = _curves(plan, [result for results, _ in scans for result in results])
    runs = [
        Run(
            method,
            {name: truth[name].regret(_chosen(plan, name, found, truth[name].sizes)) for name in truth},
            executions,
            collective,
            seconds,
        )
        for method, found, executions, collective, seconds in raw
    ]
    _print(truth, halves, runs, sum(sum(result.executions.values()) for result in scans[0][0]))
    if options.out:
        _write(Path(options.out), plan, halves, runs)
    return 0


def _bare(config: SweepConfig) -> SweepConfig:
    """The config with nothing beside the executions that a method is given: no gain asked for, no least time."""
    return replace(
        config,
        workload=(),
        policy=replace(config.policy, min_gain=0.0),
        measure=replace(config.measure, min_seconds=0.0, min_samples=1, max_samples=400, max_seconds=30.0),
        budget=replace(config.budget, regret=None, seconds=None, executions=None),
    )


@contextmanager
def _workers(config: SweepConfig, folder: Path) -> Iterator[tuple[Plan, Kept]]:
    plan = make_plan(config)
    with make_measurer(plan, folder / "logs") as measurer:
        measurer.start()
        yield plan, Kept(measurer)


def _ranges(plan: Plan) -> dict[str, tuple[int, int]]:
    return {name: (grid[0], grid[-1]) for name, grid in plan.space.grid.items()}


def _round(
    plan: Plan, kept: Kept, folder: Path, number: int
) -> Iterator[tuple[str, Table | list[PointResult], int, float, float]]:
    """Each method once: what it found, executions, seconds in collectives, seconds."""
    ranges = _ranges(plan)
    sizes = {name: size_grid(low, high, 1) for name, (low, high) in ranges.items()}
    costs: dict[str, int] = {}
    grids: list[tuple[str, Mapping[str, Sequence[int]], int]] = [(EXHAUSTIVE, sizes, EXHAUSTIVE_SAMPLES)]
    grids += [
        (f"even grid {count} x {samples}", {name: evenly(*ends, count) for name, ends in ranges.items()}, samples)
        for count, samples in GRIDS
    ]
    for method, wanted, samples in grids:
        results, seconds = kept.scan(plan, wanted, samples)
        costs[method] = sum(sum(result.executions.values()) for result in results)
        yield method, results, costs[method], sum(result.collective_seconds for result in results), seconds
    budgets = {f"ours, as the {method}": cost for method, cost in costs.items() if method != EXHAUSTIVE}
    budgets |= {f"ours, 1/{fraction}": round(costs[EXHAUSTIVE] / fraction) for fraction in FRACTIONS}
    for index, (method, executions) in enumerate(budgets.items()):
        config = replace(
            plan.config, budget=replace(plan.config.budget, executions=executions), seed=100 * number + index
        )
        out = folder / f"{number}-{index}.yaml"
        try:
            outcome = run_sweep(
                config, "memory://", out, folder / "logs", SilentProgress(), measurer=lambda _plan, _logs: kept
            )
        except UsageError as problem:
            print(f"{method}: {problem}")
            continue
        summary = outcome.summary()
        spent = sum(summary["executions"].values())
        yield method, outcome.table, spent, summary["collective_seconds"], outcome.worker_seconds


def _medians(plan: Plan, name: str, results: Sequence[PointResult]) -> Curve:
    """Where both backends have samples."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    backends = plan.settings.backends
    for result in results:
        if result.cell == plan.cells[name] and all(result.latencies_us.get(backend) for backend in backends):
            for kept, backend in zip(found.setdefault(result.size, ([], [])), backends, strict=True):
                kept.extend(result.latencies_us[backend])
    sizes = sorted(found)
    medians = [[statistics.median(found[size][which]) for size in sizes] for which in (0, 1)]
    return Curve(np.array(sizes), np.array(medians))


def _curves(plan: Plan, results: Sequence[PointResult]) -> dict[str, Curve]:
    curves = {name: _medians(plan, name, results) for name in plan.cells}
    return {name: curve for name, curve in curves.items() if len(curve.sizes)}


def _chosen(plan: Plan, name: str, found: Table | Sequence[PointResult], sizes: np.ndarray) -> np.ndarray:
    """Where a method uses the candidate: its table's answers, or the sign of what it measured."""
    cell = plan.cells[name]
    if isinstance(found, Table):
        choose = found.dispatcher(cell.collective, world_size=cell.world_size).bind(
            dtype=cell.dtype, mode=cell.mode, dim=cell.dim
        )
        return np.array([choose(size) == plan.config.candidates[0] for size in sizes.tolist()])
    curve = _medians(plan, name, found)
    if not len(curve.sizes):
        return np.zeros(len(sizes), bool)
    leads = np.log(curve.latencies_us[0] / curve.latencies_us[1])
    return np.asarray(np.interp(np.log2(sizes), np.log2(curve.sizes), leads) > 0)


def _print(
    truth: Mapping[str, Curve], halves: Sequence[Mapping[str, Curve]], runs: Sequence[Run], dense_executions: int
) -> None:
    steady = []
    for name, curve in truth.items():
        leads = curve.latencies_us[0] / curve.latencies_us[1] - 1
        always = [curve.regret(np.full(len(curve.sizes), choice)) for choice in (False, True)]
        one, two = (half[name] for half in halves)
        lost = [by.regret(own.latencies_us[1] < own.latencies_us[0]) for own, by in ((one, two), (two, one))]
        if max(lost) <= STEADY:
            steady.append(name)
        print(
            f"{name}: candidate {leads.min():+.0%} to {leads.max():+.0%}, changes hands "
            f"{int(np.count_nonzero(np.diff(leads > 0)))} times; always baseline {always[0]:.2%}, always candidate "
            f"{always[1]:.2%}; a dense scan by the other's figures {lost[0]:.3%}, {lost[1]:.3%}"
        )
    exhaustive = statistics.mean(run.executions for run in runs if run.method == EXHAUSTIVE)
    print(f"a dense scan: {dense_executions} executions; exhaustive: {exhaustive:.0f}")
    print(f"steady: {len(steady)} of {len(truth)} cells, whose dense scans lose {STEADY:.1%} at most by each other")
    print(f"{'':28} {'exhaustive/':>11} {'executions':>10} {'coll. s':>8} {'s':>7}  regret of steady cells, others")
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run for run in runs if run.method == method]
        executions = statistics.mean(run.executions for run in mine)
        of_steady = [value for run in mine for name, value in run.regrets.items() if name in steady]
        others = [value for run in mine for name, value in run.regrets.items() if name not in steady]
        print(
            f"{method:28} {exhaustive / executions:11.1f} {executions:10.0f} "
            f"{statistics.mean(run.collective_seconds for run in mine):8.2f} "
            f"{statistics.mean(run.seconds for run in mine):7.2f}  {_told(of_steady)}; {_told(others)}"
        )


def _told(regrets: Sequence[float]) -> str:
    return f"mean {statistics.mean(regrets):.3%}, worst {max(regrets):.2%}" if regrets else "none"


def _write(out: Path, plan: Plan, halves: Sequence[Mapping[str, Curve]], runs: Sequence[Run]) -> None:
    """The medians of both dense scans as a measurement file, and every run's regrets."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "truth.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["collective", "mode", "dim", "dtype", "world_size", "shape", "bytes", "backend", "latency_us"])
        for half in halves:
            for name, curve in half.items():
                cell = plan.cells[name]
                for which, backend in enumerate(plan.settings.backends):
                    for size, value in zip(curve.sizes.tolist(), curve.latencies_us[which].tolist(), strict=True):
                        key = cell.collective, cell.mode, cell.dim, cell.dtype, cell.world_size, "", size, backend
                        rows.writerow((*key, f"{value:.4g}"))
    with (out / "runs.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("method", "executions", "collective_seconds", "seconds", "cell", "regret"))
        for run in runs:
            for name, regret in run.regrets.items():
                spent = run.executions, f"{run.collective_seconds:.4g}", f"{run.seconds:.4g}"
                rows.writerow((run.method, *spent, name, f"{regret:.6f}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
