"""All ranks take one branch: a verdict on what every rank said, settled once in the store that the ranks share.

The store (a process group's own, on a TCPStore) offers compare-and-set, with which any number of processes agree
however slow some of them are. Nothing here is a collective: no rank can hang because another one is late, dead, or runs
without this code.

1. Every rank publishes its claim and waits for the others', until its time is up.
2. Whoever has all claims, or has waited long enough, proposes what they say. The first proposal stands; all read it.
3. A proposal that changes something is acted on only when every rank has said that it read it. That is the final word,
   again set once: the proposal itself, or "as it was" by the first rank that waited too long.

A group's agreements are told apart by how many each rank has had. After one that a rank did not come to, these counts
may belong to different communicators, and the group's later agreements all leave everything as it was.

Leaving everything as it was needs nobody's word: a rank that never learns anything has done just that. So the ranks can
end apart only when one of them loses the store between its own "read it" and reading the final word, while the others
keep it. It then stays as it was and says so as an error; docs/serving.md has the reasoning.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# In the keys: ranks that speak another version of this protocol don't see each other, and all stay as they were.
PROTOCOL = "2"
AS_IT_WAS = "as it was"

# How much longer than its own clock the caller waits for the thread that talks to the store.
_GRACE_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02
_LONGEST_REASON = 2000
_LEFT = "an earlier installation on this group was left alone"


class Proposal(NamedTuple):
    """What the claims come to.

    Attributes:
        decision: `AS_IT_WAS`, or a word of the caller's that changes something.
        reason: why, for a reader; empty when all is well.
        quiet: nobody needs to be told.
        speaker: the rank that tells, so that it is told once.
        left: some rank did not take part, in this agreement of the group or in an earlier one.
    """

    decision: str
    reason: str
    quiet: bool
    speaker: int
    left: bool = False


class Outcome(NamedTuple):
    """The verdict as this rank knows it; `certain` is false when the others may have gone on without it."""

    proposal: Proposal
    certain: bool


# From all ranks' claims, in order, to a proposal; the same on every rank for the same claims.
Judge = Callable[[Sequence[Any]], Proposal]


def agree(store: Any, rank: int, size: int, claim: Any, judge: Judge, timeout: float) -> Outcome:
    """The verdict that all ranks of the store's group come to. Never raises, never waits much longer than `timeout`.

    Args:
        store: a `torch.distributed.Store` that the ranks share, and no other group uses under the same prefix.
        rank: this process's rank among `size`.
        claim: JSON data.
        judge: pure, and quick.
        timeout: seconds to wait for the slowest rank, and again for all to have read a proposal that changes something.
    """
    if size == 1:
        return Outcome(judge([claim]), certain=True)
    talk = _Talk(store, rank, size, claim, judge, timeout)
    try:
        talk.start()
    except RuntimeError:  # there is no thread to be had, such as where a container limits them: in this one, then
        talk.run()
    else:
        talk.join(timeout + _GRACE_SECONDS)
    if talk.is_alive() and not talk.give_up():
        # It has said that it read the proposal, so the others may act on it: the final word is worth waiting for.
        talk.join(timeout + _GRACE_SECONDS)
    if talk.outcome is not None:
        return talk.outcome
    problem = talk.problem or "the store that the ranks share does not answer"
    reason = f"rank {rank} could not learn what the others agreed on: {problem}"
    return Outcome(Proposal(AS_IT_WAS, reason, quiet=False, speaker=rank), certain=not talk.acting)


class _Talk(threading.Thread):
    """One rank's part of the conversation, in a thread of its own: a store whose server hangs can't be interrupted."""

    def __init__(self, store: Any, rank: int, size: int, claim: Any, judge: Judge, timeout: float) -> None:
        super().__init__(name="ccl-dispatch-agreement", daemon=True)
        self.store, self.rank, self.size = store, rank, size
        self.claim, self.judge, self.timeout = claim, judge, timeout
        self.prefix = ""
        self.outcome: Outcome | None = None
        self.problem = ""
        # True from just before this rank says "read it": from then on the others may act.
        self.acting = False
        self._given_up = False
        self._lock = threading.Lock()

    def give_up(self) -> bool:
        """End without having said "read it"; false when that was said, or is just being said."""
        with self._lock:
            self._given_up = not self.acting
            return self._given_up

    def run(self) -> None:
        """Thread body."""
        try:
            self._talk()
        except Exception as problem:  # noqa: BLE001 - a broken store means "as it was", not a failed process
            self.problem = str(problem)[:_LONGEST_REASON] or type(problem).__name__

    def _talk(self) -> None:
        # Which of this group's agreements this is: a rank that missed one finds its verdict, not the next one's.
        base = f"ccl_dispatch/{PROTOCOL}"
        number = self.store.add(f"{base}/count/{self.rank}", 1)
        self.prefix = f"{base}/{number}"
        if number > 1 and (reason := self._left_before(f"{base}/{number - 1}/proposal")):
            mine = Proposal(AS_IT_WAS, reason, quiet=False, speaker=self.rank, left=True)
            self.outcome = Outcome(self._settle("proposal", mine), certain=True)
            return
        self.store.set(self._key("claim", self.rank), json.dumps(self.claim))
        claims = [self._key("claim", rank) for rank in range(self.size)]
        self._wait(claims, "proposal")
        proposal = self._propose(claims)
        if proposal.decision == AS_IT_WAS:
            self.outcome = Outcome(proposal, certain=True)
            return
        with self._lock:
            if self._given_up:
                return
            self.acting = True
        self.store.set(self._key("read", self.rank), "1")
        everyone = [self._key("read", rank) for rank in range(self.size)]
        self._wait(everyone, "final")
        final = proposal
        if missing := self._missing(everyone):
            reason = f"{missing} did not take note of the verdict within {self.timeout:g} s"
            final = Proposal(AS_IT_WAS, reason, quiet=False, speaker=self.rank)
        self.outcome = Outcome(self._settle("final", final), certain=True)

    def _left_before(self, key: str) -> str:
        """Why the count of this group's agreements says nothing any more, by the one before; empty when it does.

        A rank that missed one is a number behind from then on: its next communicator would meet the others' last one
        under one number, and both be changed, each alone. The verdict that a rank did not come stands before anybody
        goes on to the next number, so all see it; who could not learn that verdict takes it to be that.
        """
        if not self.store.check([key]):
            return "this rank could not learn what came of the group's installation before this one. Restart the job"
        before = _proposal(self.store.get(key))
        if not before.left or before.reason.startswith(_LEFT):
            return before.reason if before.left else ""
        return f"{_LEFT} ({before.reason}), and which communicators belong together is not known since. Restart the job"

    def _propose(self, claims: list[str]) -> Proposal:
        """The proposal that stands: ours, unless another rank was first."""
        if self.store.check([self._key("proposal")]):
            return _proposal(self.store.get(self._key("proposal")))
        if missing := self._missing(claims):
            # A rank that is not here can't be made to change anything; whether it ever will is not known.
            reason = f"{missing} did not come within {self.timeout:g} s"
            mine = Proposal(AS_IT_WAS, reason, quiet=False, speaker=self.rank, left=True)
        else:
            mine = self.judge([json.loads(self.store.get(key)) for key in claims])
        return self._settle("proposal", mine)

    def _settle(self, name: str, mine: Proposal) -> Proposal:
        """What stands under `name`: ours, unless another rank was first."""
        mine = mine._replace(reason=mine.reason[:_LONGEST_REASON])
        return _proposal(self.store.compare_set(self._key(name), "", json.dumps(list(mine))))

    def _missing(self, keys: list[str]) -> str:
        """The ranks whose key is not there, in words; empty when none is missing."""
        if self.store.check(keys):
            return ""
        missing = [str(rank) for rank, key in enumerate(keys) if not self.store.check([key])]
        return f"rank{'s' if len(missing) > 1 else ''} {', '.join(missing)}" if missing else ""

    def _wait(self, keys: list[str], settled: str) -> None:
        """Until all `keys` are there, or what they are for is settled already, or this rank's time is up."""
        end = time.monotonic() + self.timeout
        pause = _FIRST_PAUSE
        # `check` answers at once and leaves the store to others in between; `wait` would hold it, also from NCCL.
        while not self.store.check(keys) and not self.store.check([self._key(settled)]):
            left = end - time.monotonic()
            if left <= 0 or self._given_up:
                return
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _key(self, name: str, rank: int | None = None) -> str:
        return f"{self.prefix}/{name}" if rank is None else f"{self.prefix}/{name}/{rank}"


def _proposal(text: str | bytes) -> Proposal:
    decision, reason, quiet, speaker, left = json.loads(text)
    return Proposal(str(decision), str(reason), bool(quiet), int(speaker), bool(left))
