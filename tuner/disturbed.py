"""Visits that were measured while others used the processors: what a table's evidence and a sweep's end say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.others import DISTURBING, OTHERS
from ccl_dispatch.tuner.samples import PointResult

KEY = "others_used"


def disturbed_evidence(results: Sequence[PointResult]) -> dict[str, Any]:
    """What a table's evidence says of it: the mean share at disturbed visits, and how many of all; empty if none."""
    shares = [float(share) for result in results if (share := result.condition.get(OTHERS)) is not None]
    disturbed = sorted(share for share in shares if share >= DISTURBING)
    if not disturbed:
        return {}
    return {KEY: {"share": round(sum(disturbed) / len(disturbed), 2), "visits": len(disturbed), "of": len(results)}}


def disturbed_in_words(table: Table) -> str:
    """The table's evidence as a sentence; empty where nothing disturbed, or nothing is known."""
    found = table.evidence.get(KEY)
    if not isinstance(found, Mapping) or not {"share", "visits", "of"} <= found.keys():
        return ""
    return (
        f"others used {found['share']:.0%} of the processors during at least {found['visits']} of {found['of']} "
        "visits: on a calm machine other choices may be right"
    )
