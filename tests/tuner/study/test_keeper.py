"""Signs of life of the trial that is held, and of no other."""

from __future__ import annotations

import time
from collections.abc import Iterator

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.runtime.errors import StorageGoneError
from ccl_dispatch.tuner.study.keeper import BEAT, Keeper


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(storage=InMemoryStorage())


def _beats(study: optuna.Study) -> list[int]:
    return [trial.user_attrs.get(BEAT, 0) for trial in study.get_trials(deepcopy=False)]


def _wait_until(done: Iterator[bool]) -> None:
    """Until it is so, or for as long as no busy machine takes."""
    until = time.monotonic() + 20
    while not next(done):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_only_the_trial_that_is_held_has_signs_of_life(study: optuna.Study) -> None:
    """Each raises its counter by one; a trial that was finished meanwhile takes none, and that is no error."""
    first, second = (study.ask()._trial_id for _ in range(2))
    keeper = Keeper(study._storage, list, lambda _: None, 600)
    keeper._beat()
    assert _beats(study) == [0, 0]
    keeper.hold(first)
    keeper._beat()
    keeper._beat()
    assert _beats(study) == [2, 0]
    study.tell(0, 1.0)
    keeper._beat()
    keeper.hold(second)
    keeper._beat()
    assert _beats(study)[0] == 2
    assert _beats(study)[1] > 0
    keeper.hold(None)
    before = _beats(study)
    keeper._beat()
    assert _beats(study) == before


def test_it_goes_on_until_the_storage_is_gone(study: optuna.Study) -> None:
    """Through errors of others, which are tried again; its own trial is never handed over, silent ones are."""
    own, other = (study.ask()._trial_id for _ in range(2))
    problems: list[Exception] = [RuntimeError("a moment's trouble")]
    settled: list[int] = []

    def running() -> list[FrozenTrial]:
        if problems:
            raise problems.pop()
        # As if nobody had given a sign since: not even we, whose word is not heard yet.
        trials = study.get_trials(states=(TrialState.RUNNING,))
        for trial in trials:
            trial.user_attrs.pop(BEAT, None)
        return trials

    with Keeper(study._storage, running, lambda trial: settled.append(trial._trial_id), 0.06) as keeper:
        keeper.hold(own)
        _wait_until(bool(settled) and _beats(study)[0] > 2 for _ in iter(int, 1))
        problems.append(StorageGoneError("it has not answered"))
        _wait_until(not keeper._thread.is_alive() for _ in iter(int, 1))
    assert set(settled) == {other}
