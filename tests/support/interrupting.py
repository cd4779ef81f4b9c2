"""Interrupts at a chosen moment: a trace function that lets a signal come at the n-th line from where it is set."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any


class _Interrupt:
    """Does what it is given at each of the moments, in whatever is called."""

    def __init__(self, moments: Sequence[int], act: Callable[[], None]) -> None:
        self._moments = frozenset(moments)
        self._act = act
        self.lines = 0

    def __call__(self, _frame: FrameType, event: str, _argument: Any) -> _Interrupt:
        self.lines += event == "line"
        if event == "line" and self.lines in self._moments:
            self._act()
        return self


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
    return trace.lines >= moment, raised
