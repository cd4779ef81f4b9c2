"""From the points of a study to its table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_studies import made_study

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render
from ccl_dispatch.tuner.samples import PointFault


def test_the_order_of_the_points_changes_no_byte() -> None:
    """Studies that were merged in another order hold the same points in another order, and give the same file."""
    meta, results = made_study([Cell("all_gather", "eager", "first", "bfloat16", 2)])
    # In the order of some sums of these 0.0005 is rounded up, in others down.
    seconds = [0.1, 0.1, 0.1, 0.0005, *[0.0] * (len(results) - 4)]
    points = [
        replace(
            point,
            collective_seconds=value,
            measured_at=f"2026-01-01T00:00:{number:02}Z",
            node="b" if number < 12 else "a",
            executions=dict(sorted(point.executions.items(), reverse=number % 2 == 0)),
            rank_medians_us={"base": (1.0, 2.0, 1.0)},
            condition={"others": (number % 7) / 10},
            faults=(PointFault("fast", "hung", number % 2, f"after {number // 2} s", log="x" * (number % 3)),),
        )
        for number, (point, value) in enumerate(zip(results, seconds, strict=True))
    ]
    made = build_table(meta, points)
    assert render(made) == render(build_table(meta, points[::-1]))
    evidence = made.evidence
    assert (evidence["measured_from"], evidence["measured_to"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:24Z")
    assert evidence["nodes"] == {"a": 13, "b": 12}
    assert {"faults", "slow_ranks", "others_used", "note"} <= evidence.keys()


def test_nothing_is_built_from_nothing() -> None:
    """A study without points has no table, and no file is said to be one."""
    with pytest.raises(StorageError, match="has no measured points yet"):
        build_table(made_study([])[0], [])
