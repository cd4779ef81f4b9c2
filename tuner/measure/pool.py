"""The parent's side: starts the workers once, sends them points, and knows who is at fault when no answer comes."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from types import TracebackType
from typing import Any

from ccl_dispatch.runtime.errors import MeasuringError
from ccl_dispatch.tuner.launch.launcher import Launcher, NurseryLost, OwnRanks, RunningWorker, once_more
from ccl_dispatch.tuner.launch.link import ended_in_words
from ccl_dispatch.tuner.measure.board import Board
from ccl_dispatch.tuner.measure.fault import RankLog, WorkerFault, process_state
from ccl_dispatch.tuner.measure.messages import Failure, MeasureSettings, PointRequest, RankReport, WorkerSetup
from ccl_dispatch.tuner.shared_memory.segment import Segment

logger = logging.getLogger(__name__)

# Starting on a GPU includes its libraries' set-up, and for AITER building kernels when it was not done before.
START_SECONDS = {"cpu": 180.0, "cuda": 900.0}
# Ranks that a failed one leaves behind get that long to answer as well: all failing alike is worth knowing.
_GRACE_SECONDS = 1.0
_END_SECONDS = 5.0
# A driver that gives back a GPU's memory takes its time.
_KILL_SECONDS = 60.0
# How often the parent looks whether it was stopped itself while it waited.
_LOOK_SECONDS = 1.0


@dataclass
class _Worker:
    running: RunningWorker
    channel: connection.Connection
    log: RankLog


class WorkerPool:
    """Workers for the largest of `world_sizes`; smaller ones are sub-groups of the same processes. A context manager.

    Args:
        largest: the largest per-rank input in bytes.
        options: per backend its mapping from the config.
        log_folder: where each rank's standard error goes (`rank0.log`, ...), appended.
        launcher: what starts the ranks' processes; by default they are this process's own. The pool closes it.
    """

    def __init__(
        self,
        world_sizes: Sequence[int],
        largest: int,
        settings: MeasureSettings,
        options: Mapping[str, Mapping[str, Any]],
        log_folder: Path,
        launcher: Launcher | None = None,
    ) -> None:
        self._launcher = launcher or OwnRanks()
        self._world_sizes = tuple(sorted(world_sizes))
        self._largest = largest
        self._settings = settings
        self._options = options
        self._log_folder = log_folder
        self._workers: list[_Worker] = []
        self._board: Board | None = None
        #: Seconds for which this process was stopped while workers had something to do.
        self.stopped_seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether there are workers."""
        return bool(self._workers)

    def leave_out(self, candidate: str) -> None:
        """Start workers without this candidate from now on."""
        left = tuple(name for name in self._settings.candidates if name != candidate)
        self._settings = replace(self._settings, candidates=left)

    def fault(self, reason: str, rank: int, backend: str, detail: str) -> WorkerFault:
        """A fault that was found in what a running rank reported."""
        log = self._workers[rank].log
        return WorkerFault(reason, rank, backend, detail, log.path, log.tail())

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the workers and return when all of them are ready.

        Raises:
            WorkerFault: one of them did not get there.
            MeasuringError: their processes can't be started.
        """
        try:
            self._log_folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise MeasuringError(
                f"the folder of the workers' logs can't be made: {self._log_folder}: {problem.strerror}"
            ) from problem
        once_more(self._start)

    def _start(self) -> None:
        segment = Segment.create(Board.bytes_needed(self._world_sizes))
        self._board = Board(segment, self._world_sizes)
        self._board.initialise()
        try:
            for rank in range(max(self._world_sizes)):
                self._workers.append(self._spawn(rank, segment))
            deadline = time.monotonic() + START_SECONDS[self._settings.placement.type]
            port = self._answers(self._workers[:1], deadline)[0]
            for worker in self._workers[1:]:
                with contextlib.suppress(OSError):  # a dead worker shows when its answer is awaited
                    worker.channel.send(port)
            self._answers(self._workers, deadline)
        except BaseException:
            self.kill()
            raise
        finally:
            segment.close_fd()

    def measure(self, request: PointRequest) -> list[RankReport]:
        """Have the ranks of the point's world size measure it; their reports, rank 0 first.

        Raises:
            WorkerFault: no answer; the workers are gone then, and the next call starts new ones.
        """
        if not self._workers:
            self.start()
        team = self._workers[: request.point.cell.world_size]
        try:
            for worker in team:
                worker.log.mark()
                with contextlib.suppress(OSError):  # a dead worker shows when its answer is awaited
                    worker.channel.send(request)
            return self._answers(team, time.monotonic() + self._settings.timeout)
        except BaseException:
            self.kill()
            raise

    def close(self, *, at_once: bool = False) -> None:
        """End the workers and what started them.

        Args:
            at_once: without asking them first.
        """
        if not at_once:
            for worker in self._workers:
                with contextlib.suppress(OSError):
                    worker.channel.send(None)
            deadline = time.monotonic() + _END_SECONDS
            with contextlib.suppress(NurseryLost):
                for worker in self._workers:
                    worker.running.ending(deadline - time.monotonic())
        self.kill()
        self._launcher.close(at_once=at_once)

    def kill(self) -> None:
        """End the workers at once."""
        workers, self._workers = self._workers, []
        lost = False
        for worker in workers:
            try:
                worker.running.kill()
            except NurseryLost:
                lost = True
        for rank, worker in enumerate(workers):
            try:
                if worker.running.ending(_KILL_SECONDS) is None:
                    logger.warning("rank %d (process %d) was killed and does not end", rank, worker.running.pid)
            except NurseryLost:
                lost = True
            worker.channel.close()
        if lost:
            self._launcher.drop()

    def _spawn(self, rank: int, segment: Segment) -> _Worker:
        ours, theirs = socket.socketpair()
        log = RankLog(self._log_folder / f"rank{rank}.log")
        channel = connection.Connection(ours.detach())
        environment = self._settings.placement.environment(rank)
        try:
            with theirs, log.path.open("ab") as output:
                fds = (theirs.fileno(), segment.fd, output.fileno())
                running = self._launcher.start(rank, environment, fds, self._log_folder)
        except OSError as problem:
            channel.close()
            raise MeasuringError(f"the process of rank {rank} can't be started: {problem}") from None
        setup = WorkerSetup(rank, self._world_sizes, self._largest, self._settings, self._options)
        worker = _Worker(running, channel, log)
        with contextlib.suppress(OSError):
            channel.send(setup)
        return worker

    def _answers(self, workers: Sequence[_Worker], deadline: float) -> list[Any]:
        """One answer of each worker, in order.

        Raises:
            WorkerFault: one ended, raised, or did not answer by the deadline.
        """
        answers: dict[int, Any] = {}
        faults: dict[int, tuple[str, str]] = {}
        raised: dict[int, float] = {}
        lost = False
        while len(answers) + len(faults) < len(workers):
            waiting = {w.channel: rank for rank, w in enumerate(workers) if rank not in answers and rank not in faults}
            ready, stopped = _wait(list(waiting), deadline)
            deadline += stopped
            self.stopped_seconds += stopped
            if stopped:
                logger.warning("this process was stopped for %.0f s; the workers get as much more time", stopped)
            if not ready and time.monotonic() >= deadline:
                break
            for channel in ready:
                rank = waiting[channel]  # type: ignore[index]
                try:
                    answer = workers[rank].channel.recv()
                except (EOFError, OSError):
                    try:
                        faults[rank] = ("crashed", _ending(workers[rank].running))
                    except NurseryLost:
                        faults[rank] = ("crashed", "the process that starts the workers ended, and they with it")
                        lost = True
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
                    continue
                if isinstance(answer, Failure):
                    faults[rank] = ("raised", answer.summary)
                    raised[rank] = answer.at
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
                else:
                    answers[rank] = answer
        if len(answers) == len(workers):
            return [answers[rank] for rank in range(len(workers))]
        # In the order of time: a rank that raises breaks the connections that others then complain about.
        first = sorted(faults, key=lambda rank: raised.get(rank, 0.0))
        raise self._fault(workers, answers, {rank: faults[rank] for rank in first}, lost=lost)

    def _fault(
        self,
        workers: Sequence[_Worker],
        answers: Mapping[int, Any],
        faults: Mapping[int, tuple[str, str]],
        *,
        lost: bool,
    ) -> WorkerFault:
        """Who is at fault: a rank that ended before the first that raised before one that only waits for them."""
        running = [""] * len(workers)
        if self._board and not lost:  # no backend is to blame for what ends all workers from outside
            running = self._board.running(self._settings.backends)
        if faults:
            rank = min(faults, key=lambda rank: faults[rank][0] != "crashed")
            reason, detail = faults[rank]
            log = workers[rank].log
            return WorkerFault(reason, rank, running[rank], detail, log.path, log.tail())
        silent = [rank for rank in range(len(workers)) if rank not in answers]
        # A candidate that hangs on one rank leaves the others waiting for it, perhaps elsewhere.
        busy = [rank for rank in silent if running[rank] not in ("", self._settings.baseline)] or silent
        detail = f"no answer within the time limit from rank {', '.join(map(str, silent))}"
        states = {rank: process_state(workers[rank].running.pid) for rank in silent}
        stopped = [rank for rank in silent if "stopped" in states[rank]]
        if stopped:
            # Whoever did that, it was no backend: all others only wait.
            log = workers[stopped[0]].log
            return WorkerFault("hung", stopped[0], "", f"{detail}; {states[stopped[0]]}", log.path, log.tail())
        worker = workers[busy[0]]
        detail += f"; {states[busy[0]]}" if states[busy[0]] else ""
        tail = worker.log.with_stacks(worker.running.pid)
        return WorkerFault("hung", busy[0], running[busy[0]], detail, worker.log.path, tail)


def _wait(channels: list[connection.Connection], deadline: float) -> tuple[list[object], float]:
    """The channels that are ready, none after a moment; and the seconds for which this very process was stopped."""
    before = time.monotonic()
    moment = max(0.0, min(_LOOK_SECONDS, deadline - before))
    ready = connection.wait(channels, moment)
    overslept = time.monotonic() - before - moment
    return list(ready), overslept if overslept > _LOOK_SECONDS else 0.0


def _ending(running: RunningWorker) -> str:
    code = running.ending(_GRACE_SECONDS)
    return "it closed its channel" if code is None else f"its process {ended_in_words(code)}"
