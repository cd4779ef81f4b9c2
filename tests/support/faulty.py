"""Backends that go wrong in the ways that measuring must survive. Workers import them by `module:Class`."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import numpy as np

from ccl_dispatch.tuner.backends.base import BackendContext, Point
from ccl_dispatch.tuner.backends.gloo import GlooBackend
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:  # a sweep's own process looks at these classes, and leaves torch to its workers
    import torch

PLACES = {name: f"faulty:{name.title()}" for name in ("hanging", "crashing", "raising", "unmade", "stale", "decaying")}


class Hanging(GlooBackend):
    """Rank 0 never returns from a call; the other rank waits for it."""

    name = "hanging"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Hang on rank 0, wait for it on the others."""
        gather = super().prepare(point, source, target)

        def call() -> None:
            if self._context.rank == 0:
                time.sleep(3600)
            gather()

        return call


class Crashing(GlooBackend):
    """Rank 1 ends by a signal, as native code does that reads where it may not."""

    name = "crashing"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Crash on rank 1."""
        gather = super().prepare(point, source, target)

        def call() -> None:
            if self._context.rank == 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            gather()

        return call


class Raising(GlooBackend):
    """Every rank raises."""

    name = "raising"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Raise when called."""

        def call() -> None:
            raise RuntimeError("out of handles")

        return call


class Unmade(GlooBackend):
    """Can't be constructed on rank 1."""

    name = "unmade"

    def __init__(self, context: BackendContext) -> None:
        if context.rank == 1:
            raise RuntimeError("no peer access")
        super().__init__(context)


class Stale(GlooBackend):
    """Gives what it gathered first, for ever."""

    name = "stale"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather another input, keep that, and give it."""
        gather = super().prepare(point, source, target)
        source.zero_()
        gather()
        kept = target.clone()

        def call() -> None:
            target.copy_(kept)

        return call


class Decaying(GlooBackend):
    """Right on the first call of a point, wrong later: rank 1 leaves its output as it was."""

    name = "decaying"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather; from the second call on, rank 1's goes elsewhere."""
        gather = super().prepare(point, source, target)
        elsewhere = super().prepare(point, source, target.new_empty(target.shape))
        calls = 0

        def call() -> None:
            nonlocal calls
            calls += 1
            (elsewhere if calls > 1 and self._context.rank == 1 else gather)()

        return call


class Telling(GlooBackend):
    """Can't be constructed, and says what its process is like: the reason is how tests get to see it."""

    name = "telling"

    def __init__(self, context: BackendContext) -> None:
        own_session = os.getsid(0) == os.getpid()
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        raise RuntimeError(
            f"told host {os.environ.get('NCCL_HOSTID')}, own session {own_session}, Ctrl-C ignored {ignored}, "
            f"drew {np.random.randint(2**40)} {random.getrandbits(40)}"  # noqa: NPY002 - the state that forks share
        )
