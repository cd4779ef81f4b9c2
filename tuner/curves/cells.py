"""Which cells may be alike."""

from __future__ import annotations

from collections.abc import Iterable

from ccl_dispatch.runtime.vocabulary import Cell


def families(cells: Iterable[Cell]) -> tuple[tuple[Cell, ...], ...]:
    """Cells that differ in nothing but the dtype: they move the same bytes, and often by the same code.

    In the order in which the cells come.
    """
    found: dict[Cell, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell._replace(dtype=""), []).append(cell)
    return tuple(tuple(family) for family in found.values())
