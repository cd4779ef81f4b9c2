"""NCCL, and RCCL: torch's `nccl` backend, whose library is the one that torch was built with."""

from __future__ import annotations

import importlib.util

from ccl_dispatch.runtime.vocabulary import ITEMSIZE
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
        if not torch.cuda.is_available():
            return "torch finds no GPU"
        return None


class RcclBackend(NcclBackend):
    """The same on a ROCm build."""

    name = "rccl"
    _on_rocm = True
