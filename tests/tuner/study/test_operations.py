"""Operations of a storage, with a Ctrl-C in the midst of them: one suite for every kind of storage."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import optuna
import pytest
from interrupting import interrupt, interrupted_at
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from ccl_dispatch.tuner.interrupts import handled
from ccl_dispatch.tuner.study import open_storage
from ccl_dispatch.tuner.study.operations import JournalOperations

MOMENTS = 250
URLS = {"journal": "{}/s.journal", "sqlite": "sqlite:///{}/s.db"}


def _visit(storage: BaseStorage, study: int, told: list[str]) -> None:
    """What a sweep does to a storage for one visit; `told` of what was confirmed."""
    trial = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING))
    told.append("made")
    storage.set_trial_user_attr(trial, "result", "samples")
    told.append("stored")
    storage.get_all_trials(study, deepcopy=False)
    storage.set_trial_state_values(trial, TrialState.COMPLETE, (1.0,))
    told.append("completed")


@pytest.mark.parametrize("kind", URLS)
def test_no_interrupt_tears_an_operation(kind: str, tmp_path: Path) -> None:
    """Ctrl-C at moments of a visit, up to its end: each is raised, and before that its operation is carried out.

    What follows waits for nothing (a lock that was left would take seconds), what this process then thinks of the
    study is what the storage has, and everything that was confirmed is there.
    """
    url = URLS[kind].format(tmp_path)
    with handled(), open_storage(url, write=True) as opened:
        storage = opened.optuna
        study = optuna.create_study(storage=storage, study_name="s")._study_id
        _visit(storage, study, [])  # what is imported and prepared the first time
        with interrupted_at() as whole:
            _visit(storage, study, [])
        longest = 0.0
        for moment in range(1, whole.lines, max(whole.lines // MOMENTS, 1)):
            told: list[str] = []
            came, raised = interrupt(partial(_visit, storage, study, told), moment)
            assert (raised is not None) == came, moment  # a visit may have a few lines less than another
            began = time.monotonic()
            trial = storage.get_all_trials(study, deepcopy=False)[-1]
            if not trial.state.is_finished():
                storage.set_trial_user_attr(trial._trial_id, "why", "interrupted")
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            longest = max(longest, time.monotonic() - began)
            trial = storage.get_all_trials(study, deepcopy=False)[-1]
            assert (trial.state == TrialState.COMPLETE) >= ("completed" in told), moment
            assert ("result" in trial.user_attrs) >= ("stored" in told), moment
        assert longest < 2
        ours = [(t.number, t.state, t.user_attrs, t.values) for t in storage.get_all_trials(study)]
        with open_storage(url, write=False) as other:
            theirs = [(t.number, t.state, t.user_attrs, t.values) for t in other.optuna.get_all_trials(study)]
        assert ours == theirs
        assert len(ours) > MOMENTS // 2


def test_lists_of_trials_are_those_of_the_journal(tmp_path: Path) -> None:
    """After whatever was written, by others too, in several studies: all trials as they are, or those of some states.

    A list that somebody has is his own.
    """
    backend = JournalFileBackend(str(tmp_path / "s.journal"))
    ours, plain, other = JournalOperations(JournalStorage(backend)), JournalStorage(backend), JournalStorage(backend)
    one, two = (optuna.create_study(storage=ours, study_name=name)._study_id for name in "ab")

    def check() -> None:
        for study in (one, two):
            for states in (None, (TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.FAIL)):
                found = ours.get_all_trials(study, deepcopy=False, states=states)
                assert found == plain.get_all_trials(study, deepcopy=False, states=states)
                found.clear()

    check()
    for study, storage in ((one, ours), (one, other), (two, ours), (one, ours)):
        first = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING))
        check()
        second = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING))
        storage.set_trial_user_attr(first, "result", "samples")
        check()
        storage.set_trial_state_values(second, TrialState.COMPLETE, (1.0,))
        storage.create_new_trial(study, create_trial(state=TrialState.COMPLETE, value=2.0))
        check()
        storage.set_trial_state_values(first, TrialState.FAIL)
        check()
    ours.delete_study(two)
    with pytest.raises(KeyError):
        ours.get_all_trials(two, deepcopy=False)


def test_finished_trials_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a list asks the journal for those alone that were not finished, and for new ones."""
    with open_storage(str(tmp_path / "s.journal"), write=True) as opened:
        storage = opened.optuna
        study = optuna.create_study(storage=storage, study_name="s")._study_id
        for _ in range(50):
            _visit(storage, study, [])
        storage.get_all_trials(study, deepcopy=False)
        asked: list[int] = []
        ask = JournalStorage.get_trial

        def get_trial(journal: JournalStorage, number: int) -> FrozenTrial:
            asked.append(number)
            return ask(journal, number)

        monkeypatch.setattr(JournalStorage, "get_trial", get_trial)
        monkeypatch.delattr(JournalStorage, "get_all_trials")
        running = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING))
        for _ in range(3):
            assert len(storage.get_all_trials(study, deepcopy=False)) == 51
        assert asked == [running] * 3
