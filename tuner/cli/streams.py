"""Standard output and error whose reader, a pipe or a terminal, may go away: no verb and no exit code hang on it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class _Unheard:
    """A stream that, once its reader has gone (`| head`, a closed terminal), writes to nowhere instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Of a terminal that has gone, which says no more by then that it was one. A disk says the same of a bad block.
        self._terminal = stream.isatty()

    def write(self, text: str) -> int:
        """As the stream does."""
        try:
            return self._stream.write(text)
        except OSError as problem:
            self._give_up(problem)
            return len(text)

    def flush(self) -> None:
        """As the stream does."""
        try:
            self._stream.flush()
        except OSError as problem:
            self._give_up(problem)

    def _give_up(self, problem: OSError) -> None:
        if not isinstance(problem, BrokenPipeError) and not (self._terminal and problem.errno == errno.EIO):
            raise problem
        # The descriptor, so that what is buffered is not in the way when the interpreter exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def unbreakable_streams() -> Iterator[None]:
    """Within it neither stream raises for a reader that has gone, and one that was closed from the start is empty."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        # Python has None for a descriptor that was closed before it started.
        out, error = (cast("TextIO | None", stream) or nowhere for stream in before)
        sys.stdout, sys.stderr = cast("TextIO", _Unheard(out)), cast("TextIO", _Unheard(error))
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stdout, sys.stderr = before
