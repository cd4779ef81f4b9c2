"""The sentences that a log and a picture have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.progress.pace import Pace, clock

if TYPE_CHECKING:
    from ccl_dispatch.tuner.progress.belief import Belief

# How probable the choice at a size must be to count as sure, and as likely.
SURE, LIKELY = 0.95, 0.8


def so_far(belief: Belief) -> str:
    """What the table would use in a cell now, from small sizes to large ones."""
    runs = [(use, up_to, sure) for use, up_to, sure in belief.runs() if use]
    if not runs:
        return "nothing known yet"
    words = []
    for number, (use, up_to, sure) in enumerate(runs):
        doubt = "" if sure >= SURE else f" ({sure:.0%} sure)"
        to = "" if number + 1 == len(runs) else f" to {short_size(up_to)}"
        words.append(f"{use}{to}{doubt}")
    return ", ".join(words)


def how_far(pace: Pace, seconds: float) -> list[str]:
    """How far the search is and the time left, the most important part first; nothing is said that is not known."""
    left = pace.left(seconds)
    parts = []
    if pace.to_look:
        parts.append(f"first look: {pace.looked} of {pace.looked + pace.to_look} points")
        if left.about is not None:
            parts.append(f"about {clock(left.about)} for the rest of it")
    elif math.isfinite(pace.regret):
        wanted = f" (wanted {pace.wanted:.2%})" if pace.wanted else ""
        parts.append(f"measuring more may win {pace.regret:.2%}{wanted}")
        if left.about is not None:
            parts.append(f"about {clock(left.about)} left at this pace")
        elif left.halving is not None:
            parts.append(f"halved every {clock(left.halving)}")
        else:
            parts.append("time left not known")
    if left.at_most is not None:
        parts.append(f"at most {clock(left.at_most)} by the budget")
    return parts or ["first look"]
