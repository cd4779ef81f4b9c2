"""Backends that go wrong in the ways that measuring must survive. Workers import them by `module:Class`."""

from __future__ import annotations

import os
import signal
import time

import torch

from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.backends.gloo import GlooBackend

PLACES = {name: f"faulty:{name.title()}" for name in ("hanging", "crashing", "raising", "stale", "decaying")}


class Hanging(GlooBackend):
    """Rank 0 never returns from a call; the other rank waits for it."""

    name = "hanging"

    def run(self) -> None:
        """Hang on rank 0, wait for it on the others."""
        if self._context.rank == 0:
            time.sleep(3600)
        super().run()


class Crashing(GlooBackend):
    """Rank 1 ends by a signal, as native code does that reads where it may not."""

    name = "crashing"

    def run(self) -> None:
        """Crash on rank 1."""
        if self._context.rank == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        super().run()


class Raising(GlooBackend):
    """Every rank raises."""

    name = "raising"

    def run(self) -> None:
        """Raise."""
        raise RuntimeError("out of handles")


class Stale(GlooBackend):
    """Gives what it gathered first, for ever."""

    name = "stale"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> None:
        """Gather another input, and keep that."""
        super().prepare(point, source, target)
        source.zero_()
        super().run()
        self._kept = target.clone()

    def run(self) -> None:
        """Give the kept output."""
        self._target.copy_(self._kept)


class Decaying(GlooBackend):
    """Right on the first call of a point, wrong later: rank 1 leaves its output as it was."""

    name = "decaying"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> None:
        """Start counting."""
        super().prepare(point, source, target)
        self._calls = 0

    def run(self) -> None:
        """Gather; from the second call on, rank 1's goes elsewhere."""
        self._calls += 1
        if self._calls > 1 and self._context.rank == 1:
            self._staging = torch.empty_like(self._staging)
        super().run()
