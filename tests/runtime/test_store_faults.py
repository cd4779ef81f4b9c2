"""A rank whose store fails or hangs at any step of an agreement: what the others learn, and what it says itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch.distributed as dist

from ccl_dispatch.runtime import agreement
from ccl_dispatch.runtime.agreement import AS_IT_WAS, PROTOCOL, Outcome, Proposal, _Talk, agree

RANKS, FAULTY = 3, 1
TIMEOUT, GRACE = 1.0, 0.2
# Every step in which a rank talks to the store where nothing is wrong: what is asked, and of what. The first ones come
# before the rank says that it read the proposal; those to propose are taken by one rank alone.
COMES = (("add", "count"), ("set", "claim"), ("check", "claim"))
PROPOSES = (("check", "proposal"), ("get", "claim"), ("compare_set", "proposal"))
ENDS = (("set", "read"), ("check", "read"), ("compare_set", "final"))
STEPS = (*COMES, *PROPOSES, *ENDS)
WAYS = ("fails", "hangs before", "hangs after")


class Store:
    """A rank's way to the store that all share, which fails or hangs at one step until it is let go.

    With `first`, that rank's own, the claims are not there for this rank before the other has come to its step.
    """

    def __init__(
        self, store: Any, step: tuple[str, str] | None = None, way: str = "", first: Store | None = None
    ) -> None:
        self._store, self._step, self._way, self._first = store, step, way, first
        self.reached, self.let_go = False, threading.Event()

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def ask(keys: Any, *values: Any) -> Any:
            if self._first and not self._first.reached and (name, "/claim/" in str(keys)) == ("check", True):
                return False
            if self._step is None or name != self._step[0] or f"/{self._step[1]}" not in str(keys):
                return real(keys, *values)
            self.reached = True
            if self._way == "fails":
                raise RuntimeError("the store is gone")
            answer = real(keys, *values) if self._way == "hangs after" else None
            self.let_go.wait()
            return answer if self._way == "hangs after" else real(keys, *values)

        return ask


class Ended(NamedTuple):
    """What came of one agreement with a fault."""

    outcomes: list[Outcome]
    seconds: list[float]
    read: list[bool]
    reached: bool


def _judge(claims: Sequence[Any]) -> Proposal:
    assert list(claims) == list(range(RANKS))
    return Proposal("change", "", quiet=True, speaker=0)


def _run(step: tuple[str, str], way: str) -> Ended:
    """One agreement in which one rank has the fault; its store works again once all have their answers."""
    shared = dist.HashStore()
    own = Store(shared, step, way)
    stores = [
        own if rank == FAULTY else Store(shared, first=own if step in PROPOSES else None) for rank in range(RANKS)
    ]

    def rank(number: int) -> tuple[Outcome, float]:
        begun = time.monotonic()
        outcome = agree(stores[number], number, RANKS, number, _judge, TIMEOUT)
        return outcome, time.monotonic() - begun

    with ThreadPoolExecutor(RANKS) as ranks:
        found = list(ranks.map(rank, range(RANKS)))
    own.let_go.set()
    time.sleep(0.1)
    read = [shared.check([f"ccl_dispatch/{PROTOCOL}/1/read/{number}"]) for number in range(RANKS)]
    return Ended([each for each, _ in found], [each for _, each in found], read, own.reached)


@pytest.fixture(scope="module")
def ended() -> dict[tuple[tuple[str, str], str], Ended]:
    """By step and way what came of it; all at once, since each is mostly waiting."""
    cases = [(step, way) for step in STEPS for way in WAYS]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(cases)) as several:
        patch.setattr(agreement, "_GRACE_SECONDS", GRACE)
        return dict(zip(cases, several.map(lambda case: _run(*case), cases), strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", STEPS, ids=" ".join)
def test_no_rank_is_apart_without_saying_so(
    ended: dict[tuple[tuple[str, str], str], Ended], step: tuple[str, str], way: str
) -> None:
    """All that are certain decide alike, and the others always are; nobody changes before all said that they read it,
    and a rank that gave up never says so later, when its store answers again. Nobody waits for much longer than twice
    its time.
    """
    found = ended[step, way]
    assert found.reached
    others = [outcome for rank, outcome in enumerate(found.outcomes) if rank != FAULTY]
    assert all(outcome.certain for outcome in others)
    assert len({outcome.proposal.decision for outcome in found.outcomes if outcome.certain}) == 1
    own = found.outcomes[FAULTY]
    if step not in ENDS:
        assert own.certain
        assert {outcome.proposal.decision for outcome in found.outcomes} == {AS_IT_WAS}
        assert not found.read[FAULTY]
    else:
        said = step != ("set", "read") or way == "hangs after"
        assert {outcome.proposal.decision for outcome in others} == {"change" if said else AS_IT_WAS}
        assert (own.certain, own.proposal.decision) == (False, AS_IT_WAS)
        told = "the store is gone" if way == "fails" else "the store that the ranks share does not answer"
        assert own.proposal.reason == f"rank {FAULTY} could not learn what the others agreed on: {told}"
        assert (own.proposal.speaker, own.proposal.quiet) == (FAULTY, False)
    assert max(found.seconds) < 2 * (TIMEOUT + GRACE) + 1.5


def test_giving_up_and_saying_read_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives up while "read it" is just being said waits for that, and is told that it was said."""
    answers: list[bool] = []
    asked: list[threading.Thread] = []

    def acting(talk: _Talk, value: bool) -> None:
        if value:
            asker = threading.Thread(target=lambda: answers.append(talk.give_up()))
            asker.start()
            asked.append(asker)
            asker.join(0.1)
            assert asker.is_alive()
        vars(talk)["acting now"] = value

    monkeypatch.setattr(_Talk, "acting", property(lambda talk: vars(talk)["acting now"], acting), raising=False)
    store = dist.HashStore()
    with ThreadPoolExecutor(RANKS) as ranks:
        found = list(ranks.map(lambda rank: agree(store, rank, RANKS, rank, _judge, 5), range(RANKS)))
    for asker in asked:
        asker.join()
    assert answers == [False] * RANKS
    assert [(outcome.proposal.decision, outcome.certain) for outcome in found] == [("change", True)] * RANKS


def test_a_thread_that_hangs_keeps_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left behind, and does not keep the interpreter from ending."""
    monkeypatch.setattr(agreement, "_GRACE_SECONDS", 0.0)
    store = Store(dist.HashStore(), ("set", "claim"), "hangs before")
    assert agree(store, 0, 2, 0, _judge, 0.05).proposal.decision == AS_IT_WAS
    left = [thread for thread in threading.enumerate() if isinstance(thread, _Talk) and thread.store is store]
    assert [thread.daemon for thread in left] == [True]
    store.let_go.set()
    left[0].join()


def test_the_final_word_is_waited_for_by_who_said_that_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store answers again after this rank's time, but within as much again, it knows what the others do."""
    monkeypatch.setattr(agreement, "_GRACE_SECONDS", GRACE)
    shared = dist.HashStore()
    slow = Store(shared, ("set", "read"), "hangs before")

    def rank(number: int) -> Outcome:
        return agree(slow if number == FAULTY else shared, number, RANKS, number, _judge, TIMEOUT)

    letting = threading.Timer(1.6 * TIMEOUT, slow.let_go.set)
    letting.start()
    with ThreadPoolExecutor(RANKS) as ranks:
        found = list(ranks.map(rank, range(RANKS)))
    letting.join()
    assert {outcome.proposal.reason for outcome in found} == {
        f"rank {FAULTY} did not take note of the verdict within {TIMEOUT:g} s"
    }
    assert [(outcome.proposal.decision, outcome.certain) for outcome in found] == [(AS_IT_WAS, True)] * RANKS
