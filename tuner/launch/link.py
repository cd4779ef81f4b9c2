"""The launcher's end of its line to one nursery: ask for a worker, ask for its end, know how it ended."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccl_dispatch.tuner.interrupts import uninterrupted
from ccl_dispatch.tuner.launch import wire

# A nursery does one thing at a time and each takes milliseconds; what takes longer is a process that is stopped, or a
# machine that swaps.
ANSWER_SECONDS = 20.0


def ended_in_words(code: int) -> str:
    """How a process ended, by its code as `subprocess` has it: `was ended by SIGKILL`, `ended with exit code 7`."""
    if code >= 0:
        return f"ended with exit code {code}"
    # Of real-time signals only the first and the last have a name.
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"was ended by {name}"


class NurseryLost(Exception):
    """The nursery is gone or does not answer; what it started is to be ended and started anew."""


class Link:
    """One nursery, as its launcher sees it. Any call may raise `NurseryLost`."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._poll = select.poll()
        self._poll.register(line, select.POLLIN)
        self._endings: dict[int, int] = {}
        self._started: set[int] = set()
        self.lost = ""  # why there is no nursery any more

    def prepare(self) -> None:
        """Have it import torch; its next answer comes after that."""
        self._send({"prepare": True})

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], seconds: float) -> RunningWorker:
        """Start the worker of `rank`.

        Args:
            environment: of the worker, beside the nursery's.
            fds: of its channel, its board and its log.
            seconds: for the answer; the first one waits for torch to be imported.

        Raises:
            OSError: the system refuses another process.
        """
        answer = self._ask({"start": rank, "environment": dict(environment)}, {"started", "failed"}, seconds, fds)
        if "failed" in answer:
            raise OSError(answer["failed"])
        self._started.add(answer["started"])
        return RunningWorker(answer["started"], self)

    def unavailable(self, backend: str, seconds: float) -> str | None:
        """Why the nursery's machine can't run a backend, None when it can; the first answer waits for torch."""
        found: str | None = self._ask({"backend": backend}, {"unavailable"}, seconds)["unavailable"]
        return found

    @property
    def running(self) -> set[int]:
        """The workers whose end is not known."""
        return self._started - self._endings.keys()

    def kill(self, pid: int) -> None:
        """End a worker and what it started at once; it may have ended before."""
        self._ask({"kill": pid}, {"killing"}, ANSWER_SECONDS)

    def ending(self, pid: int, seconds: float) -> int | None:
        """How a worker ended, as `subprocess` has it; None when it still runs after that time."""
        deadline = time.monotonic() + seconds
        while pid not in self._endings:
            try:
                self._next(deadline)
            except TimeoutError:
                return None
        return self._endings[pid]

    def leave(self, code: int) -> None:
        """Have the nursery end with `code` when this process ends; no matter when it is gone already."""
        with contextlib.suppress(NurseryLost):
            self._send({"leave": code})
            self._line.detach()  # open until then
            self.lost = "was let go"

    def close(self) -> None:
        """Hang up: the nursery ends its workers and itself."""
        self._line.close()
        self.lost = self.lost or "was let go"

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self.lost:
            raise NurseryLost(self.lost)
        self._line.settimeout(ANSWER_SECONDS)
        try:
            wire.send(self._line, message, fds)
        except TimeoutError:
            self.lost = f"did not answer within {ANSWER_SECONDS:g} s"
            raise NurseryLost(self.lost) from None
        except OSError:
            self.lost = "ended"
            raise NurseryLost(self.lost) from None

    def _ask(
        self, message: Mapping[str, Any], kinds: set[str], seconds: float, fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """The answer to a message: the next one of these kinds."""
        try:
            self._send(message, fds)
            deadline = time.monotonic() + seconds
            while not kinds & (answer := self._next(deadline)).keys():
                pass
        except TimeoutError:
            self.lost = f"did not answer within {seconds:g} s"
            raise NurseryLost(self.lost) from None
        except BaseException:
            self.lost = self.lost or "was interrupted"  # its answer would be taken for the next one
            raise
        return answer

    def _next(self, deadline: float) -> dict[str, Any]:
        """The next message; endings are noted."""
        if self.lost:
            raise NurseryLost(self.lost)
        if not self._poll.poll(max(1.0, 1e3 * (deadline - time.monotonic()))):
            raise TimeoutError
        # Whole: an ending that is read and not noted is waited for in vain.
        message = uninterrupted(self._received)
        if message is None:
            self.lost = "ended"
            raise NurseryLost(self.lost)
        return message

    def _received(self) -> dict[str, Any] | None:
        packet = wire.receive(self._line)
        if packet is None:
            return None
        message, _ = packet
        if "ended" in message:
            self._endings[message["ended"]] = message["code"]
        return message


@dataclass(frozen=True)
class RunningWorker:
    """A worker that was started; it may have ended."""

    pid: int
    link: Link

    def kill(self) -> None:
        """End it and what it started at once.

        Raises:
            NurseryLost: whoever could do that is gone; workers end with it.
        """
        self.link.kill(self.pid)

    def ending(self, seconds: float) -> int | None:
        """Its exit code, negative for a signal; None when it still runs after that time.

        Raises:
            NurseryLost: nobody knows, because the nursery is gone.
        """
        return self.link.ending(self.pid, seconds)
