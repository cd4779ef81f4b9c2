"""A shared-memory all-gather that became slower: what `verify` has to find. Workers import it by `module:Class`."""

from __future__ import annotations

import time

import torch

from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.backends.shm import ShmBackend
from ccl_dispatch.tuner.device.base import Call

PLACE = "slowed:SlowedShm"
SHARE = 0.15
ABOVE = 64 * 1024


class SlowedShm(ShmBackend):
    """`shm` that takes 15 % more time for a call of more than 64 KiB per rank: every rank goes on computing for it."""

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather, then spin for a share of the time that this took."""
        gather = super().prepare(point, source, target)
        if point.size <= ABOVE:
            return gather

        def call() -> None:
            began = time.perf_counter()
            gather()
            until = began + (time.perf_counter() - began) * (1 + SHARE)
            while time.perf_counter() < until:
                pass

        return call
