"""NCCL, and RCCL: torch's `nccl` backend, whose library is the one that torch was built with."""

from __future__ import annotations

import importlib.util

from ccl_dispatch.runtime.vocabulary import ITEMSIZE
from ccl_dispatch.tuner.backends.base import BackendContext
from ccl_dispatch.tuner.backends.torch_group import TorchGroupBackend


class NcclBackend(TorchGroupBackend):
    """All-gather over a group of torch's `nccl` backend on a CUDA build. It runs in the current stream's order."""

    name = "nccl"
    # torch 2.11 says "not supported for NCCL process group: Short"; RCCL goes through the same code.
    dtypes = tuple(name for name in ITEMSIZE if name != "int16")
    devices = ("cuda",)
    group_kind = "nccl"
    _on_rocm = False

    @classmethod
    def unavailable(cls) -> str | None:
        """Why the library can't run here; each build has one of the two, under its own name."""
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        import torch
        import torch.distributed as dist

        if bool(torch.version.hip) != cls._on_rocm:
            if torch.version.hip:
                return "this torch is built for ROCm: its library is called rccl"
            return "this torch is not built for ROCm" if torch.version.cuda is None else "this torch is built for CUDA"
        if not dist.is_available() or not dist.is_nccl_available():
            return f"this build of torch has no {cls.name}"
        # Not `is_available`, which may ask NVML or amdsmi (PYTORCH_NVML_BASED_CUDA_CHECK, which vLLM sets).
        from ccl_dispatch.tuner.device.cuda import gpu_count

        if not gpu_count():
            return "torch finds no GPU"
        return None


class RcclBackend(NcclBackend):
    """The same on a ROCm build. No capture begins while torch's watchdog still asks whether a call is complete.

    HIP up to ROCm 7.2.0 ends a capture, and torch then the process, when any thread asks for an event of a stream that
    captures, also one that was recorded before (clr's hipEventQuery; ROCm/hip #3876, sglang #24011). The watchdog looks
    every 100 ms, and the call that goes before a capture leaves it such an event.
    """

    name = "rccl"
    _on_rocm = True

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        # Whoever captures next: AITER's captures are ended as well.
        context.device.before_capture(context.group._wait_for_pending_works)  # noqa: SLF001 - has no other name
