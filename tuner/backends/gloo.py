"""Gloo through torch.distributed: the baseline on host memory."""

from __future__ import annotations

import importlib.util

from ccl_dispatch.tuner.backends.torch_group import TorchGroupBackend


class GlooBackend(TorchGroupBackend):
    """All-gather over a gloo group. It waits on the calling thread."""

    name = "gloo"
    # What torch 2.13's gloo knows; of others it says "Invalid scalar type".
    dtypes = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
    torch_tells = True

    @classmethod
    def unavailable(cls) -> str | None:
        """Why gloo can't run here."""
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_gloo_available():
            return "this build of torch has no gloo"
        return None
