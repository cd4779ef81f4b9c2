"""What Optuna asks of a sampler, and everything that a study may hold or its user do."""

from __future__ import annotations

import math
import pickle
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import PartialFixedSampler
from optuna.trial import TrialState, create_trial

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.search import Budget, Observation, RegretSampler, SearchSpace, Visit, encode

# Two cells that have no size in common: a proposal of one is of no use to the other.
GRID = tuple(64 << octave for octave in range(16))
SPACE = SearchSpace({"a": GRID, "b": tuple(size + size // 2 for size in GRID)})
POINT = {"cell": "a", "size_index": 6, "repeats": 1}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def _sampler(executions: float = 400) -> RegretSampler:
    return RegretSampler(SPACE, ["fast"], budget=Budget(executions=executions))


def _study(executions: float = 400) -> tuple[RegretSampler, optuna.Study]:
    sampler = _sampler(executions)
    return sampler, optuna.create_study(sampler=sampler)


def _found(size: int, repeats: int) -> Observation:
    """What is measured: the candidate is faster below 32 KiB, by a little that takes several visits to be sure of."""
    ratios = tuple((0.03 if size < 1 << 15 else -0.03) + 0.05 * (-1) ** place for place in range(repeats))
    return Observation("", size, {"fast": PointSamples(ratios)}, Visit(1e-3, repeats, 1e-4, 2, 2 + 2 * repeats))


def _objective(trial: optuna.Trial) -> float:
    trial.suggest_categorical("cell", SPACE.cells)
    size = SPACE.sizes[trial.suggest_int("size_index", 0, len(SPACE.sizes) - 1)]
    trial.set_user_attr("observed", encode(_found(size, trial.suggest_int("repeats", 1, 4096, log=True))))
    return 0.0


def _visit(study: optuna.Study, times: int = 1) -> None:
    """Ask and tell."""
    for _ in range(times):
        trial = study.ask(SPACE.distributions())
        size, repeats = SPACE.sizes[trial.params["size_index"]], trial.params["repeats"]
        trial.set_user_attr("observed", encode(_found(size, repeats)))
        study.tell(trial, 0.0)


def _fixed(sampler: optuna.samplers.BaseSampler, **params: object) -> PartialFixedSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PartialFixedSampler(params, sampler)


def test_optimize_ends_when_the_search_does() -> None:
    """`study.optimize` without a number of trials measures the points of ask and tell, then returns; also once more."""
    sampler, study = _study()
    study.optimize(_objective)
    by_hand, asked = _study()
    while by_hand.outlook(asked).proposal is not None:
        _visit(asked)
    *measured, last = study.trials
    assert [trial.params for trial in measured] == [trial.params for trial in asked.trials]
    assert last.state == TrialState.PRUNED
    study.optimize(_objective)
    assert len(sampler.observations(study)) == len(measured)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
def test_those_who_ask_at_once_get_different_points(order: tuple[int, ...]) -> None:
    """Each process has a sampler of its own, and none sees the others' parameters before Optuna has stored them."""
    _, study = _study()
    _visit(study, 5)
    trials = [study.ask() for _ in order]
    frozen = study.trials[5:]
    points = {at: _sampler().sample_relative(study, frozen[at], SPACE.distributions()) for at in order}
    assert len({(point["cell"], point["size_index"]) for point in points.values()}) == 3
    # What came to nothing is free again.
    for trial in trials:
        study.tell(trial, state=TrialState.FAIL)
    assert study.ask(SPACE.distributions()).params == points[0]


def test_a_process_that_has_gone_keeps_no_point() -> None:
    """A trial that was asked for long ago and never got its parameters is passed over."""
    _, study = _study()
    gone = create_trial(state=TrialState.RUNNING)
    gone.datetime_start = datetime.now() - timedelta(minutes=1)  # noqa: DTZ005 - as Optuna notes it
    study.add_trial(gone)
    _, alone = _study()
    assert study.ask(SPACE.distributions()).params == alone.ask(SPACE.distributions()).params


def test_threads_lose_nothing() -> None:
    """However threads of one `study.optimize` take turns, what the sampler remembers is what a new one reads, and the
    budget is kept.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        sampler, study = _study()
        study.optimize(_objective, n_jobs=4)
    finally:
        sys.setswitchinterval(before)
    known = sampler.observations(study)
    again = optuna.load_study(study_name=study.study_name, storage=study._storage)
    assert known == _sampler().observations(again)
    assert sum(found.visit.executions for found in known if found.visit) <= 400


def test_a_copy_of_the_sampler_is_without_the_study() -> None:
    """A pickled sampler holds no storage, which may be a connection, and goes on where the study is."""
    sampler, study = _study()
    _visit(study, 20)
    pickled = pickle.dumps(sampler)
    assert study.study_name.encode() not in pickled
    again = optuna.load_study(study_name=study.study_name, storage=study._storage)
    assert pickle.loads(pickled).outlook(again) == sampler.outlook(study)  # noqa: S301 - our own bytes


def test_a_wrapper_takes_nothing_out_of_the_sampler() -> None:
    """PartialFixedSampler fixes the repetitions of each visit; the sampler alone proposes all parameters as before."""
    sampler, study = _study()
    study.sampler = _fixed(sampler, repeats=7)
    assert study.ask(SPACE.distributions()).params["repeats"] == 7
    study.sampler = sampler
    assert study.ask(SPACE.distributions()).params.keys() == SPACE.distributions().keys()
    assert len(sampler.observations(study)) == 2


@pytest.mark.parametrize("name", ["cell", "size_index"])
def test_half_a_point_can_not_be_fixed(name: str) -> None:
    """A size that was proposed for one cell is not measured in another one, which may not have it."""
    sampler, study = _study()
    study.enqueue_trial({name: POINT[name]})
    with pytest.raises(ValueError, match=f"only '{name}' is fixed"):
        study.ask(SPACE.distributions())
    study.sampler = _fixed(sampler, **{name: POINT[name]})
    with pytest.raises(ValueError, match="proposed together"):
        study.ask(SPACE.distributions())
    alone = SearchSpace({"a": GRID})
    study = optuna.create_study(sampler=RegretSampler(alone, ["fast"]))
    study.enqueue_trial({"size_index": 3})
    assert study.ask(alone.distributions()).params["size_index"] == 3


def test_an_enqueued_point_is_measured_and_counts() -> None:
    """Before it is, nobody else is sent there."""
    sampler, study = _study()
    study.enqueue_trial(POINT)
    trial = study.ask(SPACE.distributions())
    assert trial.params == POINT
    (waiting,) = sampler.observations(study)
    assert waiting == Observation("a", SPACE.sizes[6], pending=True)
    trial.set_user_attr("observed", encode(_found(SPACE.sizes[6], 1)))
    study.tell(trial, 0.0)
    assert [found.pending for found in sampler.observations(study)] == [False]


@pytest.mark.parametrize("index", [7, 99, -99], ids=["of another cell", "beyond all", "below all"])
@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_point_that_the_space_has_not_stops_nobody(index: int) -> None:
    """Optuna lets any number be enqueued. While it is being tried the search goes on, as if it was not there."""
    sampler, study = _study(4000)
    _visit(study, 25)
    before = sampler.outlook(study)
    study.enqueue_trial({**POINT, "size_index": index})
    study.ask(SPACE.distributions())
    assert sampler.outlook(study) == before


def test_trials_of_other_samplers_are_passed_over() -> None:
    """A study may hold trials with other parameters, as many as a point has."""
    sampler, study = _study()
    _visit(study, 3)
    before = sampler.outlook(study)
    for state in (TrialState.COMPLETE, TrialState.RUNNING):
        study.add_trial(
            create_trial(
                state=state,
                value=0.0 if state == TrialState.COMPLETE else None,
                params={"x": 1.0, "y": 2.0, "z": 3.0},
                distributions=dict.fromkeys("xyz", FloatDistribution(0, 9)),
            )
        )
    assert sampler.outlook(study) == before


def test_a_completed_trial_says_what_was_found() -> None:
    """Telling a value alone is an error that names the attribute, and the point is as if never asked for."""
    sampler, study = _study()
    trial = study.ask(SPACE.distributions())
    with pytest.raises(ValueError, match="set_user_attr\\('observed'"):
        study.tell(trial, 0.0)
    assert sampler.observations(study) == []


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_who_gives_up_leaves_the_point_to_others(state: TrialState) -> None:
    """Neither a failed nor a pruned trial is taken for one that is still being measured."""
    sampler, study = _study()
    trial = study.ask(SPACE.distributions())
    study.tell(trial, state=state)
    assert sampler.observations(study) == []
    assert study.ask(SPACE.distributions()).params == trial.params


def test_what_waits_to_be_tried_again_is_one_visit() -> None:
    """RetryHeartbeatStaleTrialCallback copies the parameters and the attributes of a trial whose process has gone."""
    sampler, study = _study()
    trial = study.ask(SPACE.distributions())
    trial.set_user_attr("observed", encode(_found(SPACE.sizes[trial.params["size_index"]], 1)))
    failed = study.tell(trial, state=TrialState.FAIL)
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=failed.params,
            distributions=failed.distributions,
            user_attrs=failed.user_attrs,
        )
    )
    assert [found.pending for found in sampler.observations(study)] == [False, True]


def test_a_parameter_in_a_range_that_is_too_small_is_told() -> None:
    """What was proposed can't be given then: the error names the range, and the one to ask for."""
    study = optuna.create_study(sampler=RegretSampler(SPACE, ["fast"], repeats=(50, 400)))
    with pytest.raises(ValueError, match=r"'repeats' was asked for as .*high=10.*distributions"):
        study.ask().suggest_int("repeats", 1, 10, log=True)
    with pytest.raises(ValueError, match="'mine' is not a parameter of a sweep"):
        study.ask().suggest_float("mine", 0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_figure_is_kept_that_is_none(value: float) -> None:
    """A time of zero has no log-ratio: it is refused where it is written, and told with its trial where it is read."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Observation("a", 64, {"fast": PointSamples((value,))}))
    sampler, study = _study()
    trial = study.ask(SPACE.distributions())
    text = encode(_found(64, 1)).replace("0.08", "NaN" if math.isnan(value) else "1e999")
    trial.set_user_attr("observed", text)
    study.tell(trial, 0.0)
    with pytest.raises(StorageError, match=r"trial 0: .*not finite"):
        sampler.outlook(study)


def test_several_objectives_are_no_matter() -> None:
    """No value is looked at, whatever the directions."""
    sampler = _sampler()
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])
    trial = study.ask(SPACE.distributions())
    trial.set_user_attr("observed", encode(_found(SPACE.sizes[trial.params["size_index"]], 1)))
    study.tell(trial, [0.0, 1.0])
    assert len(sampler.observations(study)) == 1
