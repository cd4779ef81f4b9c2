"""A backend that is not run but replayed: a call takes as long as a measured one did, on a virtual clock."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ccl_dispatch.runtime.vocabulary import COLLECTIVES
from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:
    import torch

    from ccl_dispatch.tuner.measure.team import VirtualTeam
    from ccl_dispatch.tuner.measurements.replay import ReplayCurves


class ReplayBackend(Backend):
    """One backend of a measurement file. It is made by `ReplayMeasurer`, not by name: its name is the file's.

    `context.options` holds `name`, `curves` (ReplayCurves), `team` (VirtualTeam), `rng` (random.Random) and
    `factor`, by which every latency is made longer.
    """

    name = "replay"
    collectives = COLLECTIVES

    @classmethod
    def unavailable(cls) -> str | None:
        """A replay needs nothing of the machine."""
        return None

    def __init__(self, context: BackendContext) -> None:
        self._replayed: str = context.options["name"]
        self._curves: ReplayCurves = context.options["curves"]
        self._team: VirtualTeam = context.options["team"]
        self._rng: random.Random = context.options["rng"]
        self._factor: float = context.options["factor"]

    def supports(self, point: Point) -> str | None:
        """What was measured, and what lies between; nothing beyond is invented."""
        return self._curves.covers(point.cell, self._replayed, point.size)

    def prepare(self, point: Point, source: torch.Tensor | None, target: torch.Tensor | None) -> Call:
        """A call that lets the clock advance by one drawn latency; there is no data."""

        def call() -> None:
            latency = self._curves.latency_us(point.cell, self._replayed, point.size, self._rng)
            self._team.advance(latency * self._factor * 1e-6)

        return call

    def close(self) -> None:
        """Nothing is held."""
