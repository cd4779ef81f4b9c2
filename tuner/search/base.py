"""A sampler of points: what every search strategy shares."""

from __future__ import annotations

import abc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.tuner.statistics import Interval

# The trial's parameters and the attribute that a recorded trial carries for samplers.
CELL = "cell"
SIZE_INDEX = "size_index"
VERDICTS = "verdicts"


@dataclass(frozen=True)
class SearchSpace:
    """The points of a sweep.

    Attributes:
        grid: per cell (by name) the sizes that can be measured, per-rank input bytes, rising.
        required: per cell the sizes that are measured whatever the search thinks: workload shapes.
    """

    grid: Mapping[str, tuple[int, ...]]
    required: Mapping[str, frozenset[int]]

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells."""
        return tuple(self.grid)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Every size of any cell, rising: what the parameter `size_index` counts."""
        return tuple(sorted({size for sizes in self.grid.values() for size in sizes}))

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna keeps it. An index, not the size: Optuna's log-scaled integers can't skip values."""
        return {CELL: CategoricalDistribution(self.cells), SIZE_INDEX: IntDistribution(0, len(self.sizes) - 1)}


@dataclass(frozen=True)
class Observation:
    """What is known of one point.

    Attributes:
        verdicts: per timed candidate the interval of log(T_baseline / T_candidate); empty while the point is being
            measured, and where no candidate could be timed.
        pending: somebody is measuring it now.
    """

    cell: str
    size: int
    verdicts: Mapping[str, Interval]
    pending: bool


def encode_verdicts(verdicts: Mapping[str, Interval]) -> str:
    """The attribute's text. JSON's own numbers can't be infinite, so unknown bounds become null."""
    rows = {name: [v.median, v.low if v.finite else None, v.high if v.finite else None] for name, v in verdicts.items()}
    return json.dumps(rows)


def decode_verdicts(text: str) -> dict[str, Interval]:
    """What `encode_verdicts` wrote."""
    return {
        name: Interval(median, float("-inf") if low is None else low, float("inf") if high is None else high)
        for name, (median, low, high) in json.loads(text).items()
    }


class PointSampler(BaseSampler, abc.ABC):
    """An Optuna sampler that proposes points of a SearchSpace, one after the other, until it has seen enough.

    It keeps no state: a proposal depends on the study's trials alone, so that interruption, several workers and a
    rebuild from storage need nothing special.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._distributions = space.distributions()

    @abc.abstractmethod
    def propose(self, observations: Sequence[Observation]) -> tuple[str, int] | None:
        """The next point (cell, size), or None when nothing is worth measuring any more."""

    @abc.abstractmethod
    def count_remaining(self, observations: Sequence[Observation]) -> int:
        """Points that will be proposed as far as is known now: for people who wait, not for decisions."""

    def remaining(self, study: optuna.Study) -> int:
        """`count_remaining` for the study's trials."""
        return self.count_remaining(self._observations(study))

    def next_point(self, study: optuna.Study) -> tuple[str, int] | None:
        """What `study.ask` would get now; None ends the search (`ask` must not be called then)."""
        return self.propose(self._observations(study))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, always: Optuna's own inference needs a completed trial first."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point as parameters.

        Raises:
            RuntimeError: the search has ended; `next_point` tells before.
        """
        point = self.propose(self._observations(study, without=trial.number))
        if point is None:
            raise RuntimeError("the search has ended: ask next_point() before study.ask()")
        return {CELL: point[0], SIZE_INDEX: self.space.sizes.index(point[1])}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Only the sweep's two parameters exist.

        Raises:
            ValueError: another parameter is asked for.
        """
        raise ValueError(f"{param_name!r} is not a parameter of a sweep; there are {CELL!r} and {SIZE_INDEX!r}")

    def _observations(self, study: optuna.Study, without: int = -1) -> list[Observation]:
        """The study's points, in the order of their trials; failed trials are as if never asked for."""
        found = []
        for trial in study.get_trials(deepcopy=False):
            unasked = len(trial.params) < len(self._distributions)
            if trial.state == TrialState.FAIL or trial.number == without or unasked:
                continue
            text = trial.user_attrs.get(VERDICTS)
            verdicts = {} if text is None else decode_verdicts(text)
            size = self.space.sizes[trial.params[SIZE_INDEX]]
            found.append(Observation(trial.params[CELL], size, verdicts, pending=text is None))
        return found
