"""torch's symmetric memory: every rank maps the memory of the others and copies from it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ccl_dispatch.runtime.units import parse_size, short_size
from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:
    import torch

DEFAULT_MAX_SIZE = 64 * 1024**2


class SymmMemBackend(Backend):
    """An all-gather that pulls: barrier, one copy per rank from its memory into the output's final layout, barrier.

    The first barrier says that all inputs are there, the second that all have been read. In mode `graph` inputs lie in
    symmetric memory (`input_memory`), as those of its callers do; in the other modes the call first copies them there.

    Options: `max_size`, bytes of the pool that inputs are copied to (default 64 MiB), which is also the largest input.
    """

    name = "symm_mem"
    devices = ("cuda",)
    options = ("max_size",)
    default_max_size = DEFAULT_MAX_SIZE

    @classmethod
    def unavailable(cls) -> str | None:
        """Why symmetric memory can't be used here."""
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        import torch

        if torch.version.cuda is None:
            return "symm_mem is for NVIDIA GPUs, and this torch is not built for CUDA"
        if not torch.cuda.is_available():
            return "torch finds no GPU"
        if importlib.util.find_spec("torch.distributed._symmetric_memory") is None:
            return "this torch has no symmetric memory"
        return None

    @classmethod
    def foreseen(cls, point: Point, options: Mapping[str, Any]) -> str | None:
        """What the pool can't hold."""
        if (declined := cls.declined(point.cell, graphs=True)) is not None:  # a GPU has them
            return declined
        if not point.whole:
            return f"{point.size} bytes are not {point.cell.dtype} of shape {point.input_shape}"
        limit = parse_size(options.get("max_size", DEFAULT_MAX_SIZE))
        if point.size > limit:
            return f"above the pool of {short_size(limit)} per rank"
        return None

    @classmethod
    def device_bytes(cls, largest: int, world_size: int, options: Mapping[str, Any]) -> int:
        """The pool."""
        return parse_size(options.get("max_size", DEFAULT_MAX_SIZE))

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._pool, self._handle = self._shared(parse_size(context.options.get("max_size", DEFAULT_MAX_SIZE)))
        self._inputs: torch.Tensor | None = None

    def supports(self, point: Point) -> str | None:
        """Whatever fits into the pool."""
        return self.foreseen(point, self._context.options)

    def input_memory(self, size: int) -> torch.Tensor:
        """Symmetric memory."""
        self._inputs, self._inputs_handle = self._shared(size)
        return self._inputs

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Bind the views that are copied from and to."""
        rank, world_size = self._context.rank, self._context.world_size
        if point.cell.mode == "graph" and self._inputs is not None:
            handle = self._inputs_handle
            offset = (source.data_ptr() - self._inputs.data_ptr()) // source.element_size()
            own = None
        else:
            handle, offset = self._handle, 0
            own = handle.get_buffer(rank, source.shape, source.dtype, 0)
        by_rank = (
            target.view(world_size, *source.shape)
            if point.cell.dim == "first"
            else target.view(*source.shape[:-1], world_size, source.shape[-1]).movedim(-2, 0)
        )
        # Every rank begins with another one, so that they do not all read from the same memory.
        order = [(rank + step) % world_size for step in range(world_size)]
        copies = [
            (by_rank[peer], source if peer == rank else handle.get_buffer(peer, source.shape, source.dtype, offset))
            for peer in order
        ]

        def call() -> None:
            if own is not None:
                own.copy_(source)
            handle.barrier()
            for part, found in copies:
                part.copy_(found)
            handle.barrier()

        return call

    def close(self) -> None:
        """Let go of the memory."""
        self._pool = self._inputs = None
        self._handle = self._inputs_handle = None

    def _shared(self, size: int) -> tuple[Any, Any]:
        """Memory that all ranks of the group map, and what knows where; collective."""
        import torch
        import torch.distributed._symmetric_memory as symmetric

        memory = symmetric.empty(size, dtype=torch.uint8, device=torch.device(self._context.device.name))
        return memory, symmetric.rendezvous(memory, self._context.group.group_name)
