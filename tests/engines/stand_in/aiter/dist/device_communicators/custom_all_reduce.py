"""Stands for AITER's communicator where there is no AMD GPU: the same surface over shared memory, and a list of calls."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ccl_dispatch.tuner.shared_memory import ShmCommunicator


class CustomAllreduce(ShmCommunicator):
    """Gathers for real, on the CPU. `calls` has the name of each gather that ran."""

    # What AITER's `custom_all_gather` makes of integers, under AITER's name.
    _INT_TO_FP_VIEW: ClassVar = {torch.int64: torch.float64, torch.int32: torch.float32, torch.int16: torch.float16}

    def __init__(
        self, group: Any, device: Any, max_size: int = 1 << 26, enable_register_for_capturing: bool = True
    ) -> None:
        super().__init__(group, device, max_size)
        self.enable_register_for_capturing = enable_register_for_capturing
        self.calls: list[str] = []

    def should_custom_ar(self, inp: torch.Tensor) -> bool:
        return False

    def all_gather_unreg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        self.calls.append("unreg")
        return super().all_gather_unreg(inp, out, dim)

    def all_gather_reg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        # A captured call reads its input in place, which host memory of any origin does not allow.
        self.calls.append("reg")
        return super().all_gather_unreg(inp, out, dim)

    def custom_all_gather(self, inp: torch.Tensor, dim: int = 0) -> torch.Tensor:
        registered = self._IS_CAPTURING and self.enable_register_for_capturing
        return self.all_gather_reg(inp, dim=dim) if registered else self.all_gather_unreg(inp, dim=dim)
