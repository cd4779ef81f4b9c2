"""A sampler of points: what every search strategy shares, and how a trial tells a sampler what it found."""

from __future__ import annotations

import abc
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.curves import Doubt, Noise, PointSamples, learn_noise

# The trial's parameters, and the attribute in which a finished trial carries what samplers read.
CELL = "cell"
SIZE_INDEX = "size_index"
REPEATS = "repeats"
OBSERVED = "observed"
# The number of its visit to its point, and which it is of several that were given alike at once (none for the first).
VISIT = "visit"
COPY = "copy"

MOST_REPEATS = 4096


@dataclass(frozen=True)
class SearchSpace:
    """The points of a sweep.

    Attributes:
        grid: per cell (by name) the sizes that can be measured, per-rank input bytes, rising.
        workload: per cell the sizes of workload shapes with their weights; measured whatever the search thinks.
        families: cells whose curves may be alike, so that a measurement in one may tell of the others. A cell that no
            family names is alone.
    """

    grid: Mapping[str, tuple[int, ...]]
    workload: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    families: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, points: Iterable[tuple[str, int]]) -> SearchSpace:
        """These points alone, each a cell's name and a size; the cells in the order in which they come."""
        grid: dict[str, set[int]] = {}
        for cell, size in points:
            grid.setdefault(cell, set()).add(size)
        return cls({cell: tuple(sorted(sizes)) for cell, sizes in grid.items()})

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells."""
        return tuple(self.grid)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Every size of any cell, rising: what the parameter `size_index` counts."""
        return tuple(sorted({size for sizes in self.grid.values() for size in sizes}))

    @cached_property
    def all_families(self) -> tuple[tuple[str, ...], ...]:
        """The families, and every cell that is in none as a family of its own, in the order of the cells."""
        of = {cell: family for family in self.families for cell in family}
        return tuple(dict.fromkeys(tuple(of.get(cell, (cell,))) for cell in self.grid))

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna keeps it. An index, not the size: Optuna's log-scaled integers can't skip values."""
        return {
            CELL: CategoricalDistribution(self.cells),
            SIZE_INDEX: IntDistribution(0, len(self.sizes) - 1),
            REPEATS: IntDistribution(1, MOST_REPEATS, log=True),
        }


class Visit(NamedTuple):
    """What one visit of a point cost.

    Attributes:
        seconds: from being asked for to being answered.
        repeats: repetitions, each of which ran every backend.
        repeat_seconds: seconds of one repetition, all backends and their barriers together.
        repeat_executions: executions of the collective in one repetition, all backends together.
        executions: all of them, checks and warm-up included.
    """

    seconds: float
    repeats: int
    repeat_seconds: float
    repeat_executions: int
    executions: int


@dataclass(frozen=True)
class Observation:
    """One visit of a point.

    Attributes:
        samples: per timed candidate its log-ratios; empty while the point is being measured, and where no candidate
            could be timed.
        visit: its cost, None while it is being measured or where it is not known.
        excluded: candidates that may not be used at this size, nor up to the nearest ones at which they were right.
        refused: candidates that may not be used at this size, which says nothing of others (`sizes.is_alone`).
        pending: somebody is measuring it now.
    """

    cell: str
    size: int
    samples: Mapping[str, PointSamples] = field(default_factory=dict)
    visit: Visit | None = None
    excluded: frozenset[str] = frozenset()
    pending: bool = False
    refused: frozenset[str] = frozenset()


def encode(observation: Observation) -> str:
    """The text of a finished trial's attribute `observed`."""
    visit = observation.visit
    return json.dumps(
        {
            "repeats": {name: list(samples.repeats) for name, samples in observation.samples.items()},
            "firsts": {name: list(samples.firsts) for name, samples in observation.samples.items()},
            "excluded": sorted(observation.excluded),
            "visit": None if visit is None else list(visit),
            **({"refused": sorted(observation.refused)} if observation.refused else {}),
        },
        separators=(",", ":"),
    )


def decode(cell: str, size: int, text: str) -> Observation:
    """What `encode` wrote."""
    data = json.loads(text)
    samples = {
        name: PointSamples(tuple(values), tuple(data["firsts"].get(name, ())))
        for name, values in data["repeats"].items()
    }
    visit = None if data["visit"] is None else Visit(*data["visit"])
    return Observation(
        cell, size, samples, visit, frozenset(data["excluded"]), refused=frozenset(data.get("refused", ()))
    )


def joined_samples(observations: Iterable[Observation], candidate: str) -> dict[tuple[str, int], PointSamples]:
    """The candidate's samples by cell and size, visit after visit."""
    visits: dict[tuple[str, int], list[PointSamples]] = {}
    for observation in observations:
        samples = observation.samples.get(candidate)
        if samples is not None and samples.repeats:
            visits.setdefault((observation.cell, observation.size), []).append(samples)
    return {key: PointSamples.joined(own) for key, own in visits.items()}


def samples_by_cell(observations: Iterable[Observation], candidate: str) -> dict[str, dict[int, PointSamples]]:
    """The same by cell, and in it by size."""
    cells: dict[str, dict[int, PointSamples]] = {}
    for (cell, size), samples in joined_samples(observations, candidate).items():
        cells.setdefault(cell, {})[size] = samples
    return cells


def study_noise(observations: Sequence[Observation], candidates: Iterable[str]) -> dict[str, Noise]:
    """Per candidate the noise that these points of all cells show."""
    return {name: learn_noise(samples_by_cell(observations, name).values()) for name in candidates}


class Proposal(NamedTuple):
    """A point to measure, with so many repetitions at most.

    Attributes:
        doubts: per candidate, where they may end repetitions early.
        warm_up: whether a warm-up comes first: not where first calls have shown to be like all others.
    """

    cell: str
    size: int
    repeats: int
    doubts: Mapping[str, Doubt] = {}
    warm_up: bool = True


class Outlook(NamedTuple):
    """What the search thinks of a study.

    Attributes:
        proposal: the next point, None when nothing is worth measuring any more.
        regret: what more measuring could still win, as the mean over cells of expected log units; infinite until every
            cell has had its first look.
        first_look: points that the first look still needs.
        exhausted: the budget, `executions` or `seconds`, that has no room for one more visit; empty while both have.
    """

    proposal: Proposal | None
    regret: float
    first_look: int = 0
    exhausted: str = ""


class PointSampler(BaseSampler, abc.ABC):
    """An Optuna sampler that proposes points of a SearchSpace, one after the other, until it has seen enough.

    A proposal depends on the study's trials alone, so that interruption, several workers and a rebuild from storage
    need nothing special; what is remembered between calls only saves computing it again.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._distributions = space.distributions()
        self._decoded: dict[int, tuple[str, Observation]] = {}
        self._known_of: optuna.Study | None = None
        self._known_trials = 0
        self._known: dict[Hashable, Observation] = {}

    @abc.abstractmethod
    def judge(self, observations: Sequence[Observation]) -> Outlook:
        """The next point, and what is left to win."""

    def outlook(self, study: optuna.Study) -> Outlook:
        """`judge` for the study's trials; without a proposal `ask` must not be called."""
        return self.judge(self.observations(study))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, always: Optuna's own inference needs a completed trial first."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point as parameters.

        Raises:
            RuntimeError: the search has ended; `outlook` tells before.
        """
        proposal = self.judge(self.observations(study, without=trial.number)).proposal
        if proposal is None:
            raise RuntimeError("the search has ended: look at outlook() before study.ask()")
        return {
            CELL: proposal.cell,
            SIZE_INDEX: self.space.sizes.index(proposal.size),
            REPEATS: proposal.repeats,
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Only the sweep's parameters exist.

        Raises:
            ValueError: another parameter is asked for.
        """
        raise ValueError(
            f"{param_name!r} is not a parameter of a sweep; there are {', '.join(map(repr, self._distributions))}"
        )

    def observations(self, study: optuna.Study, without: int = -1) -> list[Observation]:
        """The study's points, in the order of their trials; failed ones without samples are as if never asked for."""
        trials = study.get_trials(deepcopy=False)
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

    def _read(self, trial: FrozenTrial, known: dict[Hashable, Observation]) -> None:
        """Put the trial's point, if it has one, among the known ones, unless it is a copy of one of them."""
        text = trial.user_attrs.get(OBSERVED)
        # A trial that was given up counts where its samples had been stored.
        if (trial.state == TrialState.FAIL and text is None) or len(trial.params) < len(self._distributions):
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
