"""The shared-memory all-gather as a candidate on host memory."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ccl_dispatch.runtime.units import parse_size, short_size
from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call
from ccl_dispatch.tuner.sizes import ALIGNMENT

if TYPE_CHECKING:
    import torch


class ShmBackend(Backend):
    """`ShmCommunicator.all_gather_unreg`: any contiguous input, staged through the pool.

    Options: `max_size`, bytes of the pool (default 64 MiB); a call takes `max_size / (2 x world size)` per rank.
    """

    name = "shm"
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

    @classmethod
    def foreseen(cls, point: Point, options: Mapping[str, Any]) -> str | None:
        """Multiples of 16 bytes, up to the pool's capacity."""
        # Whether the device has graphs is asked in `supports`, with the device at hand.
        if (declined := cls.declined(point.cell, graphs=True)) is not None:
            return declined
        if not point.whole:
            return f"{point.size} bytes are not {point.cell.dtype} of shape {point.input_shape}"
        if point.size % ALIGNMENT:
            return f"{point.size} bytes are not a multiple of {ALIGNMENT}"
        limit = parse_size(options.get("max_size", cls.default_max_size)) // (2 * point.cell.world_size)
        if point.size > limit:
            return f"above the pool's limit of {short_size(limit)} per rank at world size {point.cell.world_size}"
        return None

    def __init__(self, context: BackendContext) -> None:
        from ccl_dispatch.tuner.shared_memory.communicator import ShmCommunicator

        self._device = context.device
        max_size = parse_size(context.options.get("max_size", self.default_max_size))
        self._communicator = ShmCommunicator(context.group, context.device.name, max_size)

    def supports(self, point: Point) -> str | None:
        """What is foreseen, with the pool that there is; graphs where the device has them."""
        if self._communicator.disabled:
            return f"shm is disabled: {self._communicator.disabled_reason}"
        reason = self.declined(point.cell, graphs=self._device.graphs)
        return reason or self.foreseen(point, {"max_size": self._communicator.max_size})

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Bind the tensors; the pool was made with the communicator."""
        gather, dim = self._communicator.all_gather_unreg, 0 if point.cell.dim == "first" else -1

        def call() -> None:
            gather(source, target, dim)

        return call if point.cell.mode == "eager" else self._device.recordable(call)

    def close(self) -> None:
        """Close the communicator."""
        self._communicator.close()
