"""A sampler of points, behind Optuna's interface: it reads what trials found and gives the next one its point."""

from __future__ import annotations

import abc
import threading
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.search.base import (
    CELL,
    COPY,
    OBSERVED,
    REPEATS,
    SIZE_INDEX,
    VISIT,
    Observation,
    Outlook,
    Proposal,
    SearchSpace,
    decode,
)

# A trial that is younger and has no point is about to get one; an older one is of a process that has gone.
_DECIDES_WITHIN = timedelta(seconds=10)


class PointSampler(BaseSampler, abc.ABC):
    """An Optuna sampler that proposes points of a SearchSpace, one after the other, until it has seen enough.

    A proposal depends on the study's trials alone, so that interruption, several workers and a rebuild from storage
    need nothing special; what is remembered between calls only saves computing it again. Objective values are never
    looked at.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._distributions = space.distributions()
        self._decoded: dict[int, tuple[str, Observation]] = {}
        self._known_of: optuna.Study | None = None
        self._known_trials = 0
        self._known: dict[Hashable, Observation] = {}
        # Of `study.optimize(n_jobs=...)`: its threads ask one sampler.
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: without the study, which may hold a connection, and what is remembered of it."""
        kept = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return {**kept, "_known_of": None, "_known_trials": 0, "_known": {}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """See `__getstate__`."""
        self.__dict__.update(state)
        self._lock = threading.RLock()

    @abc.abstractmethod
    def judge(self, observations: Sequence[Observation]) -> Outlook:
        """The next point, and what is left to win."""

    def outlook(self, study: optuna.Study) -> Outlook:
        """`judge` for the study's trials; without a proposal `ask` must not be called."""
        with self._lock:
            return self.judge(self.observations(study))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, always: Optuna's own inference needs a completed trial first."""
        # A copy, since PartialFixedSampler takes what it fixes out of it.
        return dict(self._distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point as parameters.

        Raises:
            TrialPruned: the search has ended, and with it this `study.optimize`.
            RuntimeError: it has ended, and the trial was asked for by hand; `outlook` tells before.
            ValueError: only the cell or only the size is fixed, by `enqueue_trial` or PartialFixedSampler.
        """
        self._check_no_half_point(trial, search_space)
        with self._lock:
            proposal = self._next(study, trial)
        if proposal is None:
            _end(study)
        values = {
            CELL: proposal.cell,
            SIZE_INDEX: self.space.sizes.index(proposal.size),
            REPEATS: proposal.repeats,
        }
        return {name: value for name, value in values.items() if name in search_space}

    def _next(self, study: optuna.Study, trial: FrozenTrial) -> Proposal | None:
        """The proposal for this trial, beside what the trials before it are about to be given.

        Optuna stores the parameters of a trial one by one, after all were proposed, and who asks meanwhile must not get
        the same. What another one is given follows from the same trials.
        """
        trials = study.get_trials(deepcopy=False)
        observations = self._observed(study, trials, trial.number)
        proposal = self.judge(observations).proposal
        for other in trials[self._known_trials :]:
            if proposal is not None and other.number < trial.number and self._is_deciding(other):
                observations = [*observations, Observation(proposal.cell, proposal.size, pending=True)]
                proposal = self.judge(observations).proposal
        return proposal

    def _is_deciding(self, trial: FrozenTrial) -> bool:
        began = trial.datetime_start
        if trial.state != TrialState.RUNNING or began is None or self._is_decided(trial):
            return False
        return abs(datetime.now() - began) < _DECIDES_WITHIN  # noqa: DTZ005 - as Optuna notes it

    def _check_no_half_point(self, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> None:
        """A size that was proposed for one cell says nothing of another one, which may not even have it."""
        point = {name for name in (CELL, SIZE_INDEX) if not self._distributions[name].single()}
        fixed = point & {*trial.system_attrs.get("fixed_params", ()), *(self._distributions.keys() - search_space)}
        if fixed and fixed != point:
            raise ValueError(
                f"{CELL!r} and {SIZE_INDEX!r} are proposed together, and only {fixed.pop()!r} is fixed. Fix both, or "
                "give the sampler a SearchSpace of the points that are meant"
            )

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Only the sweep's parameters exist.

        Raises:
            ValueError: another parameter is asked for, or one of them in a range that has not what was proposed.
        """
        if (own := self._distributions.get(param_name)) is not None:
            raise ValueError(
                f"{param_name!r} was asked for as {param_distribution}, which has not what was proposed. Ask for it as "
                f"SearchSpace.distributions() has it: {own}"
            )
        raise ValueError(
            f"{param_name!r} is not a parameter of a sweep; there are {', '.join(map(repr, self._distributions))}"
        )

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Look whether a completed trial says what was found; the search would go on asking for its point.

        Raises:
            ValueError: it does not.
        """
        if state == TrialState.COMPLETE and self._is_decided(trial) and OBSERVED not in trial.user_attrs:
            raise ValueError(
                f"trial {trial.number} was told without what was measured: "
                f"trial.set_user_attr({OBSERVED!r}, encode(observation)) comes before that"
            )

    def observations(self, study: optuna.Study, without: int = -1) -> list[Observation]:
        """The study's points, in the order of their trials; finished ones without samples are as if never asked for."""
        with self._lock:
            return self._observed(study, study.get_trials(deepcopy=False), without)

    def _observed(self, study: optuna.Study, trials: Sequence[FrozenTrial], without: int) -> list[Observation]:
        if self._known_of is not study:
            self._known_of, self._known_trials, self._known = study, 0, {}
        # Finished trials never change: those at the head of the list are read once.
        while self._known_trials < len(trials) and trials[self._known_trials].state.is_finished():
            self._read(trials[self._known_trials], self._known)
            self._known_trials += 1
        found = dict(self._known)
        for trial in trials[self._known_trials :]:
            if trial.number != without:
                self._read(trial, found)
        return [*found.values()]

    def _is_decided(self, trial: FrozenTrial) -> bool:
        """Whether it has a point; a trial of another sampler never has."""
        return all(name in trial.params for name in self._distributions)

    def _is_here(self, trial: FrozenTrial) -> bool:
        """Whether it has a point of the space: Optuna lets any number be enqueued, with a warning."""
        if not self._is_decided(trial):
            return False
        index, sizes = trial.params[SIZE_INDEX], self.space.sizes
        return index in range(len(sizes)) and sizes[index] in self.space.grid.get(trial.params[CELL], ())

    def _read(self, trial: FrozenTrial, known: dict[Hashable, Observation]) -> None:
        """Put the trial's point, if it has one, among the known ones, unless it is a copy of one of them."""
        # A trial that was given up counts where its samples had been stored; one that waits to be tried again may have
        # a copy of them.
        text = None if trial.state == TrialState.WAITING else trial.user_attrs.get(OBSERVED)
        if text is None and (trial.state.is_finished() or not self._is_here(trial)):
            return
        if len(trial.params) < len(self._distributions):
            return
        try:
            cell, size = trial.params[CELL], self.space.sizes[trial.params[SIZE_INDEX]]
            if text is None:
                known[trial.number] = Observation(cell, size, pending=True)
                return
            # Two that bring the same samples in at once both keep them (see `study.filling`). A visit without a number
            # is not of a sweep: whoever asks by himself may find the same at each.
            visit = trial.user_attrs.get(VISIT)
            mark = trial.number if visit is None else (cell, size, text, visit, trial.user_attrs.get(COPY))
            if mark not in known:
                before = self._decoded.get(trial.number)
                if before is None or before[0] != text:
                    self._decoded[trial.number] = before = (text, decode(cell, size, text))
                known[mark] = before[1]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as problem:
            name = "" if self._known_of is None else self._known_of.study_name
            raise StorageError(
                f"study {name!r}, trial {trial.number}: what the search reads of it is damaged ({problem!r}). Take the "
                "storage back from a copy; without one, `ccl-dispatch merge` brings its samples into another --storage"
            ) from problem


def _end(study: optuna.Study) -> NoReturn:
    """Nothing is worth measuring any more: no trial can be given a point."""
    try:
        study.stop()
    except RuntimeError:  # not within study.optimize
        raise RuntimeError("the search has ended: look at outlook() before study.ask()") from None
    raise optuna.TrialPruned("the search has ended")
