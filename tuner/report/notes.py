"""What a reader of a cell should know beside its curves: slow ranks, faults on the way, and which nodes measured it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.evidence.faults import group_faults
from ccl_dispatch.tuner.evidence.ranks import slow_ranks
from ccl_dispatch.tuner.samples import PointResult, nodes_of


def cell_notes(results: Sequence[PointResult]) -> tuple[str, ...]:
    """The notes on the points of one cell, as sentences."""
    slow = (f"slow rank: {item.text()}" for item in slow_ranks(results))
    return (*slow, *_faults(results), *_nodes(results))


def _faults(results: Sequence[PointResult]) -> Iterator[str]:
    for group in group_faults(results):
        # The log is in the study; a page shows what happened.
        yield next(group.lines("fault: "))


def _nodes(results: Sequence[PointResult]) -> Iterator[str]:
    nodes = Counter(name for name in nodes_of(results) if name)
    if nodes:
        yield "measured by " + ", ".join(f"{name} ({counted(count, 'visit')})" for name, count in sorted(nodes.items()))
