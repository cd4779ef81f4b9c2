"""Ctrl-C, SIGTERM and SIGHUP as exceptions, held back for a moment where one would leave something half done.

Python raises a signal's exception between any two steps. In the middle of a query that leaves a lock in the database
which nobody lets go; between counting a line of a journal as read and taking it in, it loses the line. So who must not
be torn in two runs within `uninterrupted`, and the exception comes at its end.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

# Longer than any operation of a storage that is well; who waits for one that is away is not kept waiting.
LONGEST_SECONDS = 3.0

_T = TypeVar("_T")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The signal that is held back, at most one. A list, which a handler changes in one step.
_held: list[int] = []
# Those that were raised since `handled` began.
_raised: list[int] = []


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, or SIGHUP of a terminal or connection that has gone: what is running is wound up as after Ctrl-C.

    Attributes:
        number: which of them.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP raise `TerminatedError`, SIGINT KeyboardInterrupt, none of them in `uninterrupted`.

    A second one is raised at once, wherever it comes; so is the first where it has been held for `LONGEST_SECONDS`.
    A signal that this process was started to ignore (SIGINT in the background of a script, SIGHUP after `nohup`) is
    still ignored.
    On another thread than the main one, which alone may say what signals do, it changes nothing.
    """
    if not _on_main_thread():
        yield
        return
    _raised.clear()
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    ours = {number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, _held_too_long if number == signal.SIGALRM else _arrived)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _held.clear()
        _raised.clear()
        for number in ours:
            signal.signal(number, before[number])


def have_come() -> bool:
    """Whether a signal was raised within this `handled`: somebody waits for the end, which must wait for nobody."""
    return bool(_raised)


def let_die() -> None:
    """From now on the signals end this process at once: all that it had to do is done, and a traceback helps nobody.

    On another thread than the main one it changes nothing.
    """
    for number in ENDING if _on_main_thread() else ():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def uninterrupted(operation: Callable[[], _T]) -> _T:
    """What `operation` returns. Within `handled` a signal that comes meanwhile is raised when it has ended.

    On another thread than the main one, where no signal is ever raised, it changes nothing.
    """
    if not _on_main_thread():
        return operation()
    try:
        return _whole(operation)
    finally:
        if _held and not _is_within(sys._getframe()):  # noqa: SLF001 - the documented way to one's own frame
            raise _taken(_held[0])


def _on_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _whole(operation: Callable[[], _T]) -> _T:
    """Has a frame of its own, by which the handler knows: nothing has to be set and reset, and so nothing is missed."""
    return operation()


def _arrived(number: int, frame: FrameType | None) -> None:
    within = _is_within(frame)
    # Asked last: another signal may have come while this one was looked at.
    if within and not _held:
        _held.append(number)
        signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
        return
    raise _taken(number)


def _held_too_long(_number: int, _frame: FrameType | None) -> None:
    if _held:
        raise _taken(_held[0])


def _taken(number: int) -> KeyboardInterrupt:
    """The exception of a signal; none is held any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    _held.clear()
    _raised.append(number)
    return KeyboardInterrupt() if number == signal.SIGINT else TerminatedError(number)


def _is_within(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _whole.__code__:
            return True
        frame = frame.f_back
    return False
