"""What the verbs that print tables share: lines with colours, and figures as people write them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from ccl_dispatch.runtime.units import short_size

_CODES = {"green": "32", "red": "31", "grey": "90", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
_RESET = "\x1b[0m"


@dataclass(frozen=True)
class Line:
    """A line in parts, each with its colour or none; its length is that of what a reader sees."""

    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, text: str, colour: str = "") -> Line:
        """A line of one part."""
        return cls(((text, colour),))

    def plus(self, text: str, colour: str = "") -> Line:
        """The line with one more part."""
        return Line((*self.parts, (text, colour)))

    def __len__(self) -> int:
        return sum(len(text) for text, _ in self.parts)

    def text(self, *, colour: bool = False) -> str:
        """The line as it is printed."""
        return "".join(painted(text, shade) if colour and text else text for text, shade in self.parts)


def is_coloured() -> bool:
    """Whether standard output is a terminal that shows colours and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """The width of the terminal ($COLUMNS goes first); 0 where there is none, so that a file gets whole lines."""
    return shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0


def painted(text: str, colour: str) -> str:
    """`text` in a colour; unchanged when `colour` is empty."""
    return f"\x1b[{_CODES[colour]}m{text}{_RESET}" if colour else text


def gain_text(gain: float) -> str:
    """T(other)/T(this) - 1 as per cent, from twice as fast on as a factor."""
    return f"{1 + gain:.2f}x" if gain >= 1 else f"{gain:+.1%}"


def span_text(low: int, high: int) -> str:
    """A run of sizes, or the one size that it is."""
    return short_size(low) if low == high else f"{short_size(low)} to {short_size(high)}"
