"""What all ranks' claims come to, in words that name the rank that somebody has to look at."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ccl_dispatch.runtime.agreement import _LONGEST_REASON, AS_IT_WAS
from ccl_dispatch.runtime.claims import (
    CAN_SWITCH,
    HAS_NONE,
    KEEPS_ITS_OWN,
    NONE_FITS,
    NOTHING_THERE,
    USE_BASELINE,
    USE_TABLE,
    Claim,
    judge,
)

USES = Claim(CAN_SWITCH, "", absent="", digest="sha256:" + "a" * 64, candidate="aiter", world_size=64, settings={})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"digest": "sha256:" + "b" * 64}, "the ranks differ in their table's digest: rank 61 has sha256:bbb"),
        ({"world_size": 8}, "the ranks differ in world_size: rank 61 has 8, ranks 0 to 60, 62, 63 have 64"),
        ({"settings": {f"{name:02}": "x" for name in range(64, -1, -1)}}, "the ranks differ in 00: rank 61 has x"),
        ({"candidate": "other"}, "rank 61 has other, ranks 0 to 60, 62, 63 have aiter"),
        ({"settings": {"$CCL_DISPATCH": "strict"}}, "rank 61 has strict, ranks 0 to 60, 62, 63 have "),
    ],
)
def test_the_one_rank_that_differs_is_named(change: dict[str, Any], told: str) -> None:
    """Of 64 ranks the one that differs stands first, in as much of the reason as all ranks read and log."""
    claims = [list(USES)] * 61 + [list(USES._replace(**change))] + [list(USES)] * 2
    assert told in judge(claims).reason[:_LONGEST_REASON]


def test_what_ails_most_ranks_does_not_hide_what_ails_one() -> None:
    """A long problem of many ranks is told behind the other one of a single rank."""
    long = list(USES._replace(problem="its folder has too many tables to name " * 60))
    claims = [*[long] * 3, list(USES._replace(problem="no such file")), *[long] * 4]
    reason = judge(claims).reason
    assert reason.startswith("rank 3: no such file; ranks 0 to 2, 4 to 7: its folder")
    assert len(reason) > _LONGEST_REASON


def _stuck(able: str) -> Claim:
    return USES._replace(able=able, problem=f"it {able}", digest="", candidate="", world_size=0)


def _without(absent: str) -> Claim:
    return USES._replace(problem="no table", absent=absent, digest="", candidate="")


# What a rank may claim, each one way apart from `USES`.
_CLAIMS = (
    USES,
    *map(_stuck, (KEEPS_ITS_OWN, HAS_NONE)),
    *map(_without, (NOTHING_THERE, NONE_FITS)),
    USES._replace(problem="its table is broken"),
    USES._replace(digest="sha256:other"),
    USES._replace(candidate="other"),
    USES._replace(world_size=32),
    USES._replace(settings={"one": "1"}),
    USES._replace(settings={"one": "2"}),
    USES._replace(settings={"one": "1", "two": ""}),
)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_table_is_used_where_all_claim_the_same_and_in_no_other_case(ranks: int) -> None:
    """For every claim of every rank: the table where all can switch and are alike in every word; as it was where one
    can't leave its own check, or no rank has a table, or none a communicator; else the baseline. It is quiet about what
    needs nobody's attention alone, gives a reason for all but the table, and the order of ranks decides nothing.
    """
    for claims in itertools.product(_CLAIMS, repeat=ranks):
        _check(list(claims))


def _check(claims: list[Claim]) -> None:
    found = judge([list(claim) for claim in claims])
    kinds = {claim.able for claim in claims}
    absent = {claim.absent for claim in claims}
    if KEEPS_ITS_OWN in kinds:
        expected = (AS_IT_WAS, False)
    elif kinds == {HAS_NONE}:
        expected = (AS_IT_WAS, True)
    elif "" not in absent:
        expected = (AS_IT_WAS, absent == {NOTHING_THERE})
    elif any(claim.problem for claim in claims) or any(claim[3:6] != claims[0][3:6] for claim in claims):
        expected = (USE_BASELINE, False)
    else:
        words = [{name: claim.settings.get(name, "") for name in ("one", "two")} for claim in claims]
        expected = (USE_TABLE, True) if all(word == words[0] for word in words) else (USE_BASELINE, False)
    assert (found.decision, found.quiet) == expected
    assert bool(found.reason) == (found.decision != USE_TABLE)
    assert (found.speaker, found.left) == (0, False)
    turned = judge([list(claim) for claim in reversed(claims)])
    assert turned._replace(reason="") == found._replace(reason="")
