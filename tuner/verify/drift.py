"""Has the relation of candidate and baseline changed against the table's choices? Over runs of sizes, across cells too.

At each size the typical log(T_baseline / T_candidate) of the visits now is compared with that of the reference: a
ratio of ratios, which cancels what slows the whole machine. A change of a library rarely touches a single size in a
single cell, and on a noisy machine no single size shows it: so every run of sizes is looked at, in every cell, in cells
that differ in dtype only, and in all cells together (a scan statistic). The largest deviation is held against the
largest that chance gives, by simulation, so that all these looks together give a false alarm no more often than asked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.curves.cells import families
from ccl_dispatch.tuner.verify.visits import (
    FAR,
    Place,
    Spread,
    Values,
    Visit,
    is_robust,
    learn_spread,
    location,
    values_of,
)

Array = NDArray[np.float64]

# A change by less than this matters to nobody: the tie band of a table without one of its own.
LEAST_CHANGE = 0.03
_DRAWS = 2000
_SEED = 20_262
# A cell takes part in what a group of cells shows when it moved the same way by half as much at least, and by itself by
# so many standard deviations.
_TAKES_PART = 0.5
_SURELY = 2.0
# "Would have been seen": in nine of ten runs.
_POWER = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True)
class Shift:
    """A run of sizes in one or more cells over which `candidate` changed to the table's disfavour: measured by the
    baseline it takes longer where it is used, or less long where it is not.

    Attributes:
        cells: where it was found; in each of them from `low` to `high` per-rank input bytes.
        change: log of how many times as long as by the reference the candidate takes, measured by the baseline.
        bounds: of `change`, at the confidence of all of them together.
        baseline_change, candidate_change: the same of each alone, without dividing what changed for the whole machine.
    """

    candidate: str
    cells: tuple[Cell, ...]
    low: int
    high: int
    change: float
    bounds: tuple[float, float]
    baseline_change: float
    candidate_change: float


@dataclass(frozen=True)
class Drift:
    """What the comparison showed.

    Attributes:
        shifts: the proven ones, per candidate the clearest of each cell.
        seen: per cell the least change (log units) over the whole of it, alone or together with others, that would have
            been seen in nine of ten runs; cells without a reference that could show any are not there.
    """

    shifts: tuple[Shift, ...]
    seen: Mapping[Cell, float]


@dataclass(frozen=True)
class _Difference:
    """At one place: how much longer the candidate takes, in log units, its variance with the degrees
    of freedom of that, whether it is used there, and whether it would hold if one of the visits was off.
    """

    place: Place
    value: float
    variance: float
    freedom: float
    used: bool
    robust: bool


@dataclass(frozen=True)
class _Run:
    """Neighbouring sizes of some cells, all with the candidate in use or all without: the differences, by index."""

    cells: tuple[Cell, ...]
    members: tuple[int, ...]
    used: bool


def find_drift(
    now: Mapping[Place, Sequence[Visit]],
    reference: Mapping[Place, Sequence[Visit]],
    baseline: str,
    candidates: Sequence[str],
    choose: Callable[[Place], str],
    *,
    confidence: float,
    mood: float = 0.0,
    matters: float = LEAST_CHANGE,
) -> Drift:
    """Compare two runs.

    Args:
        choose: the table's choice.
        mood: the share of a visit's variance that all visits of the reference had in common, beside its sets' luck.
        confidence: of there being no false alarm in all of it.
        matters: a change below this share is none.
    """
    shifts: list[Shift] = []
    seen: dict[Cell, float] = {}
    each = 1 - (1 - confidence) / max(len(candidates), 1)
    for name in candidates:
        values = [
            values_of(visits, lambda visit, name=name: visit.quick_ratio(baseline, name))  # type: ignore[misc]
            for visits in (now, reference)
        ]
        spread = learn_spread(values)
        used = {place: choose(place) == name for place in values[0]}
        differences = _differences(values[0], values[1], spread, used)
        if not differences:
            continue
        common = mood * _typical([spread.within[item.place] for item in differences])
        sets = sum(1 / _sets(run) for run in values)
        shared = {world_size: own * sets + common for world_size, own in spread.between.items()}
        found = _scan(differences, shared, each, math.log1p(matters))
        seen |= {cell: min(least, seen.get(cell, math.inf)) for cell, least in found.seen.items()}
        for run, change, bounds in found.proven:
            sizes = [differences[index].place.size for index in run.members]
            places = [differences[index].place for index in run.members]
            shifts.append(
                Shift(
                    name,
                    run.cells,
                    min(sizes),
                    max(sizes),
                    change,
                    bounds,
                    _level_change(now, reference, places, baseline),
                    _level_change(now, reference, places, name),
                )
            )
    return Drift(tuple(shifts), seen)


def _typical(variances: Sequence[float]) -> float:
    """The harmonic mean: what a run of sizes amounts to in which precise ones weigh more."""
    return len(variances) / math.fsum(1 / variance for variance in variances)


def _sets(values: Values) -> int:
    return max(len({number for own in values.values() for number, _ in own}), 1)


def _differences(now: Values, before: Values, spread: Spread, used: Mapping[Place, bool]) -> list[_Difference]:
    """Per place in both the change of how long the candidate takes; what sets of workers share is added for a run."""
    found = []
    for place in sorted(now):
        if place in before:
            first, second = now[place], before[place]
            means = [location([value for _, value in own]) for own in (first, second)]
            variance = sum(spread.own_variance(place, own) for own in (first, second))
            robust = is_robust(len(first)) and is_robust(len(second))
            found.append(_Difference(place, means[1] - means[0], variance, spread.freedom[place], used[place], robust))
    return found


@dataclass(frozen=True)
class _Scan:
    proven: tuple[tuple[_Run, float, tuple[float, float]], ...]
    seen: Mapping[Cell, float]


def _scan(differences: Sequence[_Difference], shared: Mapping[int, float], confidence: float, margin: float) -> _Scan:
    """Look at every run.

    Args:
        shared: per world size the variance that its differences have in common.
        margin: what a change must exceed, in log units.
    """
    runs = list(_runs(differences))
    precisions = np.array([1 / item.variance for item in differences])
    weights = np.zeros((len(runs), len(differences)))
    for row, run in enumerate(runs):
        weights[row, list(run.members)] = precisions[list(run.members)]
    weights /= weights.sum(axis=1, keepdims=True)
    values = np.array([item.value for item in differences])
    own = np.array([item.variance for item in differences])
    changes = weights @ values
    ranks = sorted({item.place.cell.world_size for item in differences})
    parts = weights @ np.array(
        [[float(item.place.cell.world_size == count) for count in ranks] for item in differences]
    )
    luck = np.array([shared[count] for count in ranks])
    deviations = np.sqrt(weights**2 @ own + parts**2 @ luck)
    freedom = np.array([item.freedom for item in differences])
    limit = _limit((weights, own, freedom), (parts, luck), deviations, confidence)
    against = np.array([1.0 if run.used else -1.0 for run in runs])
    scores = (against * changes - margin) / deviations
    for row in np.flatnonzero(scores > limit).tolist():
        believed = _believed(differences, runs[row].members, weights[row], float(against[row]))
        scores[row] = min(scores[row], (believed - margin) / deviations[row])
    order = sorted((row for row in range(len(runs)) if scores[row] > limit), key=lambda row: -float(scores[row]))
    proven = _told_of(differences, runs, order, changes)
    of_cell: dict[tuple[Cell, bool], set[int]] = {}
    for index, item in enumerate(differences):
        of_cell.setdefault((item.place.cell, item.used), set()).add(index)
    whole: dict[Cell, float] = {}
    for row, run in enumerate(runs):
        if len(run.members) == 1 and not differences[run.members[0]].robust:
            continue
        least = margin + (limit + _POWER) * float(deviations[row])
        inside = set(run.members)
        for cell in run.cells:
            if of_cell[cell, run.used] <= inside:
                whole[cell] = min(least, whole.get(cell, math.inf))
    found = []
    for row, cells in proven.items():
        change, reach = float(changes[row]), float(limit * deviations[row])
        members = tuple(index for index in runs[row].members if differences[index].place.cell in cells)
        found.append(
            (replace(runs[row], cells=tuple(cells), members=members), change, (change - reach, change + reach))
        )
    return _Scan(tuple(found), whole)


def _believed(differences: Sequence[_Difference], members: Sequence[int], weights: Array, against: float) -> float:
    """A run's change to the table's disfavour if a visit here and there was off.

    The location of a few visits follows one that is off, such as the only one that a sweep made. Such a place counts as
    no more than `FAR` standard deviations beyond what most of the run shows; by itself it shows nothing yet.
    """
    values = {index: against * differences[index].value for index in members}
    most = sorted([0.0, *values.values()])[len(values) // 2]
    for index, value in values.items():
        if not differences[index].robust:
            values[index] = min(value, most + FAR * math.sqrt(differences[index].variance))
    return math.fsum(float(weights[index]) * value for index, value in values.items())


def _told_of(
    differences: Sequence[_Difference], runs: Sequence[_Run], order: Sequence[int], changes: Array
) -> dict[int, list[Cell]]:
    """Which proven runs (by falling score in `order`) are told, and of which cells: those that take part in them.

    For each cell the clearest run that it belongs to, or else the clearest that is its alone.
    """
    told: dict[int, list[Cell]] = {}
    for cell in sorted({item.place.cell for item in differences}):
        belongs = [row for row in order if cell in runs[row].cells]
        alone = [row for row in belongs if len(runs[row].cells) == 1]
        for row in (*belongs[:1], *alone[:1]):
            if _takes_part(cell, runs[row], differences, float(changes[row])) >= _SURELY:
                told.setdefault(row, []).append(cell)
                break
    if order and not told:
        # What no cell shows by itself, all of them together prove: it is told of the one that shows it best.
        clearest = runs[order[0]]
        share = [_takes_part(cell, clearest, differences, float(changes[order[0]])) for cell in clearest.cells]
        told[order[0]] = [clearest.cells[int(np.argmax(share))]]
    return told


def _takes_part(cell: Cell, run: _Run, differences: Sequence[_Difference], change: float) -> float:
    """By how many standard deviations the cell's own part of a run moved as the run did; 0 when by less than half."""
    mine = [differences[index] for index in run.members if differences[index].place.cell == cell]
    precision = math.fsum(1 / item.variance for item in mine)
    own = math.fsum(item.value / item.variance for item in mine) / precision
    return abs(own) * math.sqrt(precision) if own / change >= _TAKES_PART else 0.0


def _runs(differences: Sequence[_Difference]) -> Iterable[_Run]:
    """Every run of neighbouring sizes, of every group of cells; each set of differences once."""
    cells = sorted({item.place.cell for item in differences})
    groups: list[tuple[Cell, ...]] = [(cell,) for cell in cells]
    groups += [family for family in families(cells) if len(family) > 1]
    if len(cells) > 1:
        groups.append(tuple(cells))
    known: set[tuple[int, ...]] = set()
    for group, used in itertools.product(groups, (True, False)):
        alone = len(group) == 1
        mine = [index for index, item in enumerate(differences) if item.place.cell in group and item.used == used]
        marked = {index: _mark(differences[index], alone=alone) for index in mine}
        marks = sorted(set(marked.values()))
        for low, high in itertools.combinations_with_replacement(marks, 2):
            members = tuple(index for index in mine if low <= marked[index] <= high)
            if members not in known:
                known.add(members)
                yield _Run(tuple(sorted({differences[index].place.cell for index in members})), members, used)


def _mark(item: _Difference, *, alone: bool) -> float:
    """Where on the axis runs may begin and end: several cells, whose sizes differ, meet at whole octaves."""
    size = math.log2(item.place.size)
    return size if alone else float(round(size))


def _limit(
    places: tuple[Array, Array, Array], ranks: tuple[Array, Array], deviations: Array, confidence: float
) -> float:
    """What the largest deviation of any run to one side, in standard deviations, exceeds by chance in 1 - `confidence`.

    Places are drawn from Student's t, since their variances are estimates. The luck that sets of workers share is drawn
    once for each world size: all its runs go up and down together by it.

    Args:
        places: weights of each run (rows) and place, variances, degrees of freedom.
        ranks: weights of each run and world size, variances.
    """
    generator = np.random.default_rng(_SEED)
    weights, own, freedom = places
    parts, luck = ranks
    noise = (generator.standard_t(freedom, (_DRAWS, len(own))) * np.sqrt(own)) @ weights.T
    noise += (generator.standard_normal((_DRAWS, len(luck))) * np.sqrt(luck)) @ parts.T
    return float(np.quantile((noise / deviations).max(axis=1), confidence))


def _level_change(
    now: Mapping[Place, Sequence[Visit]],
    before: Mapping[Place, Sequence[Visit]],
    places: Sequence[Place],
    backend: str,
) -> float:
    """The mean over places of how the log latency of one backend changed."""
    changes = []
    for place in places:
        means = []
        for visits in (now[place], before[place]):
            levels = [visit.levels[backend] for visit in visits if backend in visit.levels]
            means.append(location(levels) if levels else math.nan)
        if all(map(math.isfinite, means)):
            changes.append(means[0] - means[1])
    return math.fsum(changes) / len(changes) if changes else math.nan
