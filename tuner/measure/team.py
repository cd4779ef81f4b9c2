"""What the measuring loop needs to know of the ranks that measure together, and the team of one that replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

# Values that one rank can show the others in one exchange.
EXCHANGE_SLOTS = 64


class Team(Protocol):
    """The ranks of one world size. Rank 0 decides; the others learn of it."""

    rank: int
    world_size: int
    #: The least length of a timed region: what keeps the clock's resolution and reading out of the result.
    region_seconds: float

    def clock(self) -> float:
        """Seconds of a clock that never jumps."""

    def barrier(self) -> None:
        """Return when every rank has come."""

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        """Show `values` (at most EXCHANGE_SLOTS) to rank 0, which calls `judge` with those of all ranks.

        Returns what `judge` returned, on every rank.
        """

    def enter(self, backend: str) -> None:
        """Note that this rank is about to run `backend` (empty: none), for whoever asks after a crash or a hang."""


class VirtualTeam:
    """One rank whose clock moves only when a replayed call says how long it took."""

    rank = 0
    world_size = 1
    region_seconds = 0.0

    def __init__(self) -> None:
        self._now = 0.0

    def clock(self) -> float:
        """Virtual seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._now += seconds

    def barrier(self) -> None:
        """A team of one never waits."""

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        """Rank 0 alone."""
        return judge([list(values)])

    def enter(self, backend: str) -> None:
        """Replayed calls neither crash nor hang."""
