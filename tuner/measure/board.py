"""The memory that the workers of one host and their parent share: barriers, exchanged values, and who runs what."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ccl_dispatch.tuner.measure.team import EXCHANGE_SLOTS
from ccl_dispatch.tuner.shared_memory.barrier import SharedBarrier
from ccl_dispatch.tuner.shared_memory.segment import Segment


class Board:
    """Layout: one barrier per world size, then per rank EXCHANGE_SLOTS doubles, one decision, one phase per rank."""

    def __init__(self, segment: Segment, world_sizes: Sequence[int]) -> None:
        self.segment = segment
        self.ranks = max(world_sizes)
        self.barriers_at: dict[int, int] = {}
        at = 0
        for world_size in world_sizes:
            self.barriers_at[world_size] = at
            at += SharedBarrier.bytes_needed(world_size)
        view = memoryview(segment.map)
        doubles = 8 * self.ranks * EXCHANGE_SLOTS
        self.values = view[at : at + doubles].cast("d")
        self.decision = view[at + doubles : at + doubles + 8].cast("q")
        self.phases = view[at + doubles + 8 : at + doubles + 8 + 8 * self.ranks].cast("q")

    @staticmethod
    def bytes_needed(world_sizes: Sequence[int]) -> int:
        """The size of a segment that holds the board."""
        ranks = max(world_sizes)
        return sum(map(SharedBarrier.bytes_needed, world_sizes)) + 8 * (ranks * EXCHANGE_SLOTS + 1 + ranks)

    def initialise(self) -> None:
        """Make the barriers; the parent does this before it starts the workers."""
        for world_size, at in self.barriers_at.items():
            SharedBarrier(self.segment.base + at, 0, world_size).initialise()

    def enter(self, rank: int, names: Sequence[str], name: str) -> None:
        """Note that `rank` is about to run `name` of `names`, or nothing when that is empty."""
        self.phases[rank] = names.index(name) + 1 if name else 0

    def running(self, names: Sequence[str]) -> list[str]:
        """Per rank the backend that it noted last, of `names`; empty when it runs none."""
        return [names[phase - 1] if 0 < phase <= len(names) else "" for phase in self.phases]


class BoardTeam:
    """The first `world_size` workers, meeting on the board."""

    #: 1000 times what reading the host's clock costs and resolves (about 50 ns).
    region_seconds = 50e-6

    def __init__(self, board: Board, rank: int, world_size: int, names: Sequence[str], timeout: float) -> None:
        self.rank = rank
        self.world_size = world_size
        self.clock = time.perf_counter
        self._board = board
        self._timeout = timeout
        self._phase = {"": 0, **{name: index + 1 for index, name in enumerate(names)}}
        self._barrier = SharedBarrier(board.segment.base + board.barriers_at[world_size], rank, world_size)

    def barrier(self) -> None:
        """Return when every rank has come."""
        self._barrier.wait(self._timeout)

    def decide(self, values: Sequence[float], judge: Callable[[list[list[float]]], int]) -> int:
        """See `Team.decide`. The first meeting publishes the values, the second the decision."""
        board = self._board
        start = self.rank * EXCHANGE_SLOTS
        for index, value in enumerate(values):
            board.values[start + index] = value
        self.barrier()
        if self.rank == 0:
            count = len(values)
            starts = range(0, self.world_size * EXCHANGE_SLOTS, EXCHANGE_SLOTS)
            board.decision[0] = judge([list(board.values[at : at + count]) for at in starts])
        self.barrier()
        decision: int = board.decision[0]
        return decision

    def enter(self, backend: str) -> None:
        """See `Team.enter`."""
        self._board.phases[self.rank] = self._phase[backend]
