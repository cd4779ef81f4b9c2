"""What a reader of a cell should know beside its curves: slow ranks, faults on the way, and which nodes measured it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.evidence.faults import group_faults
from ccl_dispatch.tuner.samples import PointResult, nodes_of

# A rank is called slow when it takes that much longer than the middle one at half of the points, of which there must be
# so many: every collective waits for its slowest rank, so less than this is how ranks are, and fewer may be chance.
_SLOW = 1.25
_LEAST_POINTS = 3


def cell_notes(results: Sequence[PointResult]) -> tuple[str, ...]:
    """The notes on the points of one cell, as sentences."""
    return (*_slow_ranks(results), *_faults(results), *_nodes(results))


def _slow_ranks(results: Sequence[PointResult]) -> Iterator[str]:
    shares: dict[tuple[str, int], list[float]] = {}
    for result in results:
        for backend, medians in result.rank_medians_us.items():
            middle = statistics.median(medians) if len(medians) > 1 else 0.0
            for rank, value in enumerate(medians):
                if middle > 0:
                    shares.setdefault((backend, rank), []).append(value / middle)
    for (backend, rank), values in sorted(shares.items()):
        share = statistics.median(values)
        if len(values) >= _LEAST_POINTS and share >= _SLOW:
            took = f"{share:.2f}x the middle rank's time with {backend} ({len(values)} visits)"
            yield f"slow rank: rank {rank} takes {took}"


def _faults(results: Sequence[PointResult]) -> Iterator[str]:
    for group in group_faults(results):
        # The log is in the study; a page shows what happened.
        yield next(group.lines("fault: "))


def _nodes(results: Sequence[PointResult]) -> Iterator[str]:
    nodes = Counter(name for name in nodes_of(results) if name)
    if nodes:
        yield "measured by " + ", ".join(f"{name} ({counted(count, 'visit')})" for name, count in sorted(nodes.items()))
