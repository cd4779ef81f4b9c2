"""Interrupts at a chosen moment: a trace function that lets a signal come at the n-th line from where it is set."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any


class _Interrupt:
    """Does what it is given at each of the moments, in whatever is called; of one within `logging`, after that."""

    def __init__(self, moments: Sequence[int], act: Callable[[], None]) -> None:
        self._moments = sorted(moments, reverse=True)
        self._act = act
        self.lines = 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> _Interrupt:
        self.lines += event == "line"
        # Between taking the lock of `logging` and the `try` that lets it go an interrupt would leave it to this thread:
        # no matter in a process that ends, but later tests log from others.
        if event == "line" and self.is_left and self.lines >= self._moments[-1] and not _logs(frame):
            self._moments.pop()
            self._act()
        return self

    @property
    def is_left(self) -> bool:
        """Whether some of the moments has not come."""
        return bool(self._moments)


def _logs(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == logging.__file__:
            return True
        frame = frame.f_back
    return False


def _control_c() -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def interrupted_at(*moments: int, act: Callable[[], None] = _control_c) -> Iterator[_Interrupt]:
    """Within it a Ctrl-C, or what `act` does, comes at these lines, counted from the first that is run in a call."""
    trace = _Interrupt(moments, act)
    before = sys.gettrace()
    # An exception that comes within a callback of a garbage collection (Hypothesis has one) is lost.
    gc.disable()
    sys.settrace(trace)
    try:
        yield trace
    finally:
        sys.settrace(before)
        gc.enable()


def interrupt(
    call: Callable[[], object], moment: int, act: Callable[[], None] = _control_c
) -> tuple[bool, BaseException | None]:
    """Call with one interrupt: whether the call went so far that it came, and what was raised."""
    trace = _Interrupt((moment,), act)
    raised: BaseException | None = None
    gc.disable()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt as problem:
        raised = problem
    finally:
        sys.settrace(None)
        gc.enable()
    return not trace.is_left, raised
