"""The ranks that torchrun or srun gave this node: the first is the sweep's process, the others host their workers."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.launched import Launched
from ccl_dispatch.tuner.launch.launcher import IMPORT_SECONDS, OwnRanks
from ccl_dispatch.tuner.launch.link import ANSWER_SECONDS, Link, NurseryLost, RunningWorker
from ccl_dispatch.tuner.launch.meeting import listen, meeting_place, peer_user

logger = logging.getLogger(__name__)

# A launcher starts all ranks of a node at about the same time.
HOST_SECONDS = 120.0
# One that is interrupted has less patience with those that are still on their way.
_LEAVE_SECONDS = 5.0


@dataclass
class _Host:
    link: Link
    process: int
    cpus: frozenset[int]
    seconds: float = IMPORT_SECONDS  # for its first answer; torch is imported before


class GivenRanks:
    """A launcher of workers in the ranks that were given. Made in local rank 0, before anything that takes long.

    Attributes:
        launched: what started this process.
    """

    def __init__(self, launched: Launched) -> None:
        self.launched = launched
        self._hosts: dict[int, _Host] = {}
        self._first = OwnRanks()
        self._path = meeting_place(launched)
        self._listener = listen(self._path)

    @property
    def count(self) -> int:
        """How many ranks this node was given."""
        return self.launched.local_ranks

    @property
    def cpus(self) -> frozenset[int]:
        """The processors that any of the ranks may use, as far as they have come."""
        return frozenset(os.sched_getaffinity(0)).union(*(host.cpus for host in self._hosts.values()))

    def gather(self, ranks: int, seconds: float = HOST_SECONDS) -> None:
        """Return once all ranks have come; the first `ranks` of them prepare themselves, the others stay idle.

        Raises:
            MeasuringError: some did not come, and which.
        """
        self._wait(seconds)
        for rank, host in self._hosts.items():
            if rank < ranks:
                with contextlib.suppress(NurseryLost):  # told when it is asked to start
                    host.link.prepare()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self._hosts) < self.count - 1:
            self._listener.settimeout(max(1e-3, deadline - time.monotonic()))
            try:
                line, _ = self._listener.accept()
            except TimeoutError:
                missing = [str(rank) for rank in range(1, self.count) if rank not in self._hosts]
                raise MeasuringError(
                    f"of the {self.count} ranks that {self.launched.by} gave this node, local rank "
                    f"{', '.join(missing)} did not come to {self._path} within {seconds:g} s. Look at what it "
                    "printed; all ranks of a node must run the same command"
                ) from None
            self._welcome(line)

    def prepare(self, log_folder: Path) -> None:
        """See `Launcher`."""
        self._first.prepare(log_folder)

    def unavailable(self, backend: str, log_folder: Path) -> str | None:
        """See `Launcher`: by the first rank."""
        return self._first.unavailable(backend, log_folder)

    def start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int], log_folder: Path) -> RunningWorker:
        """See `Launcher`.

        Raises:
            MeasuringError: the process of this rank is gone, and only its launcher could start another.
        """
        if rank == 0:
            return self._first.start(rank, environment, fds, log_folder)
        host = self._hosts[rank]
        if host.link.lost:
            raise MeasuringError(
                f"the process of local rank {rank} (number {host.process}), which {self.launched.by} started, "
                f"{host.link.lost}. Only {self.launched.by} can start another: start the job again, and it continues"
            )
        seconds, host.seconds = host.seconds, ANSWER_SECONDS
        return host.link.start(rank, environment, fds, seconds)

    def drop(self) -> None:
        """See `Launcher`. A rank whose process does not answer has its line hung up, and is not given again."""
        self._first.drop()
        for host in self._hosts.values():
            if host.link.lost:
                host.link.close()

    def close(self, *, at_once: bool) -> None:
        """See `Launcher`. The ranks stay until `release`."""
        self._first.close(at_once=at_once)

    def release(self, code: int, *, at_once: bool) -> None:
        """Let all ranks end with the exit code `code` after this process, also those that are still on their way."""
        try:
            self._wait(_LEAVE_SECONDS if at_once else HOST_SECONDS)
        except MeasuringError as late:
            logger.warning("%s", late)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        for host in self._hosts.values():
            host.link.leave(code)

    def _welcome(self, line: socket.socket) -> None:
        """Take one rank in; whoever is none is left standing."""
        line.settimeout(ANSWER_SECONDS)
        with contextlib.suppress(TimeoutError):
            packet = wire.receive(line) if peer_user(line) == os.getuid() else None
            rank = packet[0].get("host") if packet else None
            if packet and isinstance(rank, int) and 0 < rank < self.count and rank not in self._hosts:
                self._hosts[rank] = _Host(Link(line), packet[0]["process"], frozenset(packet[0]["cpus"]))
                return
        line.close()
