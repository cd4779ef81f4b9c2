"""A cell as one row over the log size axis: what the table would use, how sure that is, where it was measured."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.palette import terminal_colour
from ccl_dispatch.tuner.progress.belief import Belief
from ccl_dispatch.tuner.progress.words import LIKELY, SURE

# From sure to doubtful, and where nothing is known.
SURE_BLOCK, LIKELY_BLOCK, DOUBT_BLOCK, UNKNOWN = "█", "▓", "░", "·"
MEASURED, EXCLUDED, NOW = "•", "x", "▼"
_NOW_STYLE = "bold black on #f0e442"


class Mark(NamedTuple):
    """One column: a character, and its style in rich's words."""

    char: str
    style: str


@dataclass(frozen=True)
class Axis:
    """The sizes from `low` to `high`, in bytes, over so many columns, even in log size."""

    low: int
    high: int
    columns: int

    def column(self, size: float) -> int:
        """The column in which a size lies."""
        if self.high <= self.low:
            return 0
        part = math.log2(size / self.low) / math.log2(self.high / self.low)
        return min(max(round(part * (self.columns - 1)), 0), self.columns - 1)

    def size(self, column: int) -> float:
        """The size in the middle of a column."""
        return self.low * float((self.high / self.low) ** (column / max(self.columns - 1, 1)))

    def ruler(self, tick: str) -> str:
        """Sizes above the columns that they stand for, as many as there is room for, both ends among them."""
        last = short_size(self.high)
        cells = [" "] * self.columns
        end = self.columns
        if len(last) + 1 <= self.columns:
            end -= len(last) + 1
            cells[end:] = [*last, tick]
        for step in (1, 2, 3, 4, 5, 6, 8, 10, 12):
            labels = [f"{tick}{short_size(size)}" for size in self._sizes(step)]
            starts = [self.column(size) for size in self._sizes(step)]
            free = [(start, label) for start, label in zip(starts, labels, strict=True) if start + len(label) < end]
            gaps = [after - (at + len(label)) for (at, label), (after, _) in pairwise(free)]
            if all(gap >= 2 for gap in gaps):
                for start, label in free:
                    cells[start : start + len(label)] = label
                break
        return "".join(cells[: self.columns])

    def _sizes(self, step: int) -> list[int]:
        """From the lowest size on in steps of so many octaves, at whole powers of two after the first."""
        first = math.ceil(math.log2(self.low))
        powers = range(first, int(math.log2(self.high)) + 1, step)
        return [self.low, *(1 << power for power in powers if 1 << power > self.low)] if step < 12 else [self.low]


class Ink:
    """How backends look in a terminal: coloured blocks; letters where there are no colours.

    Capital letters are what is sure; measured columns are underlined then.
    """

    def __init__(self, names: Sequence[str], *, coloured: bool) -> None:
        self.names = tuple(names)
        self.coloured = coloured
        self.letters = _letters(self.names)

    def column(self, use: str, sure: float, *, measured: bool, excluded: bool, now: bool) -> Mark:
        """The mark of one column."""
        if now:
            return Mark(NOW if self.coloured else "@", _NOW_STYLE if self.coloured else "bold")
        if not self.coloured:
            letter = self.letters[use] if use else "."
            char = "x" if excluded else letter.upper() if sure >= SURE else letter
            return Mark(char, "underline" if measured else "")
        if not use:
            return Mark(EXCLUDED if excluded else MEASURED if measured else UNKNOWN, "bright_black")
        colour = terminal_colour(self.names, use)
        if measured or excluded:
            mark = EXCLUDED if excluded else MEASURED
            return Mark(mark, f"black on {colour}" if sure >= LIKELY else colour)
        block = SURE_BLOCK if sure >= SURE else LIKELY_BLOCK if sure >= LIKELY else DOUBT_BLOCK
        return Mark(block, colour)

    def legend(self) -> list[tuple[str, str]]:
        """What the marks mean, as texts with their styles, in an order in which the last may be left out."""
        if not self.coloured:
            names = [(f"{self.letters[name].upper()} {name}", "") for name in self.names]
            return [*names, ("underlined: measured", ""), ("small: in doubt", ""), ("x excluded", ""), ("@ now", "")]
        parts = [(f"{SURE_BLOCK} {name}", terminal_colour(self.names, name)) for name in self.names]
        doubt = f"{LIKELY_BLOCK}{DOUBT_BLOCK} in doubt"
        return [*parts, (f"{MEASURED} measured", ""), (doubt, ""), (f"{EXCLUDED} excluded", ""), (f"{NOW} now", "")]


def row(axis: Axis, ink: Ink, belief: Belief, measured: Mapping[int, bool], now: int | None) -> list[Mark]:
    """The columns of one cell.

    Args:
        measured: the sizes that were measured, with whether a backend was excluded there.
        now: the size that is being measured.
    """
    marks: dict[int, bool] = {}
    for size, excluded in measured.items():
        column = axis.column(size)
        marks[column] = marks.get(column, False) or excluded
    at = None if now is None else axis.column(now)
    first, last = axis.column(belief.sizes[0]), axis.column(belief.sizes[-1])
    columns = []
    for column in range(axis.columns):
        if not first <= column <= last:
            columns.append(Mark(" ", ""))
            continue
        place = _nearest(belief.sizes, axis.size(column))
        columns.append(
            ink.column(
                belief.uses[place],
                belief.sureness[place],
                measured=column in marks,
                excluded=marks.get(column, False),
                now=column == at,
            )
        )
    return columns


def _nearest(sizes: Sequence[int], size: float) -> int:
    above = min(bisect_left(sizes, size), len(sizes) - 1)
    below = max(above - 1, 0)
    return below if size / sizes[below] < sizes[above] / size else above


def _letters(names: Sequence[str]) -> dict[str, str]:
    """A letter for each backend: of its own name as far as they are free."""
    letters: dict[str, str] = {}
    for name in names:
        wanted = [char for char in f"{name.lower()}abcdefghijklmnopqrstuvwyz" if char.isalpha() and char != "x"]
        letters[name] = next(char for char in wanted if char not in letters.values())
    return letters
