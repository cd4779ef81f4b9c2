"""The search on landscapes with known truth, and what every sampler has to keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import optuna
import pytest

from ccl_dispatch.tuner.curves import Noise, PointSamples
from ccl_dispatch.tuner.search import (
    Budget,
    Observation,
    Outlook,
    PointSampler,
    RegretSampler,
    SearchSpace,
    Visit,
    encode,
)
from ccl_dispatch.tuner.search.family import Family, make_grid
from ccl_dispatch.tuner.sizes import size_grid

SIZES = size_grid(16, 4 << 20, 4)
Truth = Callable[[str, float], float]


def _space(*cells: str, alike: bool = False) -> SearchSpace:
    return SearchSpace(dict.fromkeys(cells, SIZES), families=(cells,) if alike else ())


def _measure(
    truth: Truth,
    cell: str,
    size: int,
    repeats: int,
    number: int,
    noise: float,
    *,
    warm_up: bool = True,
    first: float = 0.0,
) -> Observation:
    """A visit; log-ratios of first calls are off by `first`."""
    rng = np.random.default_rng([number, size])
    values = truth(cell, math.log2(size)) + rng.normal(0, noise, repeats + 1)
    samples = PointSamples(tuple(values[1:].tolist()), (float(values[0] + first),) if warm_up else ())
    visit = Visit(1e-3, repeats, 2e-5 + size / 1e10, 2, 2 * warm_up + 2 * repeats)
    return Observation(cell, size, {"fast": samples}, visit)


def _search(
    sampler: PointSampler, truth: Truth, *, noise: float = 0.05, most: int = 500, seed: int = 0, first: float = 0.0
) -> tuple[list[Observation], Outlook]:
    """Run the sampler without a study."""
    observations: list[Observation] = []
    while True:
        outlook = sampler.judge(observations)
        if outlook.proposal is None or len(observations) >= most:
            return observations, outlook
        cell, size, repeats, _, warm_up = outlook.proposal
        number = seed + len(observations)
        found = _measure(truth, cell, size, repeats, number, noise, warm_up=warm_up, first=first)
        observations = [*observations, found]


def _step(cell: str, x: float) -> float:
    return 0.3 if x < 13.3 else -0.3


def test_it_closes_in_on_a_step() -> None:
    """Twenty visits narrow the only change among eighteen octaves down to half an octave."""
    found, _ = _search(RegretSampler(_space("a"), ["fast"], budget=Budget(executions=240)), _step, most=20)
    measured = {o.size for o in found}
    below = max(size for size in measured if math.log2(size) < 13.3)
    above = min(size for size in measured if math.log2(size) > 13.3)
    assert SIZES.index(above) - SIZES.index(below) <= 2


def test_what_was_put_down_to_an_outlier_keeps_a_sweep_from_ending() -> None:
    """One sample of the first look says that the candidate is twice as fast around a size: most likely an outlier, and
    yet nothing is settled before more was measured. Without it the sweep would have ended.
    """
    budget = Budget(regret=0.01)
    found, outlook = _search(RegretSampler(_space("a"), ["fast"], budget=budget), lambda _, x: -0.3)
    assert outlook.proposal is None
    assert len(found) <= 9
    middle = sorted(o.size for o in found)[len(found) // 2]
    odd = [replace(o, samples={"fast": PointSamples((0.6,))}) if o.size == middle else o for o in found]
    outlook = RegretSampler(_space("a"), ["fast"], budget=budget).judge(odd)
    assert outlook.regret > 0.01
    assert outlook.proposal is not None
    assert outlook.proposal.size == middle


def test_telling_whether_a_dismissed_point_is_true_is_worth_a_visit() -> None:
    """Single samples say that the candidate leads by far, but the one at the largest size that it is far behind there.
    That is put down to an outlier; a second look at it is worth most of what would be lost if it is none.
    """
    leads = {16: 0.92, 96: 0.85, 608: 0.83, 4096: 0.87, 27552: 0.84, 155872: 0.72, 1048576: -0.78}
    grid = make_grid("a", size_grid(16, 1 << 20, 4), {})
    known = [
        replace(_measure(_step, "a", size, 1, 0, 0.0), samples={"fast": PointSamples((lead,))})
        for size, lead in leads.items()
    ]
    view = Family([grid], ["fast"], 0.0, [1, 10]).view(0, known, {"fast": Noise(0.07)}, warm_up=False)
    (point,) = view.dismissed
    assert grid.sizes[point.place] == max(leads)
    gain = view.worth([0]) - replace(view, dismissed=()).worth([0])
    assert 0.5 * point.lost < gain[0, point.place] <= point.lost
    assert gain[0, 0] < 0.05 * point.lost
    # Another worker's visit of the cell may tell: no second one for the same question.
    under_way = replace(view, closed=(0,))
    assert (under_way.worth([0]) == replace(under_way, dismissed=()).worth([0])).all()


def test_cells_that_share_a_budget_are_looked_at_more_closely() -> None:
    """A plain cell leaves what it does not need to the others, so that a first look may take a third of the budget."""

    def looks(*cells: str) -> int:
        executions = 55 * len(cells)
        sampler = RegretSampler(_space(*cells), ["fast"], budget=Budget(executions=executions))
        found: list[Observation] = []
        while math.isinf((outlook := sampler.judge(found)).regret) and outlook.proposal:
            cell, size, repeats, _, warm_up = outlook.proposal
            found = [*found, _measure(_step, cell, size, repeats, len(found), 0.05, warm_up=warm_up)]
        return len(found) // len(cells)

    assert looks("a") < looks("a", "b", "c") <= 9


@pytest.mark.parametrize("executions", [40, 101, 250])
def test_the_budget_of_executions_is_kept(executions: int) -> None:
    """Never more executions than the budget, and less than one visit is left over."""
    sampler = RegretSampler(_space("a", "b"), ["fast"], budget=Budget(executions=executions))
    found, outlook = _search(sampler, lambda _, x: 0.02 * math.sin(x))
    used = sum(o.visit.executions for o in found if o.visit is not None)
    assert executions - 4 < used <= executions
    assert outlook.exhausted == "executions"


@pytest.mark.parametrize(
    ("first", "most"),
    [pytest.param(0.0, 0.35, id="first calls are like others"), pytest.param(-0.5, 1.0, id="first calls are slower")],
)
def test_warm_ups_are_left_out_where_they_tell_nothing(first: float, most: float) -> None:
    """Three visits show whether first calls are like all others; then a visit in eight still has a warm-up, or each.

    The budget is kept either way. Who does not allow it gets a warm-up in every visit.
    """
    sampler = RegretSampler(_space("a"), ["fast"], budget=Budget(executions=100), warm_up=False)
    found, _ = _search(sampler, lambda _, x: 0.02 * math.sin(x), first=first)
    assert all(o.samples["fast"].firsts for o in found[:3])
    warmed = [bool(o.samples["fast"].firsts) for o in found]
    assert sum(warmed) <= most * len(found)
    assert sum(warmed) >= max(4, len(found) / 8)
    assert (sum(warmed) == len(found)) == (first != 0)
    assert 96 < sum(o.visit.executions for o in found if o.visit is not None) <= 100
    always, _ = _search(RegretSampler(_space("a"), ["fast"], budget=Budget(executions=100)), _step)
    assert all(o.samples["fast"].firsts for o in always)


def test_it_ends_when_little_is_left_to_win() -> None:
    """With a target of regret alone it ends by itself, with the expected regret below the target."""
    found, outlook = _search(RegretSampler(_space("a"), ["fast"], budget=Budget(regret=0.003)), _step)
    assert outlook.proposal is None
    assert outlook.regret <= 0.003
    assert len(found) < 60


@pytest.mark.parametrize("seed", [0, 1000, 2000])
def test_it_does_not_end_because_short_calls_have_little_left_to_win(seed: int) -> None:
    """A tie from end to end, in calls that take a thousand times as long where they are large: what is left to win is
    what was asked for, though the visits that win most for their time soon win next to nothing.
    """
    sizes = size_grid(1024, 256 << 20, 4)
    sampler = RegretSampler(SearchSpace({"a": sizes}), ["fast"], budget=Budget(regret=0.002))
    found, outlook = _search(sampler, lambda _, x: 0.01 * math.sin(x), most=2000, seed=seed)
    assert outlook.proposal is None
    assert outlook.regret <= 0.002
    assert len(found) < 500


def test_without_any_budget_every_octave_is_looked_at() -> None:
    """Nobody in a hurry: no gap between measured sizes is wider than an octave and a grid step."""
    found, _ = _search(RegretSampler(_space("a"), ["fast"]), _step)
    measured = sorted({o.size for o in found})
    assert measured[0] == SIZES[0]
    assert measured[-1] == SIZES[-1]
    assert max(high / low for low, high in pairwise(measured)) < 2.5


def test_a_workload_is_measured_exactly() -> None:
    """Shapes of the workload are visited whatever the search thinks of them, and before it ends by itself."""
    space = SearchSpace({"a": tuple(sorted({*SIZES, 258560}))}, {"a": {258560: 1.0}})
    found, _ = _search(RegretSampler(space, ["fast"], budget=Budget(regret=0.01)), _step)
    assert 258560 in {o.size for o in found}


def test_coinciding_cells_cost_little_more_than_one() -> None:
    """Three cells that share a curve take less than twice the visits of one, over six seeds: 1.84 times as seen."""

    def wave(_: str, x: float) -> float:
        return 0.15 * math.sin((x - 4) / 3)

    def visits(*cells: str) -> int:
        space, budget = _space(*cells, alike=True), Budget(regret=0.0005)
        seeds = range(0, 6000, 1000)
        return sum(
            len(_search(RegretSampler(space, ["fast"], budget=budget), wave, noise=0.1, seed=seed)[0]) for seed in seeds
        )

    assert visits("a", "b", "c") < 2 * visits("a")


def test_a_proof_is_worth_samples() -> None:
    """At min_gain 3 % a lead of 6 % is measured until it is proven; without a threshold that many are not taken."""

    def lead(_: str, x: float) -> float:
        return 0.06

    budget = Budget(executions=2000, regret=0.002)
    proving, outlook = _search(RegretSampler(_space("a"), ["fast"], threshold=math.log(1.03), budget=budget), lead)
    plain, _ = _search(RegretSampler(_space("a"), ["fast"], budget=budget), lead)
    count = [sum(len(o.samples["fast"].repeats) for o in found) for found in (proving, plain)]
    assert count[0] > 2 * count[1]
    assert outlook.regret <= 0.002


def test_an_excluded_candidate_is_left_alone() -> None:
    """Where a candidate was wrong nothing more is measured; elsewhere the search goes on."""
    sampler = RegretSampler(_space("a"), ["fast"], budget=Budget(executions=400))
    observations: list[Observation] = []
    while (proposal := sampler.judge(observations).proposal) is not None:
        cell, size, repeats = proposal[:3]
        if size > 2**15:
            visit = Visit(1e-3, 0, 0.0, 0, 2)
            observations = [*observations, Observation(cell, size, {}, visit, frozenset({"fast"}))]
        else:
            observations = [*observations, _measure(_step, cell, size, repeats, len(observations), 0.05)]
    later = observations[9:]
    assert later
    assert all(o.size <= 2**16 for o in later)


def test_a_point_that_somebody_measures_is_not_proposed_again() -> None:
    """With one point pending the next proposal is another one."""
    sampler = RegretSampler(_space("a"), ["fast"], budget=Budget(executions=400))
    observations = _search(sampler, _step, most=12)[0]
    first = sampler.judge(observations).proposal
    assert first is not None
    second = sampler.judge([*observations, Observation(first.cell, first.size, pending=True)]).proposal
    assert second is not None
    assert (second.cell, second.size) != (first.cell, first.size)


@pytest.fixture
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _run_study(study: optuna.Study, sampler: PointSampler, trials: int) -> None:
    for _ in range(trials):
        trial = study.ask(sampler.space.distributions())
        size = sampler.space.sizes[trial.params["size_index"]]
        cell, repeats = trial.params["cell"], trial.params["repeats"]
        trial.set_user_attr("observed", encode(_measure(_step, cell, size, repeats, trial.number, 0.05)))
        study.tell(trial, 0.0)


@pytest.mark.usefixtures("_quiet")
def test_it_keeps_no_state() -> None:
    """A new sampler on half a study goes on exactly as the one that began it."""

    def points(study: optuna.Study) -> list[tuple[object, ...]]:
        return [tuple(trial.params.values()) for trial in study.get_trials()]

    budget = Budget(executions=2000)
    whole = optuna.create_study(sampler=RegretSampler(_space("a", "b", alike=True), ["fast"], budget=budget))
    assert isinstance(whole.sampler, PointSampler)
    _run_study(whole, whole.sampler, 40)
    half = optuna.create_study(sampler=RegretSampler(_space("a", "b", alike=True), ["fast"], budget=budget))
    assert isinstance(half.sampler, PointSampler)
    _run_study(half, half.sampler, 23)
    half.sampler = RegretSampler(_space("a", "b", alike=True), ["fast"], budget=budget)
    _run_study(half, half.sampler, 17)
    assert points(half) == points(whole)


@pytest.mark.usefixtures("_quiet")
def test_a_failed_trial_is_as_if_never_asked_for() -> None:
    """The point of a failed trial is proposed again."""
    sampler = RegretSampler(_space("a"), ["fast"], budget=Budget(executions=2000))
    study = optuna.create_study(sampler=sampler)
    _run_study(study, sampler, 10)
    trial = study.ask(sampler.space.distributions())
    wanted = dict(trial.params)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert dict(study.ask(sampler.space.distributions()).params) == wanted


@pytest.mark.usefixtures("_quiet")
def test_asking_after_the_end_says_what_to_do() -> None:
    """Without a proposal `ask` is an error that names outlook()."""
    sampler = RegretSampler(_space("a"), ["fast"], budget=Budget(executions=3))
    study = optuna.create_study(sampler=sampler)
    assert sampler.outlook(study).exhausted == "executions"
    with pytest.raises(RuntimeError, match="outlook"):
        study.ask(sampler.space.distributions())
