"""Are the table's choices still the right ones? Size by size, and what keeping them costs over a whole cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ccl_dispatch.runtime.table import TIE_FLOOR
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.curves import CurveModel, Summary
from ccl_dispatch.tuner.curves.points import Points
from ccl_dispatch.tuner.fit.grid import PER_OCTAVE
from ccl_dispatch.tuner.fit.points import log_shares
from ccl_dispatch.tuner.sizes import ALIGNMENT, size_grid
from ccl_dispatch.tuner.verify.excluded import Excluded
from ccl_dispatch.tuner.verify.visits import (
    Estimate,
    Place,
    Spread,
    Visit,
    learn_spread,
    t_quantile,
    values_of,
)

# Curves drawn from what was measured; their extremes must be reached by a few of them at the confidence asked for.
_DRAWS = 4000
_SEED = 20_261


@dataclass(frozen=True)
class Choice:
    """The table's choice at one size against the best other backend that was timed there.

    Attributes:
        use, against: the names.
        lead: log(T_use / T_against): how much slower the choice is; negative where it is faster.
        low, high: what that is known to lie between, at the confidence of all choices together.
        visits: how many it rests on.
    """

    place: Place
    use: str
    against: str
    lead: float
    low: float
    high: float
    visits: int


@dataclass(frozen=True)
class Cost:
    """Regret of keeping a cell as it is: mean over log-spaced sizes of T(chosen)/T(best) - 1, and its bounds."""

    mean: float
    low: float
    high: float


def tie_band(min_gain: float) -> float:
    """The log-ratio within which two backends count as equal, as in the fit's ties."""
    return math.log1p(max(min_gain, TIE_FLOOR))


def spreads(visits: Mapping[Place, Sequence[Visit]], candidates: Sequence[str]) -> dict[str, Spread]:
    """Per candidate how its log-ratios scatter from visit to visit."""
    found = {}
    for name in candidates:
        values = values_of(visits, lambda visit, name=name: visit.ratios.get(name))  # type: ignore[misc]
        if values:
            found[name] = learn_spread([values])
    return found


def estimates(
    visits: Mapping[Place, Sequence[Visit]], candidates: Sequence[str], known: Mapping[str, Spread]
) -> dict[Place, dict[str, Estimate]]:
    """Per place and candidate the log-ratio to the baseline."""
    found: dict[Place, dict[str, Estimate]] = {}
    for name in candidates:
        for place, values in values_of(visits, lambda visit, name=name: visit.ratios.get(name)).items():  # type: ignore[misc]
            found.setdefault(place, {})[name] = known[name].estimate(place, values)
    return found


def judge_choices(
    found: Mapping[Place, Mapping[str, Estimate]],
    baseline: str,
    choose: Callable[[Place], str],
    confidence: float,
) -> list[Choice]:
    """Every choice against every other backend that was timed; the most doubtful rival of each place.

    The bounds are those of Student's t with the visits' own variance, all of them together at `confidence` (Bonferroni
    over places and rivals).
    """
    claims = max(sum(len(own) for own in found.values()), 1)
    tail = (1 - confidence) / claims / 2
    choices = []
    for place in sorted(found):
        use = choose(place)
        own = found[place]
        zero = Estimate(0.0, 0.0, math.inf, 0)
        mine = zero if use == baseline else own.get(use)
        if mine is None:
            continue  # it could not be timed: told as an exclusion
        rivals = []
        for name, other in ((baseline, zero), *own.items()):
            if name == use:
                continue
            lead = other.mean - mine.mean
            deviation = math.sqrt(other.variance + mine.variance)
            reach = t_quantile(1 - tail, min(other.freedom, mine.freedom)) * deviation
            visits = max(mine.visits, other.visits)
            rivals.append(Choice(place, use, name, lead, lead - reach, lead + reach, visits))
        choices.append(max(rivals, key=lambda choice: choice.low))
    return choices


def cost_of(
    cell: Cell,
    found: Mapping[Place, Mapping[str, Estimate]],
    candidates: Sequence[str],
    choose: Callable[[Place], str],
    confidence: float,
    excluded: Excluded = lambda _place, _name: False,
) -> Cost | None:
    """What keeping the table's choices in `cell` costs, by the curves through what was measured now.

    Not using a candidate where it is `excluded` costs nothing, also between the sizes at which it was measured.

    Curves are the fit's (`curves.model`), with the variances of these visits; the bounds are quantiles over curves
    drawn from them. None where no candidate was timed.
    """
    own = {place.size: values for place, values in found.items() if place.cell == cell}
    if not own:
        return None
    sizes = _sizes(sorted(own))
    x = np.log2(np.asarray(sizes, dtype=float))
    generator = np.random.default_rng(_SEED)
    used = np.array([choose(Place(cell, size)) for size in sizes])
    best = np.zeros((_DRAWS, len(sizes)))
    chosen = np.zeros_like(best)
    for name in candidates:
        measured = sorted(size for size, values in own.items() if name in values)
        if not measured:
            continue
        estimates = [own[size][name] for size in measured]
        points = Points.of(measured, [Summary(one.mean, one.variance, trust=math.inf) for one in estimates])
        (curve,) = CurveModel.learn([points]).posterior([points], [(0, x)])
        draws = curve.drawn(generator.standard_normal((_DRAWS, len(x))))
        # Where it is not known to run, nothing is lost by not using it.
        inside = (np.asarray(sizes) >= measured[0]) & (np.asarray(sizes) <= measured[-1])
        inside &= np.array([not excluded(Place(cell, size), name) for size in sizes])
        best = np.where(inside, np.maximum(best, draws), best)
        chosen = np.where((used == name) & inside, draws, chosen)
    octaves = np.asarray(log_shares(sizes))
    losses = np.expm1(np.maximum(best - chosen, 0.0)) @ octaves / octaves.sum()
    tail = (1 - confidence) / 2
    return Cost(float(losses.mean()), float(np.quantile(losses, tail)), float(np.quantile(losses, 1 - tail)))


def _sizes(measured: Sequence[int]) -> tuple[int, ...]:
    low, high = measured[0], measured[-1]
    between = size_grid(low, high, PER_OCTAVE) if low // ALIGNMENT < high // ALIGNMENT else ()
    return tuple(sorted({*measured, *(size for size in between if low < size < high)}))
