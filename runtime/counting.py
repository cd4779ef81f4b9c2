"""How often each answer was given: plain counts in plain lists, readable at any time.

A count is one addition without a lock. With threads that decide at the very same time an addition may be lost; no
decision ever depends on a count.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import NamedTuple

from ccl_dispatch.runtime.vocabulary import Cell

# Where a cell's list of counts has what.
BASELINE, CANDIDATE, REFUSED = range(3)


class Count(NamedTuple):
    """How often one answer was given in one cell.

    Attributes:
        cell: the cell; its dtype is `other` for dtypes that the table has no cell of.
        answer: the baseline's name; the candidate's name; `refused`, where the table chose the candidate and the
            communicator could not take the tensor (the baseline was used); `failed`, where the call gave no answer,
            for example because its argument is no tensor (the baseline was used).
        calls: decisions since the installation. A captured graph decides when it is captured, not when it is replayed.
    """

    cell: Cell
    answer: str
    calls: int


class Counters:
    """The counts of one installation. Its lists are shared with the predicate that adds to them."""

    __slots__ = ("__weakref__", "baseline", "candidate", "cells", "failed", "label", "other")

    def __init__(self, baseline: str, candidate: str, label: str = "") -> None:
        self.baseline = baseline
        self.candidate = candidate
        self.label = label
        self.cells: dict[Cell, list[int]] = {}
        self.other: dict[Cell, list[int]] = {}
        self.failed = [0]

    def add_cell(self, cell: Cell) -> list[int]:
        """The list of a cell, all zero: calls by BASELINE, CANDIDATE, REFUSED."""
        return self.cells.setdefault(cell, [0, 0, 0])

    def read(self) -> tuple[Count, ...]:
        """Every answer that was given at least once."""
        found = []
        names = (self.baseline, self.candidate, "refused")
        for cell, counts in [*self.cells.items(), *self.other.items()]:
            found += [Count(cell, name, calls) for name, calls in zip(names, counts, strict=False) if calls]
        if self.failed[0]:
            first = next(iter([*self.cells, *self.other]), Cell("", "", "", "", 0))
            found.append(Count(first._replace(mode="", dtype="other"), "failed", self.failed[0]))
        return tuple(found)


# Not a WeakSet: that can't be read while another thread adds to it.
_live: weakref.WeakValueDictionary[int, Counters] = weakref.WeakValueDictionary()


def keep(counters: Counters) -> Counters:
    """Have `counters`, which are complete, read by `all_counts` as long as somebody holds them."""
    _live[id(counters)] = counters
    return counters


def all_counts() -> Iterator[tuple[str, Count]]:
    """The label of each installation of this process that is alive, with each of its counts."""
    found = [counters for reference in _live.valuerefs() if (counters := reference()) is not None]
    for counters in sorted(found, key=lambda item: item.label):
        for count in counters.read():
            yield counters.label, count


def counters() -> tuple[Count, ...]:
    """The counts of all installations of this process, those of one cell and answer added up."""
    total: dict[tuple[Cell, str], int] = {}
    for _, (cell, answer, calls) in all_counts():
        total[cell, answer] = total.get((cell, answer), 0) + calls
    return tuple(Count(cell, answer, calls) for (cell, answer), calls in sorted(total.items()))
