"""Is one rank slower than the others? Latencies are those of the slowest rank: this says which one that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.evidence.merged import rows_at
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import median, median_interval, shared_confidence

#: A rank is called slow when it is slower than the others by more than that, at `CONFIDENCE`. Ranks of one host differ
#: by a few per cent without anything being wrong: rank 0 does the book-keeping.
LEAST = 0.10
CONFIDENCE = 0.95
#: The key of a table's evidence.
KEY = "slow_ranks"


@dataclass(frozen=True)
class SlowRank:
    """A rank that is slower than the others in one backend.

    Attributes:
        slower: T(rank) / T(median of the others) - 1, the median over visits.
        at_least: the lower end of its interval.
        visits: of points, of all cells and sizes of this world size.
    """

    backend: str
    world_size: int
    rank: int
    slower: float
    at_least: float
    visits: int

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.backend} at world size {self.world_size}: rank {self.rank} is {self.slower:.0%} slower than the "
            f"others (at least {self.at_least:.0%}, {counted(self.visits, 'visit')})"
        )


def slow_ranks(results: Sequence[PointResult]) -> list[SlowRank]:
    """The ranks that are slower than the others beyond noise; the order of `results` does not matter.

    A rank that makes the others wait inside the collective slows all of them alike and can't be told from them.
    """
    ratios: dict[tuple[str, int, int], list[float]] = {}
    for result in results:
        for backend, medians in result.rank_medians_us.items():
            if len(medians) < 2 or min(medians) <= 0:
                continue
            for rank, value in enumerate(medians):
                others = median([*medians[:rank], *medians[rank + 1 :]])
                ratios.setdefault((backend, len(medians), rank), []).append(math.log(value / others))
    found = []
    for (backend, world_size, rank), values in sorted(ratios.items()):
        interval = median_interval(values, shared_confidence(CONFIDENCE, len(ratios)))
        if interval.low > math.log1p(LEAST):
            # Whole percents: a table keeps four digits, and told from it or from samples it is to be the same number.
            slower, at_least = round(math.expm1(interval.median), 2), round(math.expm1(interval.low), 2)
            found.append(SlowRank(backend, world_size, rank, slower, at_least, len(values)))
    return found


def slow_rank_evidence(results: Sequence[PointResult]) -> dict[str, Any]:
    """What a table's evidence says of slow ranks; empty when there are none."""
    rows = [asdict(item) for item in slow_ranks(results)]
    return {KEY: rows} if rows else {}


def slow_ranks_of(table: Table) -> list[SlowRank]:
    """The slow ranks in a table's evidence, as far as they can be read."""
    return [item for row in rows_at(table.evidence, KEY) if (item := _read(row))]


def _read(row: Any) -> SlowRank | None:
    if not isinstance(row, Mapping):
        return None
    try:
        return SlowRank(
            str(row["backend"]),
            int(row["world_size"]),
            int(row["rank"]),
            float(row["slower"]),
            float(row["at_least"]),
            int(row["visits"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
