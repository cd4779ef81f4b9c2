"""One colour per backend, the same wherever one is drawn: Okabe and Ito's, which the colour-blind tell apart.

Source: M. Okabe and K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

from collections.abc import Sequence

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# In a terminal the baseline steps back: what stands out is where something else is used.
GREY = "#8a8a8a"


def colour_of(names: Sequence[str], name: str) -> str:
    """The colour of one of the backends `names`, the baseline first, as `#rrggbb`."""
    return COLOURS[names.index(name) % len(COLOURS)]


def terminal_colour(names: Sequence[str], name: str) -> str:
    """The same for a terminal, where the baseline is grey; unknown names are grey as well."""
    return colour_of(names, name) if name in names[1:] else GREY
