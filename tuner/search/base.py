"""What every search strategy speaks of: the space, points and their samples, and how a trial tells what it found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

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
    """The text of a finished trial's attribute `observed`.

    Raises:
        ValueError: a figure is not finite.
    """
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
        allow_nan=False,
    )


def decode(cell: str, size: int, text: str) -> Observation:
    """What `encode` wrote."""
    data = json.loads(text)
    samples = {
        name: PointSamples(_finite(values), _finite(data["firsts"].get(name, ())))
        for name, values in data["repeats"].items()
    }
    visit = None if data["visit"] is None else Visit(*data["visit"])
    _finite(visit or ())
    return Observation(
        cell, size, samples, visit, frozenset(data["excluded"]), refused=frozenset(data.get("refused", ()))
    )


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not all(map(math.isfinite, found)):
        raise ValueError("a figure is not finite")
    return found


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
