"""The samples of one point: what is kept comes back, and what can't have been measured is not taken for samples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import UNNAMED, PointExclusion, PointFault, PointResult, nodes_of

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
RESULT = PointResult(CELL, 16, {"a": (1.0, 2.0), "b": (2.0, 2.0, 9.0)}, first_us={"a": 4.0, "b": 2.0}, wall_seconds=0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        *(
            ({"cell": Cell(**{**CELL._asdict(), key: "other"})}, "no cell")
            for key in ("collective", "mode", "dim", "dtype")
        ),
        *(({"cell": Cell(*CELL[:4], count)}, "no cell") for count in (0, -2)),
        *(({"size": size}, "expected bytes above 0") for size in (0, -16, 16.0)),
        *(({"latencies_us": {"a": (1.0, us)}}, "a has a latency of") for us in (0.0, -1.0, math.inf, math.nan)),
        *(({"first_us": {"b": us}}, "b has a latency of") for us in (0.0, math.inf)),
        *(
            ({key: seconds}, "s, expected")
            for key in ("collective_seconds", "wall_seconds")
            for seconds in (-1.0, math.inf)
        ),
        ({"latencies_us": {"a": ("1.0",)}}, "TypeError"),
    ],
)
def test_what_was_not_measured_is_not_read_as_samples(wrong: dict[str, Any], words: str) -> None:
    """Whatever one number of a result is that no measuring gives, its checksum being right or not there at all."""
    for kept in (replace(RESULT, latencies_us={"a": (1e-9,)}, collective_seconds=0.0), RESULT):
        assert PointResult.from_text(kept.to_text()) == kept
    with pytest.raises(ValueError, match=words):
        PointResult.from_text(replace(RESULT, **wrong).to_text())


def test_ratios_are_of_one_repetition() -> None:
    """Above 0 where the candidate is faster; nothing is made up of a repetition, or a first call, that one lacks."""
    assert RESULT.log_ratios("b", "a") == [math.log(2.0), 0.0]
    assert RESULT.first_log_ratios("a", "b") == [math.log(2.0)]
    assert RESULT.log_ratios("b", "c") == RESULT.first_log_ratios("b", "c") == RESULT.first_log_ratios("c", "b") == []


def test_an_exclusion_says_something_of_other_sizes_unless_it_is_of_an_odd_size() -> None:
    """A size that is no multiple of 16 B may be unsupported alone; whatever else failed there may fail elsewhere."""
    exclusions = tuple(PointExclusion(name, name, "") for name in ("unsupported", "crashed"))
    assert replace(RESULT, exclusions=exclusions).unusable() == (frozenset({"unsupported", "crashed"}), frozenset())
    assert replace(RESULT, exclusions=exclusions, size=24).unusable() == (
        frozenset({"crashed"}),
        frozenset({"unsupported"}),
    )


def test_a_fault_is_put_down_to_whom_it_excluded() -> None:
    """Else to what was running, which may be nothing."""
    assert PointFault("a", "hung", 0, "", blamed="b").culprit == "b"
    assert PointFault("a", "hung", 0, "").culprit == "a"
    assert PointFault("", "crashed", 0, "").culprit == ""


def test_a_node_without_a_name_is_named_beside_others_that_have_one() -> None:
    """And stays without where all are."""
    assert nodes_of([RESULT, RESULT]) == ["", ""]
    assert nodes_of([replace(RESULT, node="n1"), RESULT]) == ["n1", UNNAMED]
