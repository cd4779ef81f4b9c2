"""What the verbs that print tables share: lines with colours, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

# What the terminal's own theme has.
_CODES = {"green": "32", "red": "31", "grey": "90", "yellow": "33"}
_RESET = "\x1b[0m"
# The levels of red, green and blue in a terminal of 256 colours (xterm's colour cube).
_LEVELS = (0, 95, 135, 175, 215, 255)


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


def tell_who_watches(text: str) -> None:
    """What takes many seconds, to whoever waits for it at a terminal; a log needs none of it."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def columns() -> int:
    """The width of the terminal ($COLUMNS goes first); 0 where there is none, so that a file gets whole lines."""
    return shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0


def painted(text: str, colour: str) -> str:
    """`text` in a colour, a name of the terminal's theme or `#rrggbb`; unchanged when `colour` is empty."""
    if not colour:
        return text
    code = _shade(colour) if colour.startswith("#") else _CODES[colour]
    return f"\x1b[{code}m{text}{_RESET}"


def _shade(colour: str) -> str:
    """The code of `#rrggbb`: exact where the terminal says that it can, else the nearest of 256."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    if os.environ.get("COLORTERM") in {"truecolor", "24bit"}:
        return "38;2;" + ";".join(map(str, parts))
    red, green, blue = (min(range(6), key=lambda level: abs(_LEVELS[level] - part)) for part in parts)
    return f"38;5;{16 + 36 * red + 6 * green + blue}"
