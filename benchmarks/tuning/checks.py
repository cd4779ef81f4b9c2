"""What must hold beside the comparison: agreement, the null test, shared dtypes, the estimate, the search's own time.

Each check is a list of tasks, a function that runs one (in a process of its own), and a verdict on what came of all.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from landscapes import Landscape, Usual

from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render
from ccl_dispatch.tuner.plan import Plan
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.search import Outlook
from ccl_dispatch.tuner.statistics import Interval
from tuning.compare import OURS, Entry, Row
from tuning.pipeline import EXHAUSTIVE, Budget, Tuned, choices, own_seed, tune
from tuning.report import geometric_mean

MIN_GAIN = 0.03


@dataclass(frozen=True)
class Verdict:
    """A figure, what is wanted of it, and whether it is reached."""

    words: str
    reached: bool

    def __str__(self) -> str:
        """For people."""
        return f"{'reached' if self.reached else 'MISSED '}  {self.words}"


def judge_regrets(rows: Sequence[Row], fraction: float, mean: float, worst: float, label: str) -> list[Verdict]:
    """Mean and worst regret of ours, in executions, at a budget."""
    found = [row for row in rows if row.method == OURS and row.cost == "executions" and row.fraction == fraction]
    regrets = [row.regret for row in found]
    at = max(found, key=lambda row: row.regret).landscape
    got_mean, got_worst = float(np.mean(regrets)), max(regrets)
    where = f"{label}, 1/{1 / fraction:.0f}, {len(found)} cells"
    return [
        Verdict(f"{where}: mean regret {got_mean:.3%} (at most {mean:.2%} wanted)", got_mean <= mean),
        Verdict(f"{where}: worst {got_worst:.2%} at {at} (at most {worst:.1%} wanted)", got_worst <= worst),
    ]


class Goal(NamedTuple):
    """The regret that is wanted at a fraction of the exhaustive scan with that noise: its mean, and the worst cell."""

    noise: str
    sigma: float
    fraction: float
    mean: float
    worst: float


USUAL = (Goal("usual noise", 0.05, 1 / 100, 0.0012, 0.01), Goal("usual noise", 0.05, 1 / 20, 0.0004, 0.003))
LOUDER = Goal("noise of 10 %", 0.10, 1 / 50, 0.002, 0.015)


def judge_goal(rows: Sequence[Row], goal: Goal, label: str = "") -> list[Verdict]:
    """Of all landscapes, and of the published ones alone where there are any."""
    published = [row for row in rows if row.family == "published"]
    verdicts = judge_regrets(rows, goal.fraction, goal.mean, goal.worst, f"{label}{goal.noise}")
    if published:
        name = f"{label}{goal.noise}, published measurements"
        verdicts += judge_regrets(published, goal.fraction, goal.mean, goal.worst, name)
    return verdicts


def judge_ratios(found: Mapping[float, tuple[float, Entry]], label: str) -> list[Verdict]:
    """Ours in proportion to the best rival at the same cost, at every budget and in the geometric mean over them."""
    mean = geometric_mean(found)
    shown = ", ".join(f"1/{1 / fraction:.0f} {ratio:.2f} ({best.method})" for fraction, (ratio, best) in found.items())
    return [
        Verdict(f"ours / best rival, {label}: {shown} (below 1 wanted)", all(ratio < 1 for ratio, _ in found.values())),
        Verdict(f"ours / best rival, {label}: geometric mean {mean:.3f} (at most 0.5 wanted)", mean <= 0.5),
    ]


def louder(landscape: Landscape, sigma: float = LOUDER.sigma) -> Landscape:
    """The landscape with usual noise of another strength."""
    return replace(landscape, noise=Usual(sigma))


class Agreement(NamedTuple):
    """Two seeds on one landscape: held-out sizes beyond the tie band, those decided alike, and is order nothing, where
    that was asked.
    """

    landscape: str
    sizes: int
    same: int
    order_is_nothing: bool | None = None


def agreement(task: tuple[Landscape, int]) -> Agreement:
    """Two seeds at 1/20. Held out is what neither sweep measured; the order is that of the first one's points."""
    landscape, seed = task
    budget = Budget(executions=EXHAUSTIVE // 20)
    seeds = [own_seed(landscape, seed + step) for step in (0, 1)]
    one, two = (tune([landscape], budget, seed=each, min_gain=MIN_GAIN) for each in seeds)
    return alike(landscape, one, two)._replace(order_is_nothing=_order_is_nothing(one, seed))


def alike(landscape: Landscape, one: Tuned, two: Tuned) -> Agreement:
    """Two runs on a landscape; of the order nothing is asked."""
    seen = {result.size for tuned in (one, two) for result in tuned.results if result.cell == landscape.cell}
    sizes = [int(size) for size in landscape.sizes if size not in seen]
    sizes = [size for size in sizes if abs(float(landscape.lead([size])[0])) > np.log1p(MIN_GAIN)]
    same = choices(one.table, landscape, sizes) == choices(two.table, landscape, sizes)
    return Agreement(landscape.name, len(sizes), int(same.sum()))


def _order_is_nothing(tuned: Tuned, seed: int) -> bool:
    """Whether the same samples in another order of arrival give the same bytes."""
    shuffled = list(tuned.results)
    random.Random(seed).shuffle(shuffled)
    return render(build_table(tuned.meta, shuffled)) == tuned.text


def judge_agreement(found: Sequence[Agreement]) -> list[Verdict]:
    """99 % of the held-out sizes, and every table byte for byte where the order was asked about."""
    sizes, same = sum(one.sizes for one in found), sum(one.same for one in found)
    orders = [one.order_is_nothing for one in found if one.order_is_nothing is not None]
    worst = sorted(found, key=lambda one: one.same - one.sizes)[:5]
    named = ", ".join(f"{one.landscape} {one.sizes - one.same} of {one.sizes}" for one in worst if one.same < one.sizes)
    verdicts = [
        Verdict(
            f"two seeds, 1/20, min_gain 3 %: alike at {same / sizes:.2%} of {sizes} held-out sizes beyond the tie band "
            f"(at least 99 % wanted{'; apart most: ' if named else ''}{named})",
            same >= 0.99 * sizes,
        )
    ]
    if orders:
        words = f"another order of the samples: {sum(orders)} of {len(orders)} tables byte for byte"
        verdicts.append(Verdict(words, all(orders)))
    return verdicts


def null(task: tuple[Sequence[Landscape], int]) -> tuple[int, int]:
    """A sweep at 1/20 over cells whose candidate is the baseline: cells, and those in which it got a band."""
    landscapes, seed = task
    tuned = tune(landscapes, Budget(executions=EXHAUSTIVE // 20 * len(landscapes)), seed=seed, min_gain=MIN_GAIN)
    candidate = landscapes[0].backends[1]
    return len(landscapes), sum(any(band.use == candidate for band in cell.bands) for cell in tuned.table.cells)


def judge_null(found: Sequence[tuple[int, int]], noise: str = "usual") -> list[Verdict]:
    """At most 1 % of the cells."""
    cells, wrong = sum(one[0] for one in found), sum(one[1] for one in found)
    return [
        Verdict(
            f"null test, {noise} noise, 1/20, min_gain 3 %: the candidate has a band in {wrong} of {cells} cells "
            "(at most 1 % wanted)",
            wrong <= 0.01 * cells,
        )
    ]


@dataclass(frozen=True)
class Three:
    """Three dtypes tuned together, and each alone.

    Attributes:
        alone: regret of each cell when it was tuned alone at 1/50.
        together: regret of each when they shared 1.3 times (alike) or 3 times (differing) as much.
        to_target_alone, to_target_together: executions until the estimate was at the target, of one cell alone in the
            mean over the three, and of all.
        truly_alone, truly_together: their mean regret then.
    """

    alike: bool
    alone: tuple[float, ...]
    together: tuple[float, ...]
    to_target_alone: float
    to_target_together: float
    truly_alone: float
    truly_together: float


SHARE = 1.3
TARGET = 0.002


def three_dtypes(task: tuple[tuple[Landscape, ...], bool, int]) -> Three:
    """Tune three cells alone and together."""
    group, alike, seed = task
    single = EXHAUSTIVE // 50
    alone = [tune([one], Budget(executions=single), seed=seed + step) for step, one in enumerate(group)]
    shared = tune(group, Budget(executions=round(single * (SHARE if alike else len(group)))), seed=seed)
    most = EXHAUSTIVE // 5
    each = [(one,) for one in group]
    *by_one, by_all = (
        tune(cells, Budget(regret=TARGET, executions=most * len(cells)), seed=seed) for cells in (*each, group)
    )
    return Three(
        alike,
        tuple(tuned.regret(one) for tuned, one in zip(alone, group, strict=True)),
        tuple(shared.regret(one) for one in group),
        float(np.mean([tuned.executions for tuned in by_one])),
        float(by_all.executions),
        float(np.mean([tuned.regret(one) for tuned, one in zip(by_one, group, strict=True)])),
        float(np.mean([by_all.regret(one) for one in group])),
    )


def judge_dtypes(found: Sequence[Three]) -> list[Verdict]:
    """Three alike cost 1.3 times one at most; three that differ are as right as alone, within two standard errors."""
    verdicts = []
    alike = [one for one in found if one.alike]
    if alike:
        alone, together = (np.mean([one.alone for one in alike]), np.mean([one.together for one in alike]))
        error = _error([np.mean(one.together) - np.mean(one.alone) for one in alike])
        verdicts.append(
            Verdict(
                f"three dtypes alike, {SHARE} x one's 1/50 for all: mean regret {together:.3%}, one alone {alone:.3%} "
                f"(difference at most its two standard errors, {2 * error:.3%}, wanted)",
                bool(together - alone <= 2 * error),
            )
        )
        ratio = sum(one.to_target_together for one in alike) / sum(one.to_target_alone for one in alike)
        truly = np.mean([(one.truly_together, one.truly_alone) for one in alike], axis=0)
        verdicts.append(
            Verdict(
                f"three dtypes alike, to an estimate of {TARGET:.1%}: {ratio:.2f} times the executions of one "
                f"(at most {SHARE} wanted); they are {truly[0]:.3%} from the best then, one alone {truly[1]:.3%}",
                ratio <= SHARE,
            )
        )
    differing = [one for one in found if not one.alike]
    if differing:
        alone, together = (np.mean([one.alone for one in differing]), np.mean([one.together for one in differing]))
        error = _error([np.mean(one.together) - np.mean(one.alone) for one in differing])
        verdicts.append(
            Verdict(
                f"three dtypes that differ, 3 x one's 1/50: mean regret {together:.3%}, alone {alone:.3%} "
                f"(difference at most its two standard errors, {2 * error:.3%}, wanted)",
                bool(together - alone <= 2 * error),
            )
        )
    return verdicts


def _error(values: Sequence[float]) -> float:
    """The standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def judge_estimates(rows: Sequence[Row], policy: str = "") -> list[Verdict]:
    """The table's estimate against the truth, all budgets of ours together and each alone.

    The ratio's median is over all cells: one without any true regret counts as infinite.
    """
    verdicts = []
    ours = [row for row in rows if row.method == OURS]
    groups: Mapping[str, list[Row]] = {
        "all budgets": ours,
        **{
            f"1/{1 / fraction:.0f}": [row for row in ours if row.fraction == fraction]
            for fraction in dict.fromkeys(row.fraction for row in ours)
        },
    }
    for label, group in groups.items():
        covered = float(np.mean([row.estimate >= row.regret for row in group]))
        ratio = float(np.median([row.estimate / row.regret if row.regret > 0 else np.inf for row in group]))
        some = [row.estimate / row.regret for row in group if row.regret > 1e-4]
        true = float(np.mean([row.regret for row in group]))
        of_means = float(np.mean([row.estimate for row in group])) / true if true > 0 else np.inf
        verdicts.append(
            Verdict(
                f"estimated regret, {label}{policy}: covers the true one in {covered:.1%} of {len(group)} cells (at "
                f"least 90 % wanted); median ratio {ratio:.2f} (at most 3 wanted; "
                f"{np.median(some) if some else np.nan:.2f} where the true one is above 0.01 %; ratio of the means "
                f"{of_means:.2f})",
                covered >= 0.9 and ratio <= 3,
            )
        )
    return verdicts


class Stopwatch(SilentProgress):
    """Times what a sweep does between a point stored and the next one chosen, and ends it after `trials`.

    Processor time is taken as well: on a busy machine it is what the search itself needs.
    """

    def __init__(self, trials: int) -> None:
        self.seconds: list[tuple[float, float]] = []
        self._trials = trials
        self._since = self._now()

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """See `Progress`."""
        self._since = self._now()

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """See `Progress`: a point is chosen."""
        now = self._now()
        self.seconds.append((now[0] - self._since[0], now[1] - self._since[1]))
        if len(self.seconds) >= self._trials:
            raise EnoughTimedError

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """See `Progress`: the point is stored."""
        self._since = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


class EnoughTimedError(Exception):
    """Ends a sweep from inside its progress."""


def overhead(task: tuple[Sequence[Landscape], int, int]) -> list[tuple[float, float]]:
    """Wall and processor seconds from a point stored to the next chosen, for each trial of a sweep over all cells."""
    landscapes, trials, seed = task
    watch = Stopwatch(trials)
    with contextlib.suppress(EnoughTimedError):
        tune(landscapes, Budget(executions=1000 * trials), seed=seed, progress=watch)
    return watch.seconds


def judge_overhead(found: Sequence[Sequence[tuple[float, float]]], cells: int, trials: int) -> list[Verdict]:
    """5 ms at the last trials, and in the mean over all."""
    seconds = [wall for wall, _ in found[0]]
    tail = seconds[-100:]
    processor = 1e3 * float(np.mean([used for _, used in found[0]]))
    mean, last = 1e3 * float(np.mean(seconds)), 1e3 * float(np.mean(tail))
    whole = "" if len(seconds) >= trials else f" (the search ended after {len(seconds)} trials)"
    return [
        Verdict(
            f"choosing a point, {cells} cells: mean {mean:.2f} ms, the last {len(tail)} of {len(seconds)} trials "
            f"{last:.2f} ms, longest {1e3 * max(seconds):.1f} ms; processor {processor:.2f} ms{whole} "
            "(below 5 ms wanted)",
            max(mean, last) < 5,
        )
    ]
