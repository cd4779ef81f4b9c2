"""What one visit of a point says, and how much visits of a point differ: within a set of workers, and between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, variance
from typing import NamedTuple

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointResult

# What stands for a visit's latency when it is compared with earlier ones. Other work on the machine only ever slows a
# call: on two shared cores this share of the samples scatters from visit to visit by half as much as the median.
QUANTILE = 0.2
# Of the visits of a point a quarter is left out at either end: some fall into a moment of the machine's own.
_TRIM = 0.25
# And where deviations are averaged over places none counts for more than so many standard deviations.
FAR = 3.0
# The variance at the places around one counts as so many degrees of freedom at the place itself.
_POOLED_FREEDOM = 4.0
_NEAR_OCTAVES = 2.1
# Before there are several sets of workers their luck is taken to be 1 %; that belief counts as one set.
_PRIOR_BETWEEN = 0.01**2
# No two visits agree better than this (0.3 %): the floor of a variance that a few visits happen to show.
_LEAST_VARIANCE = 0.003**2


class Place(NamedTuple):
    """A size in a cell: where visits are compared."""

    cell: Cell
    size: int


@dataclass(frozen=True)
class Visit:
    """One visit of one point.

    Attributes:
        set: which set of workers made it; sets are numbered from 0 in a run.
        levels: per backend the log of its lower quintile latency in microseconds.
        ratios: per candidate the median of log(T_baseline / T_candidate) over the repetitions; may be empty where only
            levels were kept.
    """

    set: int
    levels: Mapping[str, float]
    ratios: Mapping[str, float]

    def quick_ratio(self, baseline: str, candidate: str) -> float | None:
        """log(T_baseline / T_candidate) of the levels, None where one of them is missing."""
        pair = self.levels.get(baseline), self.levels.get(candidate)
        return None if pair[0] is None or pair[1] is None else pair[0] - pair[1]


def visit_of(result: PointResult, baseline: str, candidates: Sequence[str], worker_set: int) -> Visit | None:
    """The visit that `result` was; None when no candidate was timed beside the baseline."""
    ratios = {name: median(values) for name in candidates if (values := result.log_ratios(baseline, name))}
    levels = {name: math.log(quantile(values, QUANTILE)) for name, values in result.latencies_us.items() if values}
    return Visit(worker_set, levels, ratios) if ratios else None


def quantile(values: Sequence[float], share: float) -> float:
    """The sample quantile whose expected rank is right for few and for many samples, whatever their distribution.

    Definition 8 of R. J. Hyndman and Y. Fan, Sample quantiles in statistical packages, The American Statistician 50
    (1996): a visit of 8 samples must not look faster or slower than one of 50.
    """
    ordered = sorted(values)
    place = min(max((len(ordered) + 1 / 3) * share - 2 / 3, 0.0), len(ordered) - 1.0)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Estimate(NamedTuple):
    """A location over visits: its variance, the degrees of freedom behind that, and the visits."""

    mean: float
    variance: float
    freedom: float
    visits: int


@dataclass(frozen=True)
class Spread:
    """How much one number scatters from visit to visit.

    Attributes:
        within: per place the variance of a visit, steadied by that of the places around it.
        by_set: per place the same of what a set of workers shows on average: where visits of one set resemble each
            other (a machine that stays in a mode for a while) they count for fewer.
        freedom: per place the degrees of freedom of these.
        between: per world size the variance that all its places share in a set of workers: sets have their own luck
            (memory, ports, cores).
    """

    within: Mapping[Place, float]
    by_set: Mapping[Place, float]
    freedom: Mapping[Place, float]
    between: Mapping[int, float]

    def own_variance(self, place: Place, values: Sequence[tuple[int, float]]) -> float:
        """The variance of the location of `values` at `place`, without the luck that all places share."""
        return max(self.within[place] / len(values), self.by_set[place] / sets_of(values))

    def estimate(self, place: Place, values: Sequence[tuple[int, float]]) -> Estimate:
        """The location of `values`, each with its set of workers, at `place`."""
        found = self.own_variance(place, values) + self.between[place.cell.world_size] / sets_of(values)
        return Estimate(location([value for _, value in values]), found, self.freedom[place], len(values))


Values = Mapping[Place, Sequence[tuple[int, float]]]


def values_of(visits: Mapping[Place, Sequence[Visit]], read: Callable[[Visit], float | None]) -> Values:
    """Per place what `read` finds in its visits, with the set of workers; places without any are left out."""
    found = {
        place: [(visit.set, value) for visit in own if (value := read(visit)) is not None]
        for place, own in visits.items()
    }
    return {place: values for place, values in found.items() if values}


def sets_of(values: Sequence[tuple[int, float]]) -> int:
    """How many sets of workers `values` come from."""
    return len({worker_set for worker_set, _ in values})


def location(values: Sequence[float]) -> float:
    """The trimmed mean: a visit now and then is off by a factor, and must not carry the others with it."""
    ordered = sorted(values)
    cut = int(len(ordered) * _TRIM)
    return fmean(ordered[cut : len(ordered) - cut])


def is_robust(visits: int) -> bool:
    """Whether one of so many visits that is off is left out of their `location`."""
    return int(visits * _TRIM) > 0


def learn_spread(runs: Sequence[Values]) -> Spread:
    """How visits scatter, from one or more runs (now, and the reference) whose locations may differ.

    At each place the variance of a trimmed mean by its winsorised values (K. K. Yuen, The two-sample trimmed t for
    unequal population variances, Biometrika 61, 1974), put together with that of the places around it, at other dtypes
    too, which counts as `_POOLED_FREEDOM` degrees of freedom.
    """
    within, freedom = _steadied(runs, lambda _, values: _visit_variance([value for _, value in values]))
    by_set, _ = _steadied(runs, lambda place, values: _set_variance(values, within[place]))
    return Spread(within, by_set, freedom, _between(runs, within))


def _steadied(
    runs: Sequence[Values], variance_of: Callable[[Place, Sequence[tuple[int, float]]], tuple[float, int]]
) -> tuple[dict[Place, float], dict[Place, float]]:
    """Per place a variance over all runs, put together with those around it, and its degrees of freedom."""
    variances: dict[Place, float] = {}
    freedom: dict[Place, int] = {}
    for run in runs:
        for place, values in run.items():
            found, free = variance_of(place, values)
            known = freedom.get(place, 0)
            if free:
                variances[place] = (known * variances.get(place, 0.0) + free * found) / (known + free)
            freedom[place] = known + free
    overall = fmean(variances.values()) if variances else _LEAST_VARIANCE
    # Only places that may be near are compared: a large table has thousands.
    alike: dict[Cell, list[Place]] = {}
    for place in variances:
        alike.setdefault(_any_dtype(place.cell), []).append(place)
    steadied, degrees = {}, {}
    for place, own in freedom.items():
        around = [other for other in alike.get(_any_dtype(place.cell), ()) if _is_near(place.size, other.size)]
        weight = sum(freedom[other] for other in around)
        pooled = math.fsum(freedom[other] * variances[other] for other in around) / weight if weight else overall
        degrees[place] = own + _POOLED_FREEDOM
        both = (own * variances.get(place, 0.0) + _POOLED_FREEDOM * pooled) / degrees[place]
        steadied[place] = max(both, _LEAST_VARIANCE)
    return steadied, degrees


def _set_variance(values: Sequence[tuple[int, float]], within: float) -> tuple[float, int]:
    """The variance of a set's mean and its degrees of freedom."""
    means = list(_set_means(values, within).values())
    return (variance(means), len(means) - 1) if len(means) > 1 else (0.0, 0)


def _set_means(values: Sequence[tuple[int, float]], within: float) -> dict[int, float]:
    """Per set of workers how far its visits lie from the location of all on average; outliers count as `FAR`."""
    middle, most = location([value for _, value in values]), FAR * math.sqrt(within)
    found: dict[int, list[float]] = {}
    for number, value in values:
        found.setdefault(number, []).append(min(max(value - middle, -most), most))
    return {number: fmean(own) for number, own in found.items()}


def _visit_variance(values: Sequence[float]) -> tuple[float, int]:
    """What one visit adds to the variance of `location`, and the degrees of freedom of that (0: it is not known)."""
    cut = int(len(values) * _TRIM)
    kept = len(values) - 2 * cut
    if kept < 2:
        return 0.0, 0
    clipped = _winsorised(values)
    middle = fmean(clipped)
    squares = math.fsum((value - middle) ** 2 for value in clipped)
    return squares * len(values) / (kept * (kept - 1)), kept - 1


def _winsorised(values: Sequence[float]) -> list[float]:
    """The values in their order, those that `location` leaves out moved to the nearest that it keeps."""
    ordered = sorted(values)
    cut = int(len(ordered) * _TRIM)
    low, high = ordered[cut], ordered[len(ordered) - 1 - cut]
    return [min(max(value, low), high) for value in values]


def _any_dtype(cell: Cell) -> Cell:
    """What cells have in common that differ in dtype alone."""
    return cell._replace(dtype="")


def _is_near(size: int, other: int) -> bool:
    """Whether the sizes differ by `_NEAR_OCTAVES` at most."""
    return abs(math.log2(size / other)) <= _NEAR_OCTAVES


def _between(runs: Sequence[Values], within: Mapping[Place, float]) -> dict[int, float]:
    """Per world size the variance that visits of one set of workers share.

    Its places are dealt into two halves. What a set's mean over either half deviates by is its luck and chance; as
    chance differs between the halves, their covariance over the sets is that of the luck.
    """
    found = {}
    for world_size in sorted({place.cell.world_size for run in runs for place in run}):
        products, free = 0.0, 0
        for run in runs:
            mine = [place for place in sorted(run) if place.cell.world_size == world_size]
            halves = [_luck({place: run[place] for place in mine[start::2]}, within) for start in (0, 1)]
            sets = sorted({*halves[0]} & {*halves[1]})
            if len(sets) > 1:
                middles = [fmean(half[number] for number in sets) for half in halves]
                products += math.fsum(
                    (halves[0][number] - middles[0]) * (halves[1][number] - middles[1]) for number in sets
                )
                free += len(sets) - 1
        found[world_size] = max((products + _PRIOR_BETWEEN) / (free + 1), 0.0)
    return found


def _luck(values: Values, within: Mapping[Place, float]) -> dict[int, float]:
    """Per set of workers its mean deviation over these places, weighed by precision."""
    total = math.fsum(1 / within[place] for place in values)
    luck: dict[int, float] = {}
    for place, own in values.items():
        for number, mean in _set_means(own, within[place]).items():
            luck[number] = luck.get(number, 0.0) + mean / within[place] / total
    return luck


def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t, at most 4 per cent too far out from 4 degrees of freedom on.

    Source: D. L. Wallace, Bounds on normal approximations to Student's and the chi-square distributions, Annals of
    Mathematical Statistics 30 (1959), solved for t.
    """
    z = NormalDist().inv_cdf(probability)
    stretched = z * (8 * freedom + 3) / (8 * freedom + 1)
    return math.copysign(math.sqrt(freedom * math.expm1(stretched**2 / freedom)), z)
