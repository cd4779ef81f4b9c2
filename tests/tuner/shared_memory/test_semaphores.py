"""Semaphores count, order memory between processes, wake sleepers and give up in time."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ccl_dispatch.tuner.shared_memory import Segment, Semaphores
from ccl_dispatch.tuner.shared_memory.semaphores import STRIDE

# A forked child here runs this package's code alone: it needs no lock that another thread of the tests may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _two() -> tuple[Segment, Semaphores]:
    segment = Segment.create(4096)
    semaphores = Semaphores(segment.base, 2)
    semaphores.initialise()
    segment.close_fd()
    return segment, semaphores


def test_every_post_is_taken_exactly_once() -> None:
    """Three posts let three waits through and not a fourth, and a post to one does not count for the other."""
    segment, semaphores = _two()
    for _ in range(3):
        semaphores.post(0)
    for _ in range(3):
        semaphores.wait(0, 0.0)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        semaphores.wait(0, 0.01)
    with pytest.raises(TimeoutError):
        semaphores.wait(1, 0.01)
    assert segment.map[2 * STRIDE :] == bytes(4096 - 2 * STRIDE)


@pytest.mark.parametrize("spin", [0.0, 1e-3])
def test_gives_up_after_the_timeout_and_not_before(spin: float) -> None:
    """Without a post, waiting takes the timeout, with and without a spin before."""
    _segment, semaphores = _two()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        semaphores.wait(0, 0.1, spin)
    assert 0.099 <= time.monotonic() - began < 5.0


@pytest.mark.parametrize("spin", [0.0, 50e-6])
def test_what_was_written_before_a_post_is_seen_after_the_wait(spin: float) -> None:
    """Two processes hand a counter to and fro 2000 times, and each finds it as the other left it."""
    segment, semaphores = _two()
    shared = memoryview(segment.map)[1024:1032].cast("q")
    child = os.fork()
    if child == 0:
        right = True
        for step in range(2000):
            semaphores.wait(0, 30.0, spin)
            right = right and shared[0] == 2 * step + 1
            shared[0] = 2 * step + 2
            semaphores.post(1)
        os._exit(0 if right else 1)
    for step in range(2000):
        shared[0] = 2 * step + 1
        semaphores.post(0)
        semaphores.wait(1, 30.0, spin)
        assert shared[0] == 2 * step + 2
    assert os.waitpid(child, 0)[1] == 0


def test_a_sleeper_lets_the_interpreter_run() -> None:
    """Another thread can post while this one sleeps: the wait gives up the interpreter lock."""
    _segment, semaphores = _two()
    poster = threading.Timer(0.05, semaphores.post, [0])
    poster.start()
    semaphores.wait(0, 10.0)
    poster.join()
