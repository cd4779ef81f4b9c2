"""The rivals: other ways to spend the same executions, or the same machine time, in one cell.

A rival's visit of a size is one warm-up call of each backend and some pairs of timed ones, all counted. It decides by
the sign of the median log-ratio, interpolated linearly in log size between the sizes visited, constant beyond them.

Where time is the budget, a visit that no longer fits is left out and the rival goes on with its next one: it is as if
it knew beforehand what a visit will take. Optuna's samplers even keep what they learned from it. That favours them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import optuna
from landscapes import Landscape
from landscapes.noise import Array
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, TPESampler

from ccl_dispatch.runtime.table import Platform, Policy, Table
from ccl_dispatch.tuner.fit import fit_cell
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.sizes import size_grid

# Visits of one trail at most; the Gaussian process takes 50 ms and more to choose one.
MAX_VISITS = 250
MAX_GP_VISITS = 40
# Pairs per visit that each rival is tried with; the best of them counts at each budget, chosen when all is known.
SAMPLER_PAIRS = (1, 3)
GP_PAIRS = (1, 5)
BISECTION_PAIRS = (1, 3, 10, 30)
EVEN_PAIRS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)
# Bisection ends when the bracket is as narrow as the finest grid of a sweep.
_NARROWEST = 0.25
_STARTUP_TRIALS = 4


class Visit(NamedTuple):
    """One size measured once: latencies in us, shape (2, pairs), baseline first, and the cost with the warm-up."""

    size: int
    latencies_us: Array
    executions: int
    seconds: float

    @property
    def ratio(self) -> float:
        """The median of log(T_baseline / T_candidate)."""
        return float(np.median(np.log(self.latencies_us[0] / self.latencies_us[1])))


def visit(landscape: Landscape, rng: np.random.Generator, size: int, pairs: int, warmup: int = 1) -> Visit:
    """Measure `size`."""
    drawn = landscape.sample(rng, size, warmup + pairs)
    return Visit(size, drawn[:, warmup:], drawn.size, float(drawn.sum()) * 1e-6)


def exhaustive(landscape: Landscape, rng: np.random.Generator) -> list[Visit]:
    """The protocol that costs are counted against: a 2x grid, 20 warm-up and 100 timed calls of each backend."""
    return [visit(landscape, rng, size, 100, 20) for size in size_grid(landscape.low, landscape.high, 1)]


def even_sizes(landscape: Landscape, count: int) -> list[int]:
    """`count` sizes (fewer where multiples of 16 fall together), evenly spread in log size, both ends included."""
    return evenly(landscape.low, landscape.high, count)


def evenly(low: int, high: int, count: int) -> list[int]:
    """`even_sizes` from `low` to `high`."""
    return sorted({_aligned_within(low, high, size) for size in np.geomspace(low, high, count)})


def even_by_executions(landscape: Landscape, rng: np.random.Generator, pairs: int, budget: float) -> list[Visit]:
    """An even grid of as many sizes as `budget` executions allow."""
    count = int(budget // (2 * (pairs + 1)))
    return [visit(landscape, rng, size, pairs) for size in even_sizes(landscape, count)] if count >= 3 else []


def even_by_seconds(landscape: Landscape, rng: np.random.Generator, pairs: int, budget: float) -> list[Visit]:
    """An even grid of as many sizes as `budget` seconds allow; if that is none, of nine without the largest."""
    fitting = (count for count in range(64, 2, -1) if _seconds(landscape, count, pairs) <= budget)
    sizes = even_sizes(landscape, next(fitting, 9))
    return affordable([visit(landscape, rng, size, pairs) for size in sizes], seconds=budget)


def even_by_thumb(landscape: Landscape, budget: float, *, seconds: bool) -> int:
    """The pairs of an even grid by a rule of thumb: a quarter to a fifth as many as sizes (9 x 2, 21 x 5)."""

    def distance(pairs: int) -> float:
        count = budget / (2 * (pairs + 1))
        if seconds:
            count = next((c for c in range(64, 2, -1) if _seconds(landscape, c, pairs) <= budget), 1)
        return float(abs(np.log(pairs * 4.3 / count)))

    return min(EVEN_PAIRS, key=distance)


def _seconds(landscape: Landscape, count: int, pairs: int) -> float:
    """What an even grid takes, without noise."""
    return (pairs + 1) * float(np.exp(landscape.log_latency(even_sizes(landscape, count))).sum()) * 1e-6


def random_sizes(landscape: Landscape, rng: np.random.Generator, pairs: int) -> Iterator[Visit]:
    """Sizes drawn evenly in log size."""
    while True:
        size = landscape.low * (landscape.high / landscape.low) ** rng.random()
        yield visit(landscape, rng, _aligned(landscape, size), pairs)


def bisection(landscape: Landscape, rng: np.random.Generator, pairs: int) -> Iterator[Visit]:
    """Both ends; while their signs differ, the middle takes the place of the end whose sign it has."""
    low, high = (visit(landscape, rng, _aligned(landscape, end), pairs) for end in (landscape.low, landscape.high))
    yield low
    yield high
    while np.sign(low.ratio) != np.sign(high.ratio) and np.log2(high.size / low.size) > _NARROWEST:
        middle = visit(landscape, rng, _aligned(landscape, np.sqrt(low.size * high.size)), pairs)
        yield middle
        if np.sign(middle.ratio) == np.sign(low.ratio):
            low = middle
        else:
            high = middle


def quasi_random(landscape: Landscape, rng: np.random.Generator, pairs: int) -> Iterator[Visit]:
    """Optuna's QMCSampler: a scrambled Sobol sequence over log size."""
    return _asked(landscape, rng, pairs, lambda seed: QMCSampler(seed=seed, scramble=True))


def tpe(landscape: Landscape, rng: np.random.Generator, pairs: int) -> Iterator[Visit]:
    """Optuna's TPESampler."""
    return _asked(landscape, rng, pairs, lambda seed: TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS))


def gaussian_process(landscape: Landscape, rng: np.random.Generator, pairs: int) -> Iterator[Visit]:
    """Optuna's GPSampler."""
    return _asked(landscape, rng, pairs, lambda seed: GPSampler(seed=seed, n_startup_trials=_STARTUP_TRIALS))


def _asked(
    landscape: Landscape, rng: np.random.Generator, pairs: int, make: Callable[[int], BaseSampler]
) -> Iterator[Visit]:
    """What a sampler of Optuna asks for when it minimises the absolute median log-ratio: it looks for crossovers."""
    space = {"octave": FloatDistribution(float(np.log2(landscape.low)), float(np.log2(landscape.high)))}
    with _quietly():
        study = optuna.create_study(sampler=make(int(rng.integers(2**31))), direction="minimize")
    while True:
        with _quietly():
            trial = study.ask(dict(space))
        found = visit(landscape, rng, _aligned(landscape, 2.0 ** trial.params["octave"]), pairs)
        study.tell(trial, abs(found.ratio))
        yield found


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what samplers say about themselves: that they are experimental, or would be faster with this or that."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


Trail = Callable[[Landscape, np.random.Generator, int], Iterator[Visit]]
TRAILS: dict[str, tuple[Trail, tuple[int, ...], int]] = {
    "random sizes": (random_sizes, SAMPLER_PAIRS, MAX_VISITS),
    "quasi-random (QMC)": (quasi_random, SAMPLER_PAIRS, MAX_VISITS),
    "TPE": (tpe, SAMPLER_PAIRS, MAX_VISITS),
    "GP": (gaussian_process, GP_PAIRS, MAX_GP_VISITS),
    "bisection": (bisection, BISECTION_PAIRS, MAX_VISITS),
}


def walk(trail: Iterator[Visit], visits: int, executions: float, seconds: float) -> list[Visit]:
    """The trail until both budgets are used up, or until it ends or has `visits`."""
    kept: list[Visit] = []
    spent = [0.0, 0.0]
    for found in trail:
        kept.append(found)
        spent = [spent[0] + found.executions, spent[1] + found.seconds]
        if len(kept) >= visits or (spent[0] >= executions and spent[1] >= seconds):
            break
    return kept


def affordable(visits: Sequence[Visit], *, executions: float = np.inf, seconds: float = np.inf) -> list[Visit]:
    """Those that fit into the budget in their order, each that does not left out."""
    kept = []
    for found in visits:
        if found.executions <= executions and found.seconds <= seconds:
            executions -= found.executions
            seconds -= found.seconds
            kept.append(found)
    return kept


def by_sign(landscape: Landscape, visits: Sequence[Visit], *, measured_only: bool = False) -> NDArray[np.bool_]:
    """Where the rivals' own rule chooses the candidate; nowhere without a visit.

    `measured_only` holds them to what tables are held to: beyond the sizes visited it is the baseline.
    """
    if not visits:
        return np.zeros(len(landscape.sizes), np.bool_)
    ratios: dict[int, list[Array]] = {}
    for found in visits:
        ratios.setdefault(found.size, []).append(np.log(found.latencies_us[0] / found.latencies_us[1]))
    sizes = sorted(ratios)
    medians = [float(np.median(np.concatenate(ratios[size]))) for size in sizes]
    chosen = np.interp(np.log2(landscape.sizes), np.log2(sizes), medians) > 0
    inside = (landscape.sizes >= sizes[0]) & (landscape.sizes <= sizes[-1])
    return np.asarray(chosen & inside if measured_only else chosen)


def fitted(landscape: Landscape, visits: Sequence[Visit]) -> Table:
    """The table that this package's fit makes of the rivals' samples. At least one visit is needed."""
    base, candidate = landscape.backends
    results = [
        PointResult(landscape.cell, found.size, dict(zip(landscape.backends, map(tuple, rows), strict=True)))
        for found in visits
        for rows in [found.latencies_us.tolist()]
    ]
    policy = Policy(0.0, 0.95, "isolated")
    cell = fit_cell(landscape.cell, results, baseline=base, candidates=(candidate,), policy=policy, workload={})
    nowhere = Platform("", "", "", 0, "", {}, {})
    return Table("rival", "", "replayed", base, (candidate,), nowhere, policy, (cell,), {}, "", "")


def _aligned(landscape: Landscape, size: float) -> int:
    """The nearest multiple of 16 bytes within the landscape, as sweeps have them."""
    return _aligned_within(landscape.low, landscape.high, size)


def _aligned_within(low: int, high: int, size: float) -> int:
    first, last = -(-low // 16) * 16, high // 16 * 16
    return int(min(max(round(float(size) / 16) * 16, first), last))
