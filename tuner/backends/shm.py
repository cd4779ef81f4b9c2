"""The shared-memory all-gather as a candidate on host memory."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from ccl_dispatch.runtime.units import parse_size, short_size
from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:
    import torch


class ShmBackend(Backend):
    """`ShmCommunicator.all_gather_unreg`: any contiguous input, staged through the pool.

    Options: `max_size`, bytes of the pool (default 64 MiB); a call takes `max_size / (2 x world size)` per rank.
    """

    name = "shm"
    needs = "Linux, torch"
    options = ("max_size",)
    default_max_size = 64 * 1024**2

    @classmethod
    def unavailable(cls) -> str | None:
        """Why shared memory can't be used here."""
        if sys.platform != "linux":
            return f"shm needs Linux (memfd_create, process-shared semaphores), this is {sys.platform}"
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        return None

    def __init__(self, context: BackendContext) -> None:
        from ccl_dispatch.tuner.shared_memory.communicator import ShmCommunicator

        self._world_size = context.world_size
        self._device = context.device
        max_size = parse_size(context.options.get("max_size", self.default_max_size))
        self._communicator = ShmCommunicator(context.group, context.device.name, max_size)

    def supports(self, point: Point) -> str | None:
        """Eager all-gather up to the pool's capacity, in multiples of 16 bytes."""
        limit = self._communicator.max_size // (2 * self._world_size)
        if self._communicator.disabled:
            return f"shm is disabled: {self._communicator.disabled_reason}"
        if (declined := self.declined(point.cell, graphs=self._device.graphs)) is not None:
            return declined
        if not point.whole:
            return f"{point.size} bytes are not {point.cell.dtype} of shape {point.input_shape}"
        if point.size % 16:
            return f"{point.size} bytes are not a multiple of 16"
        if point.size > limit:
            return f"above the pool's limit of {short_size(limit)} per rank at world size {self._world_size}"
        return None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Bind the tensors; the pool was made with the communicator."""
        gather, dim = self._communicator.all_gather_unreg, 0 if point.cell.dim == "first" else -1

        def call() -> None:
            gather(source, target, dim)

        return call if point.cell.mode == "eager" else self._device.recordable(call)

    def close(self) -> None:
        """Close the communicator."""
        self._communicator.close()
