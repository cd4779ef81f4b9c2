"""A storage whose operations are carried out whole: an interrupt waits for the end of the one that it meets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.tuner.interrupts import uninterrupted

_T = TypeVar("_T")


class WholeOperations(BaseStorage):
    """Any storage of Optuna, by operations that no signal tears in two; see `interrupts`."""

    def __init__(self, inner: BaseStorage) -> None:
        self._inner = inner

    def _call(self, ask: Callable[[], _T]) -> _T:
        return uninterrupted(ask)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """See BaseStorage; so for all that follow."""
        return self._call(lambda: self._inner.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[Any]:
        """See BaseStorage."""
        return self._call(self._inner.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """See BaseStorage."""
        return self._call(lambda: self._inner.create_new_trial(study_id, template_trial))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See BaseStorage."""
        return self._call(lambda: self._inner.set_trial_state_values(trial_id, state, values))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See BaseStorage."""
        self._call(lambda: self._inner.set_trial_system_attr(trial_id, key, value))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See BaseStorage."""
        return self._call(lambda: self._inner.get_all_trials(study_id, deepcopy, states))

    def remove_session(self) -> None:
        """See BaseStorage."""
        self._inner.remove_session()


class JournalOperations(WholeOperations):
    """Optuna's journal, of which each list of trials costs what is new: it would gather all of them for each.

    A sweep lists them several times for each visit. Finished trials never change, so only those that were not finished
    at the last list are asked for again, and those behind its end.
    """

    def __init__(self, inner: JournalStorage) -> None:
        super().__init__(inner)
        # By study all of its trials, and the places of those that are not finished.
        self._listed: dict[int, tuple[list[FrozenTrial], list[int]]] = {}

    def delete_study(self, study_id: int) -> None:
        """See BaseStorage."""
        self._listed.pop(study_id, None)
        super().delete_study(study_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See BaseStorage."""
        if deepcopy:
            return super().get_all_trials(study_id, deepcopy, states)
        trials = self._call(lambda: self._all_of(study_id))
        return list(trials) if states is None else [trial for trial in trials if trial.state in states]

    def _all_of(self, study_id: int) -> list[FrozenTrial]:
        if study_id not in self._listed:
            trials = self._inner.get_all_trials(study_id, deepcopy=False)
            changing = [*range(len(trials))]
        else:
            trials, unfinished = self._listed[study_id]
            for place in unfinished:
                trials[place] = self._inner.get_trial(trials[place]._trial_id)  # noqa: SLF001 - they have no other name
            new = self._behind(study_id, len(trials))
            changing = [*unfinished, *range(len(trials), len(trials) + len(new))]
            trials = trials + new if new else trials
        # Last: an interrupt before this leaves what was known.
        self._listed[study_id] = (trials, [place for place in changing if not trials[place].state.is_finished()])
        return trials

    def _behind(self, study_id: int, number: int) -> list[FrozenTrial]:
        """The trials from this number on."""
        found: list[FrozenTrial] = []
        with contextlib.suppress(KeyError):  # there are no more
            while True:
                trial_id = self._inner.get_trial_id_from_study_id_trial_number(study_id, number + len(found))
                found.append(self._inner.get_trial(trial_id))
        return found
