"""What one rank tells the others before a table is used, and what all of it together comes to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from ccl_dispatch.runtime.agreement import AS_IT_WAS, Proposal

USE_TABLE = "table"
USE_BASELINE = "baseline"

# What a rank can do. One that can switch takes any of the three; the others stay where they are, and then it is the
# ranks that can switch that have to be like them.
CAN_SWITCH = "switch"
KEEPS_ITS_OWN = "keeps its own check"
HAS_NONE = "always uses the baseline"


NOTHING_THERE = "nothing there"
NONE_FITS = "none fits"


class Claim(NamedTuple):
    """One rank's part.

    Attributes:
        able: CAN_SWITCH, or where the rank is stuck.
        problem: why it can't use a table; empty when it could.
        absent: the problem is no more than that no table was found: NOTHING_THERE, or NONE_FITS where somebody put
            tables of other machines; else empty.
        digest: of the table's meaning, taken anew.
        candidate: the table's name for the communicator.
        world_size: the communicator's ranks.
        settings: whatever else has to be equal, in words.
    """

    able: str
    problem: str
    absent: str
    digest: str
    candidate: str
    world_size: int
    settings: dict[str, str]


def judge(claims: Sequence[Any]) -> Proposal:
    """What all ranks' claims come to, in order of rank; the same for the same claims.

    - A rank that keeps its own check makes all keep theirs.
    - A rank that always uses the baseline (its communicator is disabled, or was never made) makes all use the baseline.
    - No table anywhere changes nothing, and is told only where somebody expects one.
    - Any other problem or difference puts all on the baseline.
    """
    found = [Claim(*claim) for claim in claims]
    proposal = partial(Proposal, speaker=0)
    problems = [(rank, claim.problem) for rank, claim in enumerate(found) if claim.problem]
    able = {claim.able for claim in found}
    if KEEPS_ITS_OWN in able:
        return proposal(AS_IT_WAS, _joined(problems), quiet=False)
    if able == {HAS_NONE}:
        return proposal(AS_IT_WAS, _joined(problems), quiet=True)
    if all(claim.absent for claim in found):
        return proposal(AS_IT_WAS, found[0].problem, quiet={claim.absent for claim in found} == {NOTHING_THERE})
    if problems:
        return proposal(USE_BASELINE, _joined(problems), quiet=False)
    for field in ("digest", "candidate", "world_size"):
        if difference := _difference(f"their table's {field}" if field != "world_size" else field, found, field):
            return proposal(USE_BASELINE, difference, quiet=False)
    for name in sorted({key for claim in found for key in claim.settings}):
        values = [claim.settings.get(name, "") for claim in found]
        if len(set(values)) > 1:
            return proposal(USE_BASELINE, _told(name, values), quiet=False)
    return proposal(USE_TABLE, "", quiet=True)


def _difference(what: str, claims: list[Claim], field: str) -> str:
    values = [str(getattr(claim, field)) for claim in claims]
    return _told(what, values) if len(set(values)) > 1 else ""


def _told(what: str, values: list[str]) -> str:
    found = [f"{_named(ranks)} ha{'ve' if len(ranks) > 1 else 's'} {value}" for value, ranks in _by_text(values)]
    return f"the ranks differ in {what}: {', '.join(found)}"


def _joined(problems: list[tuple[int, str]]) -> str:
    """The problems in one line; equal ones of many ranks are told once."""
    found = _by_text([text for _, text in problems])
    return "; ".join(f"{_named([problems[place][0] for place in places])}: {text}" for text, places in found)


def _by_text(texts: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Each text with the places where it stands, that of the fewest first: of many ranks one is odd, and a long line is
    cut at its end.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    return sorted(places.items(), key=lambda item: len(item[1]))


def _named(ranks: Sequence[int]) -> str:
    """`rank 3`, `ranks 0, 1`, `ranks 0 to 5, 7`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(words)}"
