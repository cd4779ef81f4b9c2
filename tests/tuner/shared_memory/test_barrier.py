"""The barrier holds every rank until the last has come, for any number of ranks on any number of cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.tuner.shared_memory import Segment, SharedBarrier
from ccl_dispatch.tuner.shared_memory.semaphores import STRIDE

# A forked child here runs this package's code alone: it needs no lock that another thread of the tests may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _forked(world_size: int, work: Callable[[int], bool]) -> list[int]:
    """Exit codes of one forked process per rank; 0 where `work` said True."""
    pids = []
    for rank in range(world_size):
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                code = 0 if work(rank) else 1
            finally:
                os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _room(world_size: int) -> tuple[Segment, int]:
    """A segment with a barrier, made, and where one 8-byte counter per rank follows it."""
    at = SharedBarrier.bytes_needed(world_size)
    segment = Segment.create(at + 8 * world_size)
    SharedBarrier(segment.base, 0, world_size).initialise()
    segment.close_fd()
    return segment, at


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
def test_no_rank_passes_before_the_last_has_come(world_size: int) -> None:
    """After each of 300 barriers every rank sees that all others wrote this round, and none is two rounds ahead."""
    segment, at = _room(world_size)

    def work(rank: int) -> bool:
        barrier = SharedBarrier(segment.base, rank, world_size)
        counters = memoryview(segment.map)[at:].cast("q")
        for step in range(1, 301):
            counters[rank] = step
            barrier.wait(30.0)
            if not all(step <= counters[peer] <= step + 1 for peer in range(world_size)):
                return False
        return True

    assert _forked(world_size, work) == [0] * world_size


@pytest.mark.parametrize("spin", [True, False])
def test_eight_ranks_are_not_starved(spin: bool) -> None:
    """Eight ranks on few cores pass 500 barriers well within 20 s, even where they are told to spin."""
    segment, _at = _room(8)

    def work(rank: int) -> bool:
        barrier = SharedBarrier(segment.base, rank, 8, spin=spin)
        for _ in range(500):
            barrier.wait(20.0)
        return True

    began = time.monotonic()
    assert _forked(8, work) == [0] * 8
    assert time.monotonic() - began < 20.0


def test_a_missing_rank_is_a_timeout_for_all_others() -> None:
    """When one of four ranks stays away, each of the three that came gives up in time."""
    segment, _at = _room(4)

    def work(rank: int) -> bool:
        if rank == 3:
            return True
        try:
            SharedBarrier(segment.base, rank, 4).wait(0.2)
        except TimeoutError:
            return True
        return False

    assert _forked(4, work) == [0] * 4


@settings(max_examples=60, deadline=None)
@given(world_size=st.integers(1, 300))
def test_every_semaphore_has_one_poster_and_one_waiter(world_size: int) -> None:
    """At any world size each rank waits at semaphores of its own, each posted by exactly one rank, within the room."""
    segment = Segment.create(SharedBarrier.bytes_needed(world_size))
    steps = [SharedBarrier(segment.base, rank, world_size)._steps for rank in range(world_size)]
    segment.close_fd()
    everything = list(range(SharedBarrier.bytes_needed(world_size) // STRIDE))
    assert sorted(theirs for rank in steps for theirs, _ in rank) == everything
    assert sorted(mine for rank in steps for _, mine in rank) == everything
