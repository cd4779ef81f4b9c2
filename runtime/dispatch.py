"""The lookup in a serving process: a table's cells compiled to plain tuples, and one bisection per decision.

A decision depends on its arguments and on the table alone, never on time, environment or rank, so equal tables decide
alike on every rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ccl_dispatch.runtime.table import CellTable, Table
from ccl_dispatch.runtime.vocabulary import DIMS, MODES, dtype_name

if TYPE_CHECKING:

    class Select(Protocol):
        """`Dispatcher.select` as a type."""

        def __call__(self, size: int, dtype: object = ..., mode: str = ..., dim: str = ...) -> str:
            """The backend for a call of `size` per-rank input bytes."""


# Upper ends of runs of sizes, rising, and the backend of each run; the last name is for everything above.
Compiled = tuple[tuple[int, ...], tuple[str, ...]]


# Sizes of one cell whose answer is kept: more than the shapes of any engine, and a bound on memory (0.5 MB).
MAX_KEPT = 4096


class Answers(dict[int, Any]):
    """The answers of one cell by size, each worked out when it is first asked for: from then on asking is one look-up,
    however many bands the cell has.

    Args:
        edges: upper ends of runs of sizes, rising.
        values: the answer of each run; the last one is for everything above.
    """

    __slots__ = ("_edges", "_values")

    def __init__(self, edges: tuple[int, ...], values: tuple[Any, ...]) -> None:
        super().__init__()
        self._edges = edges
        self._values = values

    def __missing__(self, size: int) -> Any:
        value = self._values[bisect_left(self._edges, size)]
        if len(self) < MAX_KEPT:
            self[size] = value
        return value


class Dispatcher:
    """The lookups of one collective at one world size.

    `select(size, dtype="bfloat16", mode="eager", dim="first")` names the backend for a call of `size` per-rank input
    bytes; `dtype` is a torch dtype or its name. Where the table holds nothing (unknown dtype, mode or dim, a size that
    was not measured, zero or negative) it names the baseline; for no number as size does it raise.
    """

    __slots__ = ("_cells", "baseline", "collective", "select", "world_size")

    select: Select

    def __init__(self, table: Table, collective: str, world_size: int) -> None:
        self.baseline = table.baseline
        self.collective = collective
        self.world_size = world_size
        self._cells: dict[tuple[str, str, str], Compiled] = {
            (cell.cell.dtype, cell.cell.mode, cell.cell.dim): compile_cell(cell, table.baseline)
            for cell in table.cells
            if cell.cell.collective == collective and cell.cell.world_size == world_size
        }
        self.select = _selector(self._cells, table.baseline)

    def bind(self, dtype: object = "bfloat16", mode: str = "eager", dim: str = "first") -> Callable[[int], str]:
        """The lookup of one cell: a callable from per-rank input bytes to the backend's name."""
        edges, uses = self._cells.get((dtype_name(dtype), mode, dim), ((), (self.baseline,)))
        return _lookup(edges, uses)

    def compiled(self, dtype: str, mode: str, dim: str) -> Compiled | None:
        """One cell as edges and backends, None when the table does not hold it."""
        return self._cells.get((dtype, mode, dim))


def compile_cell(cell: CellTable, baseline: str) -> Compiled:
    """The cell's bands and overrides as runs of rising sizes, with the baseline on both sides of the measured."""
    edges = [cell.measured_from - 1]
    uses = [baseline]

    def run(up_to: int, use: str) -> None:
        if up_to <= edges[-1]:
            return
        if use == uses[-1]:
            edges[-1] = up_to
        else:
            edges.append(up_to)
            uses.append(use)

    overrides = sorted(cell.overrides)
    for band in cell.bands:
        while overrides and overrides[0].size <= band.up_to:
            override = overrides.pop(0)
            run(override.size - 1, band.use)
            run(override.size, override.use)
        run(band.up_to, band.use)
    if uses[-1] == baseline:
        edges.pop()
    else:
        uses.append(baseline)
    return tuple(edges), tuple(uses)


def _lookup(edges: tuple[int, ...], uses: tuple[str, ...]) -> Callable[[int], str]:
    # The names are bound as defaults: a local is read faster than a closure's cell or a global.
    if not edges:
        return lambda _size, use=uses[0]: use  # type: ignore[misc]
    if len(edges) == 2 and uses[0] == uses[2]:
        # By far the most common cell has one run of the candidate; two comparisons beat a call of bisect.
        return lambda size, low=edges[0], high=edges[1], inside=uses[1], outside=uses[0]: (  # type: ignore[misc]
            inside if low < size <= high else outside
        )
    return Answers(edges, uses).__getitem__


def _selector(cells: dict[tuple[str, str, str], Compiled], baseline: str) -> Select:
    # Nested, so that a call builds no key. torch dtypes join the names when they are first seen.
    answers: dict[str, dict[str, dict[object, Answers]]] = {dim: {mode: {} for mode in MODES} for dim in DIMS}
    for (name, mode, dim), compiled in cells.items():
        answers[dim][mode][name] = Answers(*compiled)

    def select(size: int, dtype: object = "bfloat16", mode: str = "eager", dim: str = "first") -> str:
        try:
            return answers[dim][mode][dtype][size]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return other(size, dtype, mode, dim)

    def other(size: int, dtype: object, mode: str, dim: str) -> str:
        name = dtype_name(dtype)
        try:
            found = answers[dim][mode].get(name)
        except (KeyError, TypeError):
            return baseline
        if found is None:
            return baseline
        if type(dtype).__module__ == "torch":
            # A torch dtype is one object for the life of the process: from now on it is found at once.
            answers[dim][mode][dtype] = found
        use: str = found[size]
        return use

    return select
