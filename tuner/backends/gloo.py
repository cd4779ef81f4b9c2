"""Gloo through torch.distributed: the baseline on host memory."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point

if TYPE_CHECKING:
    import torch


class GlooBackend(Backend):
    """`torch.distributed`'s all-gather into one tensor over a gloo group."""

    name = "gloo"
    needs = "torch with the gloo backend"

    @classmethod
    def unavailable(cls) -> str | None:
        """Why gloo can't run here."""
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_gloo_available():
            return "this build of torch has no gloo"
        return None

    def __init__(self, context: BackendContext) -> None:
        import torch.distributed as dist

        self._context = context
        # torch 2.13 renamed the function and warns about the old name.
        self._gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

    def supports(self, point: Point) -> str | None:
        """Eager all-gather of whole elements."""
        if point.cell.collective != "all_gather":
            return f"gloo is measured for all_gather only, not {point.cell.collective}"
        if point.cell.mode != "eager":
            return f"host memory has no graphs: mode {point.cell.mode} can't be captured"
        if not point.whole:
            return f"{point.size} bytes are not {point.cell.dtype} of shape {point.input_shape}"
        return None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> None:
        """Gathers rank after rank; for the last dim it then pays for the transpose that the caller needs."""
        self._source = source
        self._target = target
        self._staging = target
        self._rows: torch.Tensor | None = None
        if point.cell.dim == "last":
            world_size = self._context.world_size
            # Gloo wants the ranks' parts one after the other along the first dim, not a dim of their own.
            self._staging = source.new_empty((world_size * source.shape[0], *source.shape[1:]))
            self._parts = self._staging.view(world_size, *source.shape).movedim(0, -2)
            self._rows = target.view(*source.shape[:-1], world_size, source.shape[-1])

    def run(self) -> None:
        """One all-gather, complete on return (gloo waits on the calling thread)."""
        self._gather(self._staging, self._source, group=self._context.group)
        if self._rows is not None:
            self._rows.copy_(self._parts)

    def close(self) -> None:
        """Nothing is held: the group belongs to the worker."""
