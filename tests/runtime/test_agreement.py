"""The agreements of one group, one after another: a rank that missed one is not taken for being with the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch.distributed as dist

from ccl_dispatch.runtime.agreement import AS_IT_WAS, PROTOCOL, Outcome, Proposal, _Talk, agree


def _judge(claims: Sequence[Any]) -> Proposal:
    return Proposal("change", "", quiet=True, speaker=0)


def _agree(store: Any, rank: int, names: str, timeout: float) -> dict[str, Outcome]:
    """By communicator, what `rank` learns."""
    return {name: agree(store, rank, 2, name, _judge, timeout) for name in names}


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("late", [0.5, 0.9])
def test_a_rank_that_missed_one_changes_nothing_alone(missing: int, late: float) -> None:
    """One rank misses communicator a, and comes for b and c while the other waits for it at b, or at c. No communicator
    is changed by one of them alone; before, the one's c and the other's b were.
    """
    store = dist.HashStore()

    def rank(number: int) -> dict[str, Outcome]:
        if number != missing:
            return _agree(store, number, "abc", 0.4)
        time.sleep(late)
        return _agree(store, number, "bc", 0.4)

    with ThreadPoolExecutor(2) as ranks:
        first, second = ranks.map(rank, range(2))
    for name in "bc":
        assert first[name].proposal.decision == second[name].proposal.decision, (name, first, second)
    assert first["c"].proposal.decision == AS_IT_WAS
    assert "restart the job" in first["c"].proposal.reason.lower()
    assert all(outcome.certain for outcome in (*first.values(), *second.values()))
    assert not first["c"].proposal.quiet


def test_what_one_could_not_learn_is_not_built_upon() -> None:
    """Where the verdict before this one is not to be had, nothing is changed."""
    store = dist.HashStore()
    for rank in range(2):
        store.add(f"ccl_dispatch/{PROTOCOL}/count/{rank}", 1)
    with ThreadPoolExecutor(2) as ranks:
        found = list(ranks.map(lambda rank: _agree(store, rank, "a", 5)["a"], range(2)))
    assert [outcome.proposal.decision for outcome in found] == [AS_IT_WAS] * 2


def test_ranks_that_all_come_agree_each_time() -> None:
    """Ten communicators of one group, one after another, are all changed."""
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as ranks:
        found = list(ranks.map(lambda rank: _agree(store, rank, "abcdefghij", 10), range(2)))
    assert {outcome.proposal.decision for of_rank in found for outcome in of_rank.values()} == {"change"}


def test_a_rank_that_gets_no_thread_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one rank's container allows no more threads both agree as ever; it raised there, and the other waited."""
    start = _Talk.start

    def refuse(talk: _Talk) -> None:
        if talk.rank == 0:
            raise RuntimeError("can't start new thread")
        start(talk)

    monkeypatch.setattr(_Talk, "start", refuse)
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as ranks:
        found = list(ranks.map(lambda rank: _agree(store, rank, "ab", 10), range(2)))
    assert {outcome.proposal.decision for of_rank in found for outcome in of_rank.values()} == {"change"}
    assert all(outcome.certain for of_rank in found for outcome in of_rank.values())
