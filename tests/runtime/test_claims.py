"""What all ranks' claims come to, in words that name the rank that somebody has to look at."""

from __future__ import annotations

from typing import Any

import pytest

from ccl_dispatch.runtime.agreement import _LONGEST_REASON
from ccl_dispatch.runtime.claims import CAN_SWITCH, Claim, judge

USES = Claim(CAN_SWITCH, "", absent="", digest="sha256:" + "a" * 64, candidate="aiter", world_size=64, settings={})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"digest": "sha256:" + "b" * 64}, "rank 61 has sha256:bbb"),
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
