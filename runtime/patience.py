"""Reads that may never end: of a file on a network mount that is dead, or of a pipe into which nobody writes.

A rank that waits for one keeps all others waiting, in their first collective. So whatever serving reads of its own
accord is read in a thread, which is left behind when it takes too long: nothing can wake it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

# Far more than reading a table takes from any disk that answers, and less than ranks wait for each other.
SECONDS = 10.0

T = TypeVar("T")


def within(seconds: float, read: Callable[[], T]) -> T:
    """What `read` returns or raises.

    Raises:
        TimeoutError: it has done neither within `seconds`.
    """
    import threading  # only where something is read: who is given a table's text does without

    results: list[T] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            results.append(read())
        except BaseException as problem:  # noqa: BLE001 - raised in the thread that asked
            problems.append(problem)

    thread = threading.Thread(target=work, name="ccl-dispatch-read", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there is no thread to be had, such as where a container limits them: read without a clock
        return read()
    thread.join(seconds)
    if problems:
        raise problems[0]
    if not results:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
    return results[0]
