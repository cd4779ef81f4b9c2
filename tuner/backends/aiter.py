"""AITER's custom all-gather: a thin adapter on its communicator, and a no where AITER itself would not say one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ccl_dispatch.runtime.units import parse_size, short_size
from ccl_dispatch.runtime.vocabulary import ITEMSIZE
from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:
    import torch

MODULE = "aiter.dist.device_communicators.custom_all_reduce"

# The default of AITER's constructor, which SGLang does not change. vLLM asks for 128 MiB.
DEFAULT_MAX_SIZE = 1024**3
# A communicator allocates its pool, and beside its signals twice as much for two-stage kernels.
_POOLS = 3

# AITER takes 6 ranks, and at 6 its all-gather launches nothing, raises nothing and leaves the output as it was.
WORLD_SIZES = (2, 4, 8)
# The kernels move 16 bytes at a time; a last dim that does not divide into that many comes out garbled.
PACK = 16

# Importing it may build kernels, which takes minutes once.
_IMPORT_SECONDS = 1800


class AiterBackend(Backend):
    """`CustomAllreduce.all_gather_unreg`, and `all_gather_reg` inside a capture in mode `graph`.

    Options: `max_size`, bytes of the pool (default 1 GiB); a call takes `max_size / (2 x world size)` per rank.
    """

    name = "aiter"
    devices = ("cuda", "cpu")
    # Its kernels throw on others. `custom_all_gather` views integers as floats, but engines call the functions below.
    dtypes = ("float32", "float16", "bfloat16")
    options = ("max_size",)
    default_max_size = DEFAULT_MAX_SIZE

    @classmethod
    def unavailable(cls) -> str | None:
        """Why AITER can't be imported. Whether it can serve is asked of its communicator, once there is a group."""
        if importlib.util.find_spec("aiter") is None:
            return "amd-aiter is not installed"
        # In a process of its own: it takes hold of a GPU, and what is native in it may end the process.
        command = [sys.executable, "-c", f"from {MODULE} import CustomAllreduce"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"importing {MODULE} took longer than {_IMPORT_SECONDS} s"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return f"{MODULE} can't be imported: {last}"
        return None

    @classmethod
    def foreseen(cls, point: Point, options: Mapping[str, Any]) -> str | None:
        """What AITER would refuse, and what it would take and get wrong."""
        cell = point.cell
        # Whether the device has graphs is asked in `supports`, with the device at hand.
        if (declined := cls.declined(cell, graphs=True)) is not None:
            return declined
        if cell.world_size not in WORLD_SIZES:
            return f"AITER's all-gather has no kernel for {cell.world_size} ranks: it would leave the output unwritten"
        if not point.whole:
            return f"{point.size} bytes are not {cell.dtype} of shape {point.input_shape}"
        if point.size % PACK:
            return f"{point.size} bytes are not a multiple of {PACK}"
        row = point.input_shape[-1] * ITEMSIZE[cell.dtype]
        if cell.dim == "last" and row % PACK:
            return f"the last dim of {row} bytes is not a multiple of {PACK}: AITER would garble it"
        limit = parse_size(options.get("max_size", DEFAULT_MAX_SIZE)) // (2 * cell.world_size)
        if point.size > limit:
            return f"above the pool's limit of {short_size(limit)} per rank at world size {cell.world_size}"
        return None

    @classmethod
    def device_bytes(cls, largest: int, world_size: int, options: Mapping[str, Any]) -> int:
        """The pool and what AITER allocates in proportion to it."""
        return _POOLS * parse_size(options.get("max_size", DEFAULT_MAX_SIZE))

    def __init__(self, context: BackendContext) -> None:
        import torch
        from aiter.dist.device_communicators.custom_all_reduce import CustomAllreduce

        self._device = context.device
        self._options = context.options
        max_size = parse_size(context.options.get("max_size", DEFAULT_MAX_SIZE))
        communicator = CustomAllreduce(context.group, torch.device(context.device.name), max_size)
        # Where it stages inputs instead, `all_gather_reg` would still register one when a capture ends, and what fails
        # then ends the process. It decides when it is made, and from 0.1.26 on whenever a capture begins.
        with communicator.capture():
            self._registers = bool(getattr(communicator, "enable_register_for_capturing", True))
        self._communicator = communicator

    def supports(self, point: Point) -> str | None:
        """What AITER can be trusted with, then what it says itself."""
        import torch

        communicator = self._communicator
        if communicator.disabled:
            return "AITER's communicator is disabled on this machine; what it logged says why"
        reason = self.foreseen(point, {**self._options, "max_size": communicator.max_size})
        reason = reason or self.declined(point.cell, graphs=self._device.graphs)
        if reason is None and point.cell.mode == "graph" and not self._registers:
            reason = "AITER registers no inputs here (expandable segments, gfx1250), it stages them: graph_copy_in"
        if reason is not None:
            return reason
        probe = torch.empty(point.input_shape, dtype=getattr(torch, point.cell.dtype), device="meta")
        if not communicator.should_custom_ag(probe):
            return f"AITER's should_custom_ag says no to {point.size} bytes at world size {communicator.world_size}"
        return None

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """A call as SGLang makes it: staged through the pool, or in mode `graph` from the registered input.

        An input is registered when the capture ends, so outside of one the same call stages: what warms up and what is
        captured are the same backend.
        """
        communicator, capturing = self._communicator, self._device.capturing
        dim = 0 if point.cell.dim == "first" else -1

        def staged() -> None:
            communicator.all_gather_unreg(source, out=target, dim=dim)

        def registered() -> None:
            if capturing():
                communicator.all_gather_reg(source, out=target, dim=dim)
            else:
                staged()

        return registered if point.cell.mode == "graph" else staged

    def capture(self) -> AbstractContextManager[Any]:
        """The communicator's own: it exchanges the addresses of the captured inputs when it is left."""
        context: AbstractContextManager[Any] = self._communicator.capture()
        return context

    def close(self) -> None:
        """Close the communicator, which allows it twice."""
        self._communicator.close()
