"""Two tables held against each other by what they decide: which calls change backend, and what that wins or costs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ccl_dispatch.runtime.dispatch import compile_cell
from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.table import CellTable, Crossover, Policy, Table
from ccl_dispatch.runtime.vocabulary import Cell


@dataclass(frozen=True)
class Evidence:
    """What one band (or override) says of a change.

    Attributes:
        low, high: the sizes in per-rank input bytes that it covers of the change.
        band_low, band_high: the sizes of the whole band, which is what the gain is about.
        gain: T(before)/T(after) - 1, so that above zero the change is a gain; None when it was not compared.
        interval: its bounds at the table's confidence, None when they are not known.
        why: why the band uses what it uses, of `runtime.table.BAND_REASONS`, or `override`.
        reason: the same for a reader, as `show` says it: a band in which nothing is proven need not be a tie.
    """

    low: int
    high: int
    band_low: int
    band_high: int
    gain: float | None
    interval: tuple[float, float] | None
    samples: int
    why: str
    reason: str


@dataclass(frozen=True)
class ExclusionBorder:
    """Sizes between which the range begins or ends in which a table excludes a backend.

    Attributes:
        backend: which backend.
        table: `a` or `b`: which table says so.
        low, high: the last size that was measured on the one side, and the first on the other.
        upwards: whether it is excluded from there on; else up to there.
    """

    backend: str
    table: str
    low: int
    high: int
    upwards: bool


@dataclass(frozen=True)
class Change:
    """A run of sizes for which the two tables name different backends.

    Attributes:
        cell: None for every cell that neither table has.
        low, high: first and last size in per-rank input bytes; `high` is None where the run has no end.
        before, after: the backend by A and by B.
        by_a, by_b: what the tables know about it; empty where a table has not measured these sizes.
        crossover: the interval of a crossover, in either table, in which the whole run lies, where both backends were
            measured on both sides and neither table knows one of the two to be ahead: there they are about equal, and
            another sweep may well put the border elsewhere. None when it lies in none.
        exclusion: where the whole run lies between the last size at which one of the two backends was right and the
            first at which it was excluded: nothing is known there of which is faster. None when it does not.
    """

    cell: Cell | None
    low: int
    high: int | None
    before: str
    after: str
    by_a: tuple[Evidence, ...]
    by_b: tuple[Evidence, ...]
    crossover: tuple[int, int] | None = None
    exclusion: ExclusionBorder | None = None


@dataclass(frozen=True)
class Difference:
    """A value of the tables' heads that is not the same; an empty text is unknown."""

    key: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """Everything in which two tables differ.

    Attributes:
        changes: by cell and rising size; empty when the tables decide alike.
        differences: name, baseline, candidates, provenance, policy and platform.
        only_a, only_b: cells that one table alone has (its decisions are in `changes` where they differ).
        octaves: over how many octaves of what either table measured the decisions differ, and of how many.
        same_digest: the tables say the same in everything.
    """

    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]
    only_a: tuple[Cell, ...]
    only_b: tuple[Cell, ...]
    octaves: tuple[float, float]
    same_digest: bool

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON data; cells by name, gains as fractions."""
        return {
            "same_decisions": not self.changes,
            "same_digest": self.same_digest,
            "octaves_changed": self.octaves[0],
            "octaves_measured": self.octaves[1],
            "changes": [
                {**asdict(change), "cell": change.cell.name if change.cell else None} for change in self.changes
            ],
            "differences": [asdict(difference) for difference in self.differences],
            "cells_only_in_a": [cell.name for cell in self.only_a],
            "cells_only_in_b": [cell.name for cell in self.only_b],
        }


def compare(a: Table, b: Table) -> Comparison:
    """What changes when table `b` is used instead of `a`."""
    cells_a = {cell.cell: cell for cell in a.cells}
    cells_b = {cell.cell: cell for cell in b.cells}
    changes: list[Change] = []
    changed = measured = 0.0
    for cell in sorted({*cells_a, *cells_b}):
        first, second = cells_a.get(cell), cells_b.get(cell)
        found = tuple(_changes(cell, first, second, a, b))
        ranges = [(item.measured_from, item.measured_to) for item in (first, second) if item]
        low, high = min(start for start, _ in ranges), max(end for _, end in ranges)
        measured += math.log2(high / low)
        changed += sum(_octaves(max(item.low - 1, low), min(item.high or high, high)) for item in found)
        changes += found
    if a.baseline != b.baseline:
        changes.append(Change(None, 1, None, a.baseline, b.baseline, (), ()))
    return Comparison(
        changes=tuple(changes),
        differences=tuple(_differences(a, b)),
        only_a=tuple(sorted({*cells_a} - {*cells_b})),
        only_b=tuple(sorted({*cells_b} - {*cells_a})),
        octaves=(changed, measured),
        same_digest=a.digest == b.digest,
    )


def _octaves(low: int, high: int) -> float:
    return math.log2(high / low) if high > low else 0.0


def _changes(cell: Cell, first: CellTable | None, second: CellTable | None, a: Table, b: Table) -> Iterator[Change]:
    edges_a, uses_a = compile_cell(first, a.baseline) if first else ((), (a.baseline,))
    edges_b, uses_b = compile_cell(second, b.baseline) if second else ((), (b.baseline,))
    # (first size, last size, before, after), neighbours that change alike joined.
    runs: list[tuple[int, int | None, str, str]] = []
    low = 1
    for high in [*sorted({*edges_a, *edges_b} - {0}), None]:
        before = uses_a[-1] if high is None else uses_a[bisect_left(edges_a, high)]
        after = uses_b[-1] if high is None else uses_b[bisect_left(edges_b, high)]
        if runs and runs[-1][2:] == (before, after):
            runs[-1] = (runs[-1][0], high, before, after)
        else:
            runs.append((low, high, before, after))
        low = 0 if high is None else high + 1
    for start, end, before, after in runs:
        if before != after:
            by_a = _evidence(first, start, end, before, after, a.policy.min_gain)
            by_b = _evidence(second, start, end, before, after, b.policy.min_gain)
            borders = [
                _Border(name, item, _excluded_at(item, table))
                for name, table in (("a", first), ("b", second))
                for item in (table.crossovers if table else ())
                if {item.below, item.above} == {before, after}
            ]
            exclusion = _exclusion(borders, start, end)
            crossover = None if exclusion else _crossover(borders, {"a": by_a, "b": by_b}, start, end)
            yield Change(cell, start, end, before, after, by_a, by_b, crossover, exclusion)


class _Border(NamedTuple):
    """Where one table goes from one of two backends to the other, and whose exclusion that is, if it is one."""

    table: str
    place: Crossover
    excluded: tuple[str, bool] | None

    def holds(self, low: int, high: int | None) -> bool:
        return high is not None and self.place.low <= low and high <= self.place.high


def _excluded_at(border: Crossover, cell: CellTable | None) -> tuple[str, bool] | None:
    """The backend of the two whose exclusion ends a border's interval, and whether at its upper end; None if neither.

    The sizes of an exclusion are measured ones, and so is the end of an interval that it has cut short.
    """
    for item in cell.exclusions if cell else ():
        if item.backend in (border.below, border.above):
            if item.low <= border.high <= item.high:
                return item.backend, True
            if item.low <= border.low <= item.high:
                return item.backend, False
    return None


def _exclusion(borders: Sequence[_Border], low: int, high: int | None) -> ExclusionBorder | None:
    for border in borders:
        if border.excluded is not None and border.holds(low, high):
            backend, upwards = border.excluded
            return ExclusionBorder(backend, border.table, border.place.low, border.place.high, upwards)
    return None


def _crossover(
    borders: Sequence[_Border], told: Mapping[str, Sequence[Evidence]], low: int, high: int | None
) -> tuple[int, int] | None:
    crossings = [border for border in borders if border.excluded is None]
    for table, evidence in told.items():
        near = any(
            border.table == table and border.place.low <= (high or math.inf) and low <= border.place.high
            for border in crossings
        )
        # What proves one of them ahead, with no crossing of its own that may lie here, says that they are not equal.
        if any(item.why == "override" or (item.why != "tie" and not near) for item in evidence):
            return None
    return next(((item.place.low, item.place.high) for item in crossings if item.holds(low, high)), None)


def _evidence(
    cell: CellTable | None, low: int, high: int | None, before: str, after: str, min_gain: float
) -> tuple[Evidence, ...]:
    if cell is None:
        return ()
    if low == high:
        for item in cell.overrides:
            if item.size == low:
                gain, interval = _seen(item.use, item.against, item.gain, item.interval, before, after)
                return (Evidence(low, low, low, low, gain, interval, item.samples, "override", "override"),)
    found = []
    start = cell.measured_from
    for band in cell.bands:
        begin, end = max(start, low), band.up_to if high is None else min(band.up_to, high)
        if begin <= end:
            gain, interval = _seen(band.use, band.against, band.gain, band.interval, before, after)
            reason = band.reason(min_gain)
            found.append(Evidence(begin, end, start, band.up_to, gain, interval, band.samples, band.why, reason))
        start = band.up_to + 1
    return tuple(found)


def _seen(
    use: str,
    against: str | None,
    gain: float | None,
    interval: tuple[float, float] | None,
    before: str,
    after: str,
) -> tuple[float | None, tuple[float, float] | None]:
    """A gain of `use` over `against` as one of `after` over `before`; None when it compares something else."""
    if gain is None or {use, against} != {before, after}:
        return None, None
    if use == after:
        return gain, interval
    return 1 / (1 + gain) - 1, None if interval is None else (1 / (1 + interval[1]) - 1, 1 / (1 + interval[0]) - 1)


def _differences(a: Table, b: Table) -> Iterator[Difference]:
    heads: list[tuple[str, str, str]] = [
        ("name", a.name, b.name),
        ("provenance", a.provenance, b.provenance),
        ("baseline", a.baseline, b.baseline),
        ("candidates", ", ".join(a.candidates), ", ".join(b.candidates)),
        *((f"policy.{key}", str(getattr(a.policy, key)), str(getattr(b.policy, key))) for key in Policy._fields),
    ]
    yield from (Difference(*head) for head in heads if head[1] != head[2])
    verdict = match(a.platform, b.platform)
    for finding in (*verdict.differs, *verdict.unknown):
        if finding.table != finding.here:
            yield Difference(f"platform.{finding.key}", finding.table, finding.here)
