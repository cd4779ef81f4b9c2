"""Faults in a table's evidence: none is lost or told twice, and a table whose evidence is odd is read all the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.evidence.disturbed import disturbed_evidence, disturbed_in_words, disturbed_results_in_words
from ccl_dispatch.tuner.evidence.faults import (
    KEY,
    LOG_LINES,
    MAX_GROUPS,
    count_faults,
    fault_evidence,
    faults_in_words,
    faults_of,
    group_faults,
)
from ccl_dispatch.tuner.evidence.ranks import slow_rank_evidence, slow_ranks, slow_ranks_of
from ccl_dispatch.tuner.samples import PointFault, PointResult

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)

_FAULTS = st.builds(
    PointFault,
    backend=st.sampled_from(["", "aiter", "symm_mem"]),
    reason=st.sampled_from(["crashed", "hung"]),
    rank=st.integers(0, 1),
    detail=st.sampled_from(["signal 11", "signal 6"]),
    log=st.sampled_from(["", "one line", "another"]),
    blamed=st.sampled_from(["", "aiter"]),
)
_RESULTS = st.lists(
    st.builds(
        PointResult,
        cell=st.sampled_from([CELL, CELL._replace(world_size=4)]),
        size=st.sampled_from([16, 32, 64]),
        latencies_us=st.just({}),
        faults=st.lists(_FAULTS, max_size=3).map(tuple),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(_RESULTS, st.randoms(use_true_random=False))
def test_every_fault_is_in_one_group_whatever_their_order(results: list[PointResult], rng: Any) -> None:
    """A group has all faults of a cell, culprit, reason and outcome, from the smallest to the largest size at which
    they were, and tells of one that was there, of one with a log where any has one; a table has the same groups.
    """
    groups = group_faults(results)
    found = Counter(
        (result.cell.name, fault.blamed or fault.backend, fault.reason, fault.blamed != "")
        for result in results
        for fault in result.faults
    )
    assert [((g.cell, g.backend, g.reason, g.excluded), g.times) for g in groups] == sorted(found.items())
    for group in groups:
        there = [
            (result.size, f"rank {fault.rank}: {fault.detail}", fault.log)
            for result in results
            for fault in result.faults
            if (result.cell.name, fault.culprit, fault.reason) == (group.cell, group.backend, group.reason)
            and bool(fault.blamed) == group.excluded
        ]
        assert (group.low, group.high) == (min(size for size, _, _ in there), max(size for size, _, _ in there))
        smallest = min(size for size, _, log in there if log or not any(log for _, _, log in there))
        assert (smallest, group.detail, group.log) in there
        assert group.log or not any(log for _, _, log in there)
    shuffled = [replace(result, faults=tuple(rng.sample(result.faults, len(result.faults)))) for result in results]
    rng.shuffle(shuffled)
    assert group_faults(shuffled) == groups
    both = [PointResult(CELL, 16, {}, faults=(PointFault("aiter", "hung", rank, "late"),)) for rank in (0, 1)]
    assert group_faults(both) == group_faults(both[::-1])
    evidence = fault_evidence(results)
    assert faults_of(make_table(())._replace(evidence=evidence)) == groups
    assert (count_faults(results)["total"], bool(evidence)) == (evidence.get("faults_in_all", 0), bool(groups))


def test_a_table_keeps_the_most_frequent_groups_and_both_ends_of_a_log() -> None:
    """And says how many faults there were in all; the rest stays with the study."""
    log = "\n".join(f"line {number} {'x' * 300}" for number in range(2 * LOG_LINES))
    results = [
        PointResult(CELL, 16, {}, faults=(PointFault(f"b{place:03}", "hung", 0, "late", log),) * (1 + place % 3))
        for place in range(3 * MAX_GROUPS // 2)
    ]
    evidence = fault_evidence(results)
    assert evidence["faults_in_all"] == sum(len(result.faults) for result in results)
    kept = faults_of(make_table(())._replace(evidence=evidence))
    assert [(g.backend, g.times) for g in kept] == [
        (r.faults[0].backend, len(r.faults)) for r in results if len(r.faults) > 1
    ]
    lines = kept[0].log.splitlines()
    half = LOG_LINES // 2
    assert [line.split(" ")[:2] for line in lines[:half]] == [["line", str(n)] for n in range(half)]
    assert [line.split(" ")[1] for line in lines[half + 1 :]] == [
        str(n) for n in range(2 * LOG_LINES - half, 2 * LOG_LINES)
    ]
    assert lines[half] == "..."
    assert max(map(len, lines)) < 200


def test_faults_are_told_in_words() -> None:
    """How many, of what, and how many of them went away; nothing of none."""
    faults = (PointFault("aiter", "wrong_output", 0, ""), PointFault("", "hung", 0, "", blamed="aiter"))
    assert faults_in_words(count_faults([PointResult(CELL, 16, {}, faults=faults)])) == (
        "2 faults while measuring (aiter hung 1, aiter wrong output 1), 1 of which went away when measured again"
    )
    assert "went away" not in faults_in_words(count_faults([PointResult(CELL, 16, {}, faults=faults[1:])]))
    assert faults_in_words(count_faults([])) == ""
    (again, excluded) = (next(g.lines("- ")) for g in group_faults([PointResult(CELL, 16, {}, faults=faults)])[::-1])
    assert again == "- aiter wrong output once at 16 B, went away when it was measured again: rank 0: "
    assert excluded == "- aiter hung once at 16 B, excluded for it: rank 0: "
    nobody = PointResult(CELL, 16, {}, faults=(PointFault("", "hung", 0, "", "a log"),) * 2)
    (group,) = group_faults([nobody, replace(nobody, size=64)])
    assert list(group.lines("")) == [
        f"no backend hung 4 times at {group.sizes}, went away when it was measured again: rank 0: ",
        "    | a log",
    ]


def test_other_work_is_told_from_a_share_that_disturbs_on() -> None:
    """The mean of the visits that it disturbed, of all visits; of merged tables by how many visits each tells of."""

    def visits(*shares: float | None) -> list[PointResult]:
        told: list[dict[str, float]] = [{} if share is None else {"others": share} for share in shares]
        return [PointResult(CELL, 16, {}, condition=condition) for condition in told]

    calm, busy, busier = visits(0.0, 0.049, None), visits(0.05, 0.15, 0.0, None), visits(0.5)
    assert disturbed_evidence(calm) == {}
    assert disturbed_results_in_words(calm) == ""
    assert disturbed_evidence(busy) == {"others_used": {"share": 0.1, "visits": 2, "of": 4}}
    assert "10% of the processors during at least 2 of 4 visits" in disturbed_results_in_words(busy)
    merged = {"a": disturbed_evidence(busy), "b": {"merged": {"c": disturbed_evidence(busier)}}, "d": "odd"}
    table = make_table(())._replace(evidence={"merged": merged})
    assert "23% of the processors during at least 3 of 5 visits" in disturbed_in_words(table)


def test_a_rank_is_slow_where_visits_show_it_beyond_noise() -> None:
    """By more than a tenth, from enough visits, and only where there are others to hold it against."""

    def visits(slower: float, count: int = 12) -> list[PointResult]:
        return [PointResult(CELL, 16, {}, rank_medians_us={"alone": (9.0,), "a": (1.0, slower, 1.0)})] * count

    assert [(rank.rank, rank.slower, rank.visits) for rank in slow_ranks(visits(1.2))] == [(1, 0.2, 12)]
    assert slow_ranks(visits(1.09)) == slow_ranks(visits(1.2, count=3)) == []
    for alone in ((9.0,), (), (0.0, 1.0)):
        assert slow_ranks([PointResult(CELL, 16, {}, rank_medians_us={"a": alone})] * 12) == []
    table = make_table(())._replace(evidence=slow_rank_evidence(visits(1.2)))
    assert slow_ranks_of(table) == slow_ranks(visits(1.2))
    assert slow_rank_evidence(visits(1.0)) == {}


@pytest.mark.parametrize("odd", [None, 3, "text", [], {}, [None, 3, {}], [{"times": "many"}], {"share": "x"}])
def test_evidence_that_is_none_of_these_is_no_error(odd: Any) -> None:
    """Evidence is free: whatever stands where faults, ranks, other work or merged tables are looked for."""
    for key in (KEY, "slow_ranks", "others_used", "merged"):
        table = make_table(())._replace(evidence={key: odd})
        assert (faults_of(table), slow_ranks_of(table), disturbed_in_words(table)) == ([], [], "")
