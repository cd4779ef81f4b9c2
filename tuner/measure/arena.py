"""The memory that inputs and outputs of all points lie in, and how many pairs of them a point rotates through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ccl_dispatch.tuner.backends.base import Point

if TYPE_CHECKING:
    import torch

    from ccl_dispatch.tuner.device.base import Device

MAX_SLOTS = 32
# Slots begin on lines of their own, whatever the device's line is (64 B on hosts, 128 B on GPUs).
_STRIDE = 256
# Data that is touched once in between pushes everything else out of a cache only if it is clearly larger.
_TIMES_CACHE = 2


def slot_count(size: int, world_size: int, cache_bytes: int) -> int:
    """Pairs of input and output so that all of them together are twice the cache, at most `MAX_SLOTS`."""
    return max(1, min(MAX_SLOTS, math.ceil(_TIMES_CACHE * cache_bytes / (size * (1 + world_size)))))


def outgrows(size: int, world_size: int, cache_bytes: int) -> bool:
    """Whether the slots alone are enough: what a call finds in the cache was not put there by the call before it."""
    return slot_count(size, world_size, cache_bytes) * size * (1 + world_size) >= _TIMES_CACHE * cache_bytes


def arena_bytes(largest: int, world_sizes: Sequence[int], cache_bytes: int) -> tuple[int, int]:
    """Bytes for the inputs and for the outputs of any point up to `largest`, by `slot_count`."""
    spare = MAX_SLOTS * _STRIDE
    inputs = max(_TIMES_CACHE * cache_bytes // (1 + world_size) + largest + spare for world_size in world_sizes)
    outputs = max(
        world_size * (_TIMES_CACHE * cache_bytes // (1 + world_size) + largest) + spare for world_size in world_sizes
    )
    return inputs, outputs


class Arena:
    """Memory of one rank, taken once: fresh memory per point would cost more than measuring, and every address that a
    backend has registered stays what it was.

    Attributes:
        cache_bytes: what slots are counted by: the device's cache, or 0 for one slot (the warm case).

    Args:
        largest: the largest per-rank input in bytes.
        world_sizes: those that are measured.
        cold: rotate.
    """

    def __init__(self, device: Device, largest: int, world_sizes: Sequence[int], *, cold: bool) -> None:
        self.device = device
        self.cache_bytes = device.cache_bytes if cold else 0
        self.input_bytes, output_bytes = arena_bytes(largest, world_sizes, self.cache_bytes)
        self._inputs = device.empty(self.input_bytes)
        self._outputs = device.empty(output_bytes)

    def slots(self, point: Point, inputs: torch.Tensor | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs of source and target of the point's shapes; sources in `inputs` (`input_bytes` long) when given."""
        import torch

        world_size = point.cell.world_size
        dtype = getattr(torch, point.cell.dtype)
        pairs = []
        for index in range(slot_count(point.size, world_size, self.cache_bytes)):
            source = _cut(self._inputs if inputs is None else inputs, index, point.size)
            target = _cut(self._outputs, index, point.size * world_size)
            pairs.append((source.view(dtype).view(point.input_shape), target.view(dtype).view(point.output_shape)))
        return pairs

    def needs_flush(self, point: Point) -> bool:
        """Whether the caches have to be emptied before a region, because rotating can't do it."""
        return self.cache_bytes > 0 and not outgrows(point.size, point.cell.world_size, self.cache_bytes)


def _cut(memory: torch.Tensor, index: int, size: int) -> torch.Tensor:
    start = index * (-(-size // _STRIDE) * _STRIDE)
    return memory[start : start + size]
