"""A communicator with the surface of AITER's, for its all-gather, and with its ways to go wrong.

Kept from the original, as read in ROCm/aiter at e4048607: the parameters and their defaults; `disabled`, `world_size`,
`max_size`; memory that ranks find over the default TCPStore, under keys that number the communicators of a process; what
`should_custom_ag` looks at; an input that is registered when `capture()` ends, and only if its call was captured; and
these failures:

- At world size 6 nothing is launched, nothing is raised, and the output stays as it was.
- Other dtypes than float32, float16 and bfloat16 raise.
- A last dim that is not a multiple of 16 bytes comes out garbled, and a middle dim is taken for the last.
- `all_gather_reg` raises outside a capture; captured outside `capture()` it leaves the output as it was at replay.
- An input larger than the pool raises.

`AITER_STANDIN_STAGES=1` stands for expandable segments: when a capture begins it is decided that inputs are staged, and
an input that is registered all the same ends the process when the capture ends.

`AITER_STANDIN_FAULT=unwritten:BYTES` adds one of its own: outputs of inputs of at least BYTES stay unwritten.

On the CPU the data goes through our shared-memory communicator and graphs are lists of host calls; on a GPU it goes
through torch's symmetric memory. Its speed means nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from ccl_dispatch.tuner.device.host import capturing, launch
from ccl_dispatch.tuner.shared_memory.communicator import ShmCommunicator

logger = logging.getLogger("aiter")

_TAKEN = (torch.float32, torch.float16, torch.bfloat16)
_PACK = 16


class CustomAllreduce:
    """See the module."""

    _SUPPORTED_WORLD_SIZES: ClassVar[list[int]] = [2, 4, 6, 8]
    _communicators: ClassVar[int] = 0

    def __init__(
        self,
        group: dist.ProcessGroup,
        device: int | str | torch.device,
        max_size: int = 1024 * 1024 * 1024,
        enable_register_for_capturing: bool = True,
    ) -> None:
        self._IS_CAPTURING = False
        self.disabled = True
        self.group = group
        assert dist.get_backend(group) != "nccl", "the group must not be one of NCCL"
        world_size = dist.get_world_size(group)
        if world_size not in self._SUPPORTED_WORLD_SIZES:
            logger.warning("disabled: world size %d", world_size)
            return
        self.device = torch.device(f"cuda:{device}" if isinstance(device, int) else device)
        self.enable_register_for_capturing = enable_register_for_capturing
        self.max_size = max_size
        self.rank = dist.get_rank(group)
        self.world_size = world_size
        self.fully_connected = True
        self._fault_from = _fault_from()
        self._stages = os.environ.get("AITER_STANDIN_STAGES") == "1"
        self._captured: list[_Registration] = []
        self._meet()
        on_host = self.device.type == "cpu"
        self._transport: Any = _Host(group, max_size) if on_host else _Gpu(group, self.device, max_size)
        self.disabled = False

    def _meet(self) -> None:
        """Find the other ranks under keys that count this process's communicators: ranks must have made as many."""
        store: Any = dist.distributed_c10d._get_default_store()
        while isinstance(store, dist.PrefixStore):
            store = store.underlying_store
        assert isinstance(store, dist.TCPStore), "the default store must be a TCPStore"
        self._exchanges = 0
        ranks = "_".join(map(str, sorted(dist.get_process_group_ranks(self.group))))
        self._prefix = f"standin/{CustomAllreduce._communicators}/{ranks}"
        CustomAllreduce._communicators += 1
        self._store = store
        self._exchange("here")

    def _exchange(self, value: str) -> list[str]:
        prefix = f"{self._prefix}/{self._exchanges}"
        self._exchanges += 1
        self._store.set(f"{prefix}/{self.rank}", value)
        return [self._store.get(f"{prefix}/{rank}").decode() for rank in range(self.world_size)]

    def should_custom_ag(self, inp: torch.Tensor) -> bool:
        """Capacity and alignment; neither dtype nor dim, and 6 ranks are fine."""
        size = inp.numel() * inp.element_size()
        return (
            not self.disabled
            and size % _PACK == 0
            and inp.is_contiguous()
            and size <= self.max_size / (self.world_size * 2)
        )

    def all_gather_reg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        """Gather from the ranks' own inputs, whose addresses `capture()` exchanges when it ends."""
        target = self._output(inp, out, dim)
        if not self._transport.capturing():
            raise RuntimeError(f"buffer address {inp.data_ptr()} is not registered!")
        registration = _Registration(self.device)
        if self._IS_CAPTURING:
            self._captured.append(registration)
        self._gather(inp, target, dim, registration)
        return target

    def all_gather_unreg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        """Gather by way of the pool."""
        target = self._output(inp, out, dim)
        if inp.numel() * inp.element_size() > self.max_size:
            raise RuntimeError("registered buffer is too small to contain the input")
        self._gather(inp, target, dim, None)
        return target

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Registers what is captured inside, when it ends."""
        self._IS_CAPTURING = True
        if not self.disabled and self._stages:
            self.enable_register_for_capturing = False
        try:
            yield
        finally:
            self._IS_CAPTURING = False
            if not self.disabled and self._captured and self._stages:
                os.abort()
            if not self.disabled and self._captured:
                counts = set(self._exchange(str(len(self._captured))))
                assert len(counts) == 1, f"the ranks captured different numbers of calls: {counts}"
                for registration in self._captured:
                    registration.complete()
                self._captured.clear()

    def close(self) -> None:
        """Give the pool back."""
        if not self.disabled:
            self._transport.close()
            self.disabled = True

    def __del__(self) -> None:
        self.close()

    def _output(self, inp: torch.Tensor, out: torch.Tensor | None, dim: int) -> torch.Tensor:
        if out is None:
            shape = list(inp.shape)
            shape[0 if dim == 0 else -1] *= self.world_size
            out = inp.new_empty(shape)
        assert out.is_contiguous(), "output tensor is not weak-contiguous"
        return out

    def _gather(self, inp: torch.Tensor, out: torch.Tensor, dim: int, registration: _Registration | None) -> None:
        if inp.dtype not in _TAKEN:
            raise RuntimeError("custom allreduce only supports float32, float16 and bfloat16")
        size = inp.numel() * inp.element_size()
        if self.world_size == 6 or size >= self._fault_from:
            return
        along_last = dim != 0 and inp.dim() > 1
        garbled = along_last and inp.shape[-1] * inp.element_size() % _PACK != 0
        by_rank = (
            out.view(*inp.shape[:-1], self.world_size, inp.shape[-1]).movedim(-2, 0)
            if along_last
            else out.view(self.world_size, *inp.shape)
        )
        self._transport.gather(inp, by_rank, registration)
        if garbled:
            self._transport.then(lambda: out.view(-1).copy_(out.view(-1).roll(1)))


class _Registration:
    """Whether the addresses of a captured call's inputs are known, which every replay finds out for itself."""

    def __init__(self, device: torch.device) -> None:
        self.known = torch.zeros((), dtype=torch.bool) if device.type == "cpu" else _spare_flags.pop()

    def complete(self) -> None:
        """Every rank has told."""
        self.known.fill_(True)


# Flags on the GPU, made ahead: what is made during a capture belongs to the graph.
_spare_flags: list[torch.Tensor] = []


class _Host:
    """Ranks on the CPU."""

    def __init__(self, group: dist.ProcessGroup, max_size: int) -> None:
        self._shm = ShmCommunicator(group, "cpu", max_size, registered_size=_PACK)

    def capturing(self) -> bool:
        """Whether host calls are noted instead of made."""
        return capturing()

    def gather(self, inp: torch.Tensor, by_rank: torch.Tensor, registration: _Registration | None) -> None:
        """Gather into views of the output, one per rank."""

        def call() -> None:
            if registration is None or bool(registration.known):
                by_rank.copy_(self._shm.all_gather_unreg(inp).view(by_rank.shape))

        launch(call)

    def then(self, call: Callable[[], Any]) -> None:
        """Do something behind what was done before."""
        launch(call)

    def close(self) -> None:
        """Give the memory back."""
        self._shm.close()


class _Gpu:
    """Ranks on GPUs, or sharing one."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device, max_size: int) -> None:
        import torch.distributed._symmetric_memory as symmetric

        self._rank, self._ranks = dist.get_rank(group), dist.get_world_size(group)
        size = max_size // (2 * self._ranks)
        self._pool = symmetric.empty(size, dtype=torch.uint8, device=device)
        self._handle: Any = symmetric.rendezvous(self._pool, group.group_name)
        _spare_flags.extend(torch.zeros(4096, dtype=torch.bool, device=device).unbind())

    def capturing(self) -> bool:
        """Whether the current stream is being captured."""
        return torch.cuda.is_current_stream_capturing()

    def gather(self, inp: torch.Tensor, by_rank: torch.Tensor, registration: _Registration | None) -> None:
        """Gather into views of the output, one per rank."""
        self._handle.get_buffer(self._rank, inp.shape, inp.dtype, 0).copy_(inp)
        self._handle.barrier()
        for rank in range(self._ranks):
            found = self._handle.get_buffer(rank, inp.shape, inp.dtype, 0)
            part = by_rank[rank]
            part.copy_(found if registration is None else torch.where(registration.known, found, part))
        self._handle.barrier()

    def then(self, call: Callable[[], Any]) -> None:
        """Do something behind what was done before."""
        call()

    def close(self) -> None:
        """Let go of the memory."""
        self._handle = None


def _fault_from() -> float:
    """The input size in bytes from which outputs stay unwritten."""
    kind, _, size = os.environ.get("AITER_STANDIN_FAULT", "").partition(":")
    return int(size) if kind == "unwritten" else float("inf")
