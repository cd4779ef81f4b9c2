"""The lookup in a serving process: a table's cells compiled to plain tuples, and one bisection per decision.

A decision depends on its arguments and on the table alone, never on time, environment or rank, so equal tables decide
alike on every rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ccl_dispatch.runtime.mistakes import no_such, no_whole_number
from ccl_dispatch.runtime.switch import asks_strict
from ccl_dispatch.runtime.table import CellTable, Table
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, dtype_name

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
        values: the answer of each run; the first is the baseline's, the last one is for everything above.
        strict: raise for a size that is no whole number; else the baseline answers.
    """

    __slots__ = ("_edges", "_strict", "_values")

    def __init__(self, edges: tuple[int, ...], values: tuple[Any, ...], *, strict: bool = False) -> None:
        super().__init__()
        self._edges = edges
        self._values = values
        self._strict = strict

    def __missing__(self, size: int) -> Any:
        # Only here, off the way of sizes that are known. 64.0 is found like 64 once that is kept, so it counts as 64.
        if type(size) is not int:
            whole = _whole(size, self._strict)
            if whole is None:
                return self._values[0]
            size = whole
        value = self._values[bisect_left(self._edges, size)]
        if len(self) < MAX_KEPT:
            self[size] = value
        return value


class Dispatcher:
    """The lookups of one collective at one world size.

    `select(size, dtype="bfloat16", mode="eager", dim="first")` names the backend for a call of `size` per-rank input
    bytes; `dtype` is a torch dtype or its name. Where the table holds nothing (unknown dtype, mode or dim, a size that
    was not measured, zero or negative) it names the baseline. What no table can answer (see `mistakes`) is answered
    so as well, with one warning, unless `strict` or $CCL_DISPATCH=strict asks to raise.
    """

    __slots__ = ("_cells", "_strict", "baseline", "collective", "select", "world_size")

    select: Select

    def __init__(self, table: Table, collective: str, world_size: int, *, strict: bool = False) -> None:
        self._strict = strict = strict or asks_strict()
        if collective not in COLLECTIVES:
            no_such("collective", collective, COLLECTIVES, strict=strict)
        ranks = _whole(world_size, strict, "world_size", "8")
        self.baseline = table.baseline
        self.collective = collective
        self.world_size = world_size
        self._cells: dict[tuple[str, str, str], Compiled] = {
            (cell.cell.dtype, cell.cell.mode, cell.cell.dim): compile_cell(cell, table.baseline)
            for cell in table.cells
            if cell.cell.collective == collective and cell.cell.world_size == ranks
        }
        self.select = _selector(self._cells, table.baseline, strict)

    def __getstate__(self) -> dict[str, Any]:
        # What is made of the cells stays here: a function of its own goes to no other process.
        return {name: getattr(self, name) for name in self.__slots__ if name != "select"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.select = _selector(self._cells, self.baseline, self._strict)

    def bind(self, dtype: object = "bfloat16", mode: str = "eager", dim: str = "first") -> Callable[[int], str]:
        """The lookup of one cell: a callable from per-rank input bytes to the backend's name.

        Raises:
            UsageError: strict, and there is no such dtype, mode or dim.
        """
        try:
            found = self._cells.get((dtype_name(dtype), mode, dim))
        except TypeError:  # nothing that could be a key: a list, say
            found = None
        if found is None:
            _check_words(dtype, mode, dim, self._strict)
            found = (), (self.baseline,)
        return Answers(*found, strict=self._strict).__getitem__

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


def _whole(found: Any, strict: bool, what: str = "size", example: str = "65536 bytes") -> int | None:
    """`found` as an int where it is a whole number, 64.0 as well, else None, which was told."""
    try:
        whole = int(found)
        if whole == found:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    no_whole_number(what, found, example, strict=strict)
    return None


def _check_words(dtype: object, mode: object, dim: object, strict: bool) -> None:
    """Tell a dtype, mode or dim that does not exist. Any dtype of torch does, whether tables may hold it or not."""
    if type(dtype).__module__ != "torch" and dtype_name(dtype) not in ITEMSIZE:
        no_such("dtype", dtype, ITEMSIZE, strict=strict)
    if mode not in MODES:
        no_such("mode", mode, MODES, strict=strict)
    if dim not in DIMS:
        no_such("dim", dim, DIMS, strict=strict)


def _selector(cells: dict[tuple[str, str, str], Compiled], baseline: str, strict: bool) -> Select:
    # Nested, so that a call builds no key. torch dtypes join the names when they are first seen.
    answers: dict[str, dict[str, dict[object, Answers]]] = {dim: {mode: {} for mode in MODES} for dim in DIMS}
    for (name, mode, dim), compiled in cells.items():
        answers[dim][mode][name] = Answers(*compiled, strict=strict)

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
            found = None
        if found is None:
            _check_words(dtype, mode, dim, strict)
            found = Answers((), (baseline,), strict=strict)
            if name in ITEMSIZE and mode in MODES and dim in DIMS:
                # All is right, but not in the table: found at once from now on as well.
                answers[dim][mode][name] = found
        elif type(dtype).__module__ == "torch":
            # A torch dtype is one object for the life of the process: from now on it is found at once.
            answers[dim][mode][dtype] = found
        try:
            use: str = found[size]
        except TypeError:  # nothing that could be a key: a list, say
            no_whole_number("size", size, "65536 bytes", strict=strict)
            return baseline
        return use

    return select
