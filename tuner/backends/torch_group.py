"""All-gather through torch.distributed, whichever library stands behind the process group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:
    import torch


class TorchGroupBackend(Backend):
    """`torch.distributed`'s all-gather into one tensor over `context.group`."""

    def __init__(self, context: BackendContext) -> None:
        import torch.distributed as dist

        self._context = context
        # torch 2.13 renamed the function and warns about the old name.
        self._gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        self._staging = context.device.empty(0)

    @classmethod
    def device_bytes(cls, largest: int, world_size: int, options: Mapping[str, Any]) -> int:
        """The staging of a last dim."""
        return largest * world_size

    def supports(self, point: Point) -> str | None:
        """All-gather of whole elements; in a graph where the device has graphs."""
        if (declined := self.declined(point.cell, graphs=self._context.device.graphs)) is not None:
            return declined
        if not point.whole:
            return f"{point.size} bytes are not {point.cell.dtype} of shape {point.input_shape}"
        return None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gathers rank after rank; for the last dim it then pays for the transpose that the caller needs."""
        context, gather = self._context, self._gather
        if point.cell.dim == "first":

            def call() -> None:
                gather(target, source, group=context.group)

        else:
            world_size = context.world_size
            # All buffers of a point share one staging, as callers get the same block from their allocator again.
            if self._staging.numel() < point.size * world_size:
                self._staging = context.device.empty(point.size * world_size)
            flat = self._staging[: point.size * world_size].view(source.dtype)
            # Gloo wants the ranks' parts one after the other along the first dim, not a dim of their own.
            staging = flat.view(world_size * source.shape[0], *source.shape[1:])
            parts = flat.view(world_size, *source.shape).movedim(0, -2)
            rows = target.view(*source.shape[:-1], world_size, source.shape[-1])

            def call() -> None:
                gather(staging, source, group=context.group)
                rows.copy_(parts)

        return call if point.cell.mode == "eager" else context.device.recordable(call)

    def close(self) -> None:
        """Nothing is held: the group belongs to the worker."""
