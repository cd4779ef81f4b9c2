"""A barrier between the ranks of one host."""

from __future__ import annotations

import os

from ccl_dispatch.tuner.shared_memory.semaphores import STRIDE, Semaphores

# About the cost of two wake-ups: spinning longer than that loses against sleeping.
SPIN_SECONDS = 60e-6


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


class SharedBarrier:
    """A dissemination barrier (Hensgen, Finkel and Manber 1988): ceil(log2 n) rounds of one post and one wait each.

    In round k rank r posts to rank r + 2^k and waits for rank r - 2^k. Every semaphore has one poster and one waiter,
    so a rank that runs ahead into the next barrier only leaves a count behind that is consumed in order.
    """

    def __init__(self, address: int, rank: int, world_size: int, *, spin: bool | None = None) -> None:
        self._semaphores = Semaphores(address, world_size * _rounds(world_size))
        rounds = range(_rounds(world_size))
        self._steps = [(((rank + 2**k) % world_size) * len(rounds) + k, rank * len(rounds) + k) for k in rounds]
        # Spinning with more ranks than cores keeps the rank that is waited for off its core.
        self._spin = SPIN_SECONDS if (usable_cores() >= world_size if spin is None else spin) else 0.0

    @staticmethod
    def bytes_needed(world_size: int) -> int:
        """Bytes of shared memory that a barrier of `world_size` ranks takes."""
        return world_size * _rounds(world_size) * STRIDE

    def initialise(self) -> None:
        """Make the semaphores; exactly one rank or the parent does this, before any rank waits."""
        self._semaphores.initialise()

    def wait(self, timeout: float) -> None:
        """Return when all ranks have come; memory written before is visible to every rank after.

        Raises:
            TimeoutError: a rank did not come within `timeout` seconds. The barrier can't be used afterwards.
        """
        post, wait, spin = self._semaphores.post, self._semaphores.wait, self._spin
        for theirs, mine in self._steps:
            post(theirs)
            wait(mine, timeout, spin)


def _rounds(world_size: int) -> int:
    return max(1, (world_size - 1).bit_length())
