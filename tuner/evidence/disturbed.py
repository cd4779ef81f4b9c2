"""Visits that were measured while others used the processors: what a table's evidence and a sweep's end say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ccl_dispatch.runtime.table import Table
from ccl_dispatch.tuner.evidence.merged import evidences
from ccl_dispatch.tuner.evidence.others import DISTURBING, OTHERS
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
    parts = [_read(evidence.get(KEY)) for evidence in evidences(table.evidence)]
    return in_words([part for part in parts if part is not None])


def disturbed_results_in_words(results: Sequence[PointResult]) -> str:
    """The same of visits that no table was made of yet."""
    part = _read(disturbed_evidence(results).get(KEY))
    return in_words([part] if part else [])


def in_words(parts: Sequence[tuple[float, int, int]]) -> str:
    """A sentence for studies of which each has a mean share, disturbed visits and all visits; empty for none."""
    visits, of = sum(part[1] for part in parts), sum(part[2] for part in parts)
    if not visits:
        return ""
    share = sum(share * count for share, count, _ in parts) / visits
    return (
        f"others used {share:.0%} of the processors during at least {visits} of {of} visits: on a calm machine other "
        "choices may be right"
    )


def _read(found: Any) -> tuple[float, int, int] | None:
    """A part of evidence as far as it can be read: evidence is free, and an older table has none."""
    try:
        return float(found["share"]), int(found["visits"]), int(found["of"])
    except (KeyError, TypeError, ValueError):
        return None
