"""The events of a sweep for machines: one JSON object per line, as it happens. The shape is in `event_schema`."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import select
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ccl_dispatch.runtime.errors import OutputError
from ccl_dispatch.runtime.version import version
from ccl_dispatch.tuner.config.model import config_digest
from ccl_dispatch.tuner.files import keep_samples
from ccl_dispatch.tuner.interrupts import uninterrupted
from ccl_dispatch.tuner.progress.base import SilentProgress
from ccl_dispatch.tuner.progress.pace import Pace
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.schemas.events import SCHEMA
from ccl_dispatch.tuner.statistics import Interval, median
from ccl_dispatch.tuner.study.databases import without_password

if TYPE_CHECKING:
    from ccl_dispatch.tuner.config.model import SweepConfig
    from ccl_dispatch.tuner.plan import Plan
    from ccl_dispatch.tuner.search import Outlook
    from ccl_dispatch.tuner.sweep import SweepOutcome

STANDARD_OUTPUT = "-"
# Milliseconds: nobody who has pressed Ctrl-C waits for a reader that has stalled.
_PATIENCE_AFTER_INTERRUPT = 500.0

logger = logging.getLogger(__name__)


class EventSink:
    """Where lines go: a file that is appended to, a pipe, or standard output. Each line is there once it is written.

    What can't be written any more (the reader of a pipe has gone, the disk is full) is told once, and the sweep goes
    on without: measuring is dearer than a line about it.

    Raises:
        OutputError: the file can't be opened.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._descriptor: int | None
        try:
            if target == STANDARD_OUTPUT:
                # A descriptor of its own: what Python may hold back for standard output is another matter.
                self._descriptor = os.dup(1)
            else:
                keep_samples(target)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(target, flags, 0o666)
        except OSError as problem:
            raise OutputError(
                f"--events {target} can't be opened: {problem.strerror}. Give a file in a folder that is there, or -"
            ) from problem
        self._left = b""
        self._patience: float | None = None  # milliseconds; None without end
        # A pipe that is ready takes so much without waiting. A file takes a line at once, beside other writers' lines.
        self._most = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode) else None
        self._ready = select.poll()
        self._ready.register(self._descriptor, select.POLLOUT)

    def write(self, line: str) -> None:
        """One line, at once. A reader that does not read is waited for; after an interrupt not for long."""
        if self._descriptor is None:
            return
        self._left += f"{line}\n".encode()
        try:
            while self._left:
                if not self._ready.poll(self._patience):
                    self._give_up("its reader does not read")
                    return
                # Whole, so that no part of a line is written twice.
                uninterrupted(partial(self._write_some, self._descriptor))
        except OSError as problem:
            self._give_up(problem.strerror or str(problem))
        except KeyboardInterrupt:
            self.hurry()
            raise

    def hurry(self) -> None:
        """From now on a reader that does not read is not waited for."""
        self._patience = _PATIENCE_AFTER_INTERRUPT

    def _write_some(self, descriptor: int) -> None:
        written = os.write(descriptor, self._left[: self._most])
        self._left = self._left[written:]

    def _give_up(self, why: str) -> None:
        where = "standard output" if self._target == STANDARD_OUTPUT else self._target
        logger.warning("events: %s takes no more (%s); the sweep goes on without", where, why)
        self.close()

    def close(self) -> None:
        """Nothing is written any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class EventProgress(SilentProgress):
    """Writes an event for all that a sweep tells.

    Args:
        config: of the sweep.
        storage: its URL; a password in it is left out.
        out: where the table goes.
    """

    def __init__(self, sink: EventSink, config: SweepConfig, storage: str, out: str) -> None:
        self._sink = sink
        self._began = time.monotonic()
        self._run = secrets.token_hex(4)
        self._node = socket.gethostname()
        self._study = config.name
        self._number = 0
        self._trial = 0
        self._points = 0
        self._measuring: float | None = None
        self._pace: Pace | None = None
        self._emit(
            "started",
            version=version(),
            pid=os.getpid(),
            config=str(config.source),
            config_digest=config_digest(config),
            provenance="measured" if config.replay is None else "replayed",
            storage=without_password(storage),
            out=out,
        )

    def begin(self, plan: Plan, results: list[PointResult]) -> None:
        """`plan`: what may be measured, and what is known of it."""
        self._pace = Pace(plan, results)
        self._points = len(results)
        self._emit(
            "plan",
            baseline=plan.settings.baseline,
            candidates=list(plan.settings.candidates),
            cells=[
                {**cell._asdict(), "cell": name, "sizes": list(plan.space.grid[name])}
                for name, cell in plan.cells.items()
            ],
            budget=asdict(plan.config.budget),
            known_points=len(results),
        )

    def point(self, trial: int, cell_name: str, size: int) -> None:
        """`asked`: the point that is measured from now on."""
        self._measuring = time.monotonic() if self._measuring is None else self._measuring
        self._trial = trial
        self._emit("asked", trial=trial, cell=cell_name, size=size)

    def measured(self, result: PointResult, verdicts: Mapping[str, Interval], outlook: Outlook) -> None:
        """`point` with what it showed, each `fault` on the way, each `exclusion`, `outlook`."""
        where = {"trial": self._trial, "cell": result.cell.name, "size": result.size}
        self._points += 1
        self._emit(
            "point",
            **where,
            shape=list(result.shape),
            stopped_by=result.stopped_by,
            samples=max((len(values) for values in result.latencies_us.values()), default=0),
            executions=dict(result.executions),
            point_seconds=result.wall_seconds,
            collective_seconds=result.collective_seconds,
            median_us={name: round(median(values), 4) for name, values in result.latencies_us.items() if values},
            gains={name: _gain(found) for name, found in verdicts.items()},
        )
        for fault in result.faults:
            self._emit("fault", **where, **asdict(fault))
        for item in result.exclusions:
            self._emit("exclusion", **where, **asdict(item))
        if self._pace is not None:
            seconds = time.monotonic() - (self._measuring or time.monotonic())
            self._pace.take(result, outlook, seconds)
            left = self._pace.left(seconds)
            self._emit(
                "outlook",
                points=self._points,
                first_look=self._pace.to_look,
                regret=_finite(outlook.regret),
                about_seconds=_rounded(left.about),
                at_most_seconds=_rounded(left.at_most),
                halving_seconds=_rounded(left.halving),
            )

    def stopped(self, word: str, outlook: Outlook) -> None:
        """`stopped`: nothing more is measured, and why."""
        self._emit("stopped", by=word, points=self._points, regret=_finite(outlook.regret))

    def end(self, outcome: SweepOutcome | None, problem: BaseException | None) -> None:
        """`table` where one was written; `ended` is the last event, whatever happened."""
        if isinstance(problem, KeyboardInterrupt):
            self._sink.hurry()
        if outcome is not None:
            cells = [
                {
                    "cell": cell.cell.name,
                    "measured_from": cell.measured_from,
                    "bands": [{"up_to": band.up_to, "use": band.use, "gain": band.gain} for band in cell.bands],
                    "regret_estimate": cell.regret_estimate,
                }
                for cell in outcome.table.cells
            ]
            self._emit("table", path=str(outcome.path), digest=outcome.table.digest, cells=cells)
            self._emit("ended", how="done", message="", summary=outcome.summary())
        else:
            how = "interrupted" if isinstance(problem, KeyboardInterrupt) else "failed"
            text = "" if problem is None else str(problem) or type(problem).__name__
            self._emit("ended", how=how, message="" if how == "interrupted" else text, summary=None)
        self._sink.close()

    def _emit(self, event: str, **values: Any) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        head = {
            "schema": SCHEMA,
            "event": event,
            "seq": self._number,
            "time": stamp,
            "seconds": round(time.monotonic() - self._began, 3),
            "study": self._study,
            "run": self._run,
            "node": self._node,
        }
        self._number += 1
        self._sink.write(json.dumps({**head, **values}, allow_nan=False, separators=(",", ":")))


def _gain(found: Interval) -> dict[str, Any]:
    low, high = _finite(found.low), _finite(found.high)
    return {
        "gain": round(math.expm1(found.median), 6),
        "low": None if low is None else round(math.expm1(low), 6),
        "high": None if high is None else round(math.expm1(high), 6),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
