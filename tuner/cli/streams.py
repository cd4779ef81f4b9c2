"""Standard output and error as verbs write to them, which the other end can't break.

Standard output is the result: one that can't be written is an error. Standard error is what is told beside it, which
changes nothing: what can't be written is dropped, and the next line is tried again. A reader that has gone (`| head`, a
closed terminal) gets nothing any more, of either. What an encoding lacks is written as a backslash escape.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import io
import math
import os
import select
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from ccl_dispatch.runtime.errors import OutputError
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner import interrupts

# Seconds. Whoever stops reading what a sweep tells (a terminal after Ctrl-S) does not stop the sweep.
_PATIENCE = 5.0
_PATIENCE_AFTER_INTERRUPT = 0.5
_PAUSE = 0.01
# Characters that are held back for a file or a pipe; a terminal gets each line at once.
_MUCH = 1 << 16


class _Stream(abc.ABC):
    """Writes past Python's buffers: what is left in one fails again when the interpreter exits, and blocks it.

    Args:
        patience: seconds for which a reader that does not read is waited for; None without end. After an interrupt it
            is `_PATIENCE_AFTER_INTERRUPT` at most, and nothing from the first such wait on that was in vain.
    """

    def __init__(self, stream: TextIO, *, patience: float | None, by_line: bool) -> None:
        self._stream = stream
        self._patience = patience
        self._by_line = by_line
        # Of a terminal that has gone, which says no more by then that it was one. A disk says the same of a bad block.
        self._terminal = stream.isatty()
        self._descriptor = _descriptor_of(stream)
        self._own: int | None = None
        self._most: int | None = None
        self._held = ""
        self._gone = False
        self._stalled = False
        self._torn = False
        with contextlib.suppress(OSError):
            stream.flush()
        if self._descriptor is None:
            return
        # A file takes a line at once, beside other writers' lines; a pipe that is ready takes so much without waiting.
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self._most = select.PIPE_BUF
        if self._terminal:
            # One that is ready may take a part and have the rest wait. Not so where it is opened like this; the flag
            # can't be set on what other processes write to as well.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                self._descriptor = self._own = os.open(f"/proc/self/fd/{self._descriptor}", flags)

    def write(self, text: str) -> int:
        """Take it; it is written with the end of its line, of much text, or of the verb."""
        self._held += text
        if len(self._held) >= _MUCH or (self._by_line and ("\n" in text or "\r" in text)):
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Each as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what was taken; whatever happens, it is not tried a second time."""
        text, self._held = self._held, ""
        if not text or self._gone:
            return
        try:
            self._put(text)
        except OSError as problem:
            if isinstance(problem, BrokenPipeError) or (self._terminal and problem.errno == errno.EIO):
                self._gone = True
            else:
                self._failed(text, problem)

    @abc.abstractmethod
    def _failed(self, text: str, problem: OSError) -> None:
        """What it means that `text` could not be written."""

    def _put(self, text: str) -> None:
        # The end of a line that was broken off comes before anything else.
        text = f"\n{text}" if self._torn else text
        encoding = self._stream.encoding or "utf-8"
        try:
            # In a locale without UTF-8 that gives a file's name its own bytes.
            data = text.encode(encoding, self._stream.errors or "strict")
        except UnicodeEncodeError:
            data = text.encode(encoding, "backslashreplace")
        if self._descriptor is None:
            self._stream.write(data.decode(encoding, self._stream.errors or "strict"))
            self._stream.flush()
            return
        while data:
            data = data[self._write_some(self._descriptor, data[: self._most]) :]
        self._torn = self._stalled = False

    def _write_some(self, descriptor: int, data: bytes) -> int:
        """Write at least one byte; how many it were."""
        patience = self._patience
        if self._stalled:
            patience = 0.0
        elif interrupts.have_come():
            patience = _PATIENCE_AFTER_INTERRUPT
        until = math.inf if patience is None else time.monotonic() + patience
        ready = select.poll()  # of its own: threads may not share one
        ready.register(descriptor, select.POLLOUT)
        while True:
            left = max(until - time.monotonic(), 0.0)
            if ready.poll(None if math.isinf(left) else 1000 * left):
                # Before, since an interrupt may come just after.
                torn, self._torn = self._torn, True
                try:
                    return os.write(descriptor, data)
                except OSError as problem:
                    self._torn = torn
                    if not isinstance(problem, BlockingIOError):
                        raise
                # Another process was faster, or there is no room for both bytes that a line's end has in a terminal.
                time.sleep(_PAUSE)
            if time.monotonic() >= until:
                self._stalled = True
                raise TimeoutError(errno.ETIMEDOUT, "its reader does not read")

    def end(self) -> None:
        """From now on it writes as the stream does."""
        own, self._own, self._descriptor = self._own, None, None
        if own is not None:
            os.close(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Result(_Stream):
    """Standard output. It is waited for without end, until an interrupt comes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, patience=None, by_line=stream.isatty() or _is_unbuffered(stream))

    def _failed(self, text: str, problem: OSError) -> None:
        """An error of the verb.

        Raises:
            OutputError: always.
        """
        # Where it goes after `>`; a pipe has no name that says anything.
        place = "" if self._descriptor is None else os.readlink(f"/proc/self/fd/{self._descriptor}")
        named = f" ({place})" if place.startswith("/") else ""
        raise OutputError(
            f"standard output{named} takes no more of the result: {problem.strerror or problem}. Make room there, or "
            "send it elsewhere, and give the same command again"
        ) from problem


class _Told(_Stream):
    """Standard error. What could not be written is counted, and told by the next line that can."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, patience=_PATIENCE, by_line=True)
        self._missing = 0
        self._why = ""

    def _failed(self, text: str, problem: OSError) -> None:
        self._missing += text.count("\n") or 1
        self._why = problem.strerror or str(problem)

    def _put(self, text: str) -> None:
        # A picture in a terminal is drawn anew.
        if self._missing and not self._terminal:
            text = f"[{counted(self._missing, 'line')} could not be written here: {self._why}]\n{text}"
        super()._put(text)
        self._missing = 0


def _descriptor_of(stream: TextIO) -> int | None:
    """Where a stream of Python's own kind writes to; None for what a program put in its place."""
    if type(stream) is not io.TextIOWrapper:
        return None
    try:
        return stream.fileno()
    except OSError:
        return None


def _is_unbuffered(stream: TextIO) -> bool:
    """Whether somebody asked for it, by `python -u` or $PYTHONUNBUFFERED."""
    return isinstance(stream, io.TextIOWrapper) and (stream.line_buffering or stream.write_through)


def _take_standard_descriptors() -> None:
    """Give those of 0, 1 and 2 that were closed from the start to nothing, for good.

    Else a socket or a file that is opened later has such a number, and loses it in a child, whose own streams go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # whom this process becomes by `exec` needs them no less
    os.close(descriptor)


@contextlib.contextmanager
def unbreakable_streams() -> Iterator[None]:
    """Within it both streams are as the module says, and one that was closed from the start is empty."""
    before = sys.stdout, sys.stderr
    _take_standard_descriptors()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        # Python has None for a descriptor that was closed before it started.
        out, error = (cast("TextIO | None", stream) or nowhere for stream in before)
        result, told = _Result(out), _Told(error)
        sys.stdout, sys.stderr = cast("TextIO", result), cast("TextIO", told)
        try:
            yield
        finally:
            try:
                # Of a verb that failed: its own problem was told. One that succeeded has flushed, and heard of it.
                with contextlib.suppress(OutputError):
                    result.flush()
                told.flush()
            finally:
                sys.stdout, sys.stderr = before
                result.end()
                told.end()
