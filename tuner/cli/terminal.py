"""What the verbs that print tables share: colour where a person looks, and figures as people write them."""

from __future__ import annotations

import os
import shutil
import sys

from ccl_dispatch.runtime.units import short_size

_CODES = {"green": "32", "red": "31", "grey": "90", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
_RESET = "\x1b[0m"


def is_coloured() -> bool:
    """Whether standard output is a terminal that shows colours and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns(default: int = 100) -> int:
    """The width of the terminal ($COLUMNS goes first), or `default` where there is none."""
    return shutil.get_terminal_size((default, 24)).columns


def painted(text: str, colour: str) -> str:
    """`text` in a colour; unchanged when `colour` is empty."""
    return f"\x1b[{_CODES[colour]}m{text}{_RESET}" if colour else text


def gain_text(gain: float) -> str:
    """T(other)/T(this) - 1 as per cent, from twice as fast on as a factor."""
    return f"{1 + gain:.2f}x" if gain >= 1 else f"{gain:+.1%}"


def span_text(low: int, high: int) -> str:
    """A run of sizes, or the one size that it is."""
    return short_size(low) if low == high else f"{short_size(low)} to {short_size(high)}"
