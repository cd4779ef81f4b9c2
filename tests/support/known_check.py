"""A communicator's check with the operations of AITER's, whose digest tests add to the known ones."""

from __future__ import annotations

import torch

from ccl_dispatch.runtime.capacity import code_digest


def is_weak_contiguous(inp: torch.Tensor) -> bool:
    return inp.is_contiguous() or (
        inp.untyped_storage().nbytes() - inp.storage_offset() * inp.element_size() == inp.numel() * inp.element_size()
    )


class Known:
    """What a communicator of AITER's has for its check, and how often that was called."""

    def __init__(self, max_size: int = 1 << 20, ranks: int = 4, *, fully_connected: bool = True) -> None:
        self.disabled, self._IS_CAPTURING, self.fully_connected = False, False, fully_connected
        self.world_size, self.max_size = ranks, max_size
        self.calls = 0

    def should_custom_ag(self, inp: torch.Tensor) -> bool:
        self.calls += 1
        if self.disabled:
            return False
        size = inp.numel() * inp.element_size()
        if size % 16 != 0:
            return False
        if not is_weak_contiguous(inp):
            return False
        if self.world_size == 2 or self.fully_connected:
            return size <= (self.max_size / (self.world_size * 2))
        return False


def digests() -> frozenset[str]:
    """What `capacity.AITER_CHECKS` has of this check."""
    return frozenset((f"{code_digest(Known.should_custom_ag)}/{code_digest(is_weak_contiguous)}",))
