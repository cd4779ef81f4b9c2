"""From the points of a study to its table."""

from __future__ import annotations

from dataclasses import replace

from made_studies import made_study

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.build import build_table
from ccl_dispatch.tuner.emit.text import render


def test_the_order_of_the_points_changes_no_byte() -> None:
    """Studies that were merged in another order hold the same points in another order, and give the same file."""
    meta, results = made_study([Cell("all_gather", "eager", "first", "bfloat16", 2)])
    # In the order of some sums of these 0.0005 is rounded up, in others down.
    seconds = [0.1, 0.1, 0.1, 0.0005, *[0.0] * (len(results) - 4)]
    points = [replace(point, collective_seconds=value) for point, value in zip(results, seconds, strict=True)]
    assert render(build_table(meta, points)) == render(build_table(meta, points[::-1]))
