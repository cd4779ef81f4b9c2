"""What a table is worth on measurements: how much slower its choices are than the best backend, size by size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted, full_size, short_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import Measurements
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from ccl_dispatch.tuner.sizes import ALIGNMENT, span_text

PER_OCTAVE = 16

# T(chosen)/T(best) - 1 at a size in bytes.
Losses = list[tuple[float, int]]


@dataclass(frozen=True)
class Slowdown:
    """T(chosen)/T(best) - 1 of one way to choose: the mean over log-spaced sizes, the worst and its size in bytes."""

    mean: float
    worst: float
    worst_at: int


@dataclass(frozen=True)
class Slowdowns:
    """Of the table's choice, and of always the same backend, by its name."""

    table: Slowdown
    always: Mapping[str, Slowdown]

    def lines(self, title: str) -> list[str]:
        """For people, under a title."""
        rows = {"this table": self.table, **{f"always {name}": slowdown for name, slowdown in self.always.items()}}
        width = max(map(len, rows))
        return [title] + [
            f"  {label:<{width}}  mean {row.mean:8.2%}   worst {row.worst:8.2%} at {short_size(row.worst_at)}"
            for label, row in rows.items()
        ]


@dataclass(frozen=True)
class CellEvaluation:
    """One cell.

    Attributes:
        low, high: the sizes in bytes between which all of `backends` are measured.
        sizes: how many log-spaced sizes were compared.
        backends: what was compared, the baseline first.
    """

    cell: Cell
    low: int
    high: int
    sizes: int
    backends: tuple[str, ...]
    slowdowns: Slowdowns


@dataclass(frozen=True)
class Misuse:
    """That the table uses a backend at sizes at which the measurements say that it may not be used.

    Attributes:
        sizes: in bytes, rising.
        reasons: of `runtime.table.EXCLUSION_REASONS`, in alphabetical order.
    """

    cell: Cell
    backend: str
    sizes: tuple[int, ...]
    reasons: tuple[str, ...]

    def line(self) -> str:
        """For people."""
        span = span_text(self.sizes[0], self.sizes[-1])
        if len(self.sizes) > 1:
            span = f"{len(self.sizes)} sizes from {span}"
        why = ", ".join(self.reasons)
        return f"{self.cell.name}: the table uses {self.backend} at {span}, where the measurements exclude it: {why}"


@dataclass(frozen=True)
class Evaluation:
    """All cells, and all their sizes together: each octave of each cell weighs alike.

    Attributes:
        overall: of the backends only those that are compared in every cell.
        not_measured: cells of the table that the measurements don't have.
        not_in_table: cells of the measurements that the table doesn't have.
        not_compared: cell and reason, for cells of both that could not be compared.
        misuses: where the table uses what may not be used; such a table must not be shipped, however fast it is.
    """

    table: str
    measurements: str
    cells: tuple[CellEvaluation, ...]
    overall: Slowdowns
    not_measured: tuple[Cell, ...]
    not_in_table: tuple[Cell, ...]
    not_compared: tuple[tuple[Cell, str], ...]
    misuses: tuple[Misuse, ...]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON data; cells by name, sizes in bytes, slowdowns as fractions (0.03 is 3 % slower)."""
        return {
            "table": self.table,
            "measurements": self.measurements,
            "overall": asdict(self.overall),
            "cells": [
                {
                    "cell": entry.cell.name,
                    "low": entry.low,
                    "high": entry.high,
                    "sizes": entry.sizes,
                    "backends": list(entry.backends),
                    **asdict(entry.slowdowns),
                }
                for entry in self.cells
            ],
            "not_measured": [cell.name for cell in self.not_measured],
            "not_in_table": [cell.name for cell in self.not_in_table],
            "not_compared": [{"cell": cell.name, "reason": reason} for cell, reason in self.not_compared],
            "misuses": [
                {
                    "cell": item.cell.name,
                    "backend": item.backend,
                    "sizes": list(item.sizes),
                    "reasons": list(item.reasons),
                }
                for item in self.misuses
            ],
        }

    def lines(self) -> list[str]:
        """The evaluation for people, line by line."""
        count = sum(entry.sizes for entry in self.cells)
        lines = [
            f"{self.table} on {self.measurements}: slowdown against the best backend over {count} log-spaced sizes"
        ]
        lines += self.overall.lines(f"all {counted(len(self.cells), 'cell')}")
        for entry in self.cells:
            span = f"{short_size(entry.low)} to {short_size(entry.high)}"
            lines += entry.slowdowns.lines(f"{entry.cell.name}, {span}")
        lines += [f"{cell.name}: not compared, {reason}" for cell, reason in self.not_compared]
        lines += [f"{cell.name}: in the table, not in the measurements" for cell in self.not_measured]
        lines += [f"{cell.name}: in the measurements, not in the table" for cell in self.not_in_table]
        lines += [item.line() for item in self.misuses]
        return lines


def evaluate(table: Table, measurements: Measurements) -> Evaluation:
    """How the table would have done on `measurements`.

    Compared are the table's baseline and those of its candidates that the measurements have, at sizes where all of them
    are measured, on the curves through the medians of the repeats. A backend is not the best where the measurements
    exclude it, and who uses it there is taken to use the baseline.

    Raises:
        UsageError: no cell of the table can be compared.
    """
    curves = ReplayCurves(measurements)
    in_table = [entry.cell for entry in table.cells]
    in_file = curves.cells()
    cells: list[CellEvaluation] = []
    chosen: Losses = []
    always: dict[str, Losses] = {}
    not_compared: list[tuple[Cell, str]] = []
    for cell in in_table:
        if cell not in in_file:
            continue
        try:
            found, cell_chosen, cell_always = _evaluate_cell(table, cell, curves)
        except _NotComparableError as reason:
            not_compared.append((cell, str(reason)))
            continue
        cells.append(found)
        chosen += cell_chosen
        for name, losses in cell_always.items():
            always.setdefault(name, []).extend(losses)
    misuses = _misuses(table, measurements)
    if not cells:
        reasons = [f"{cell.name}: {reason}" for cell, reason in not_compared]
        reasons += [item.line() for item in misuses]
        reasons = reasons or [f"the table has {_named(in_table)}; the measurements have {_named(in_file)}"]
        raise UsageError(
            f"{measurements.source} can't judge {table.source or table.name}, no cell can be compared: "
            f"{'; '.join(reasons)}"
        )
    everywhere = {name: losses for name, losses in always.items() if all(name in entry.backends for entry in cells)}
    return Evaluation(
        table=table.source or table.name,
        measurements=measurements.source,
        cells=tuple(cells),
        overall=_slowdowns(chosen, everywhere),
        not_measured=tuple(cell for cell in in_table if cell not in in_file),
        not_in_table=tuple(cell for cell in in_file if cell not in in_table),
        not_compared=tuple(not_compared),
        misuses=misuses,
    )


class _NotComparableError(Exception):
    """Why a cell can't be compared."""


def _evaluate_cell(table: Table, cell: Cell, curves: ReplayCurves) -> tuple[CellEvaluation, Losses, dict[str, Losses]]:
    there = curves.backends(cell)
    backends = tuple(name for name in (table.baseline, *table.candidates) if name in there)
    if table.baseline not in there:
        raise _NotComparableError(f"the baseline {table.baseline!r} is not measured, only {', '.join(there)}")
    if len(backends) < 2:
        raise _NotComparableError("none of the table's candidates is measured")
    try:
        low, high = curves.range_of(cell, backends)
    except ValueError as problem:
        raise _NotComparableError(str(problem)) from None
    sizes = log_spaced(low, high)
    choose = _chooser(table, cell)
    losses: Losses = []
    always: dict[str, Losses] = {name: [] for name in backends}
    for size in sizes:
        times = {name: curves.true_latency_us(cell, name, size) for name in backends}
        usable = {name: time for name, time in times.items() if not curves.excluded(cell, name, size)}
        best = min((usable or times).values())
        chosen = choose(size)
        if chosen not in times:
            raise _NotComparableError(f"the table uses {chosen!r} at {full_size(size)}, which is not measured")
        allowed = {name: usable.get(name, times[table.baseline]) for name in backends}
        losses.append((allowed[chosen] / best - 1, size))
        for name, time in allowed.items():
            always[name].append((time / best - 1, size))
    return CellEvaluation(cell, low, high, len(sizes), backends, _slowdowns(losses, always)), losses, always


def _misuses(table: Table, measurements: Measurements) -> tuple[Misuse, ...]:
    """Asked of every size that the measurements exclude something at, be it outside of what is compared."""
    found: dict[tuple[Cell, str], dict[int, set[str]]] = {}
    excluded = {row.cell for row in measurements.exclusions}
    choose = {entry.cell: _chooser(table, entry.cell) for entry in table.cells if entry.cell in excluded}
    for row in measurements.exclusions:
        if row.cell in choose and choose[row.cell](row.size) == row.backend:
            found.setdefault((row.cell, row.backend), {}).setdefault(row.size, set()).add(row.reason)
    return tuple(
        Misuse(cell, backend, tuple(sorted(sizes)), tuple(sorted(set().union(*sizes.values()))))
        for (cell, backend), sizes in sorted(found.items())
    )


def _chooser(table: Table, cell: Cell) -> Callable[[int], str]:
    """What the table uses in `cell` at a size in bytes."""
    found = table.dispatcher(cell.collective, world_size=cell.world_size)
    return found.bind(dtype=cell.dtype, mode=cell.mode, dim=cell.dim)


def log_spaced(low: int, high: int) -> list[int]:
    """Sizes from `low` to `high`, as many in each octave, each moved to the nearest multiple of 16 in that range.

    Unlike a grid to measure on it keeps what falls together: dropping it would take weight from small sizes.
    """
    steps = math.ceil(math.log2(high / low) * PER_OCTAVE)
    sizes = [low * (high / low) ** (step / steps) for step in range(steps)] + [float(high)]
    first, last = -(-low // ALIGNMENT) * ALIGNMENT, high // ALIGNMENT * ALIGNMENT
    if first > last:
        return [round(size) for size in sizes]
    return [min(max(round(size / ALIGNMENT) * ALIGNMENT, first), last) for size in sizes]


def _slowdowns(chosen: Losses, always: Mapping[str, Losses]) -> Slowdowns:
    return Slowdowns(_slowdown(chosen), {name: _slowdown(losses) for name, losses in always.items()})


def _slowdown(losses: Losses) -> Slowdown:
    worst, at = max(losses, key=lambda loss: loss[0])
    return Slowdown(math.fsum(loss for loss, _ in losses) / len(losses), worst, at)


def _named(cells: Sequence[Cell]) -> str:
    names = [cell.name for cell in cells[:8]]
    return ", ".join([*names, f"{len(cells) - len(names)} more"] if len(cells) > len(names) else names) or "no cell"
