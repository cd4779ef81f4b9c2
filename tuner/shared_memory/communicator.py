"""An all-gather through shared memory for the CPU ranks of one host, with the surface of AITER's communicator.

Every rank stages its input in its slot of the pool, meets the others at a barrier, and copies all slots to its output.
Slots are doubled: call k uses half k mod 2, and a rank can only reach call k + 2 through the barrier of call k + 1,
which every rank enters after it has finished reading call k. One barrier per call is therefore enough.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ccl_dispatch.tuner.shared_memory.barrier import SharedBarrier
from ccl_dispatch.tuner.shared_memory.segment import Segment
from ccl_dispatch.tuner.sizes import ALIGNMENT

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

DEFAULT_MAX_SIZE = 64 * 1024**2
_PAGE = 4096


class ShmCommunicator:
    """All-gather for the ranks of `group`, all on this host; a collective constructor, like AITER's.

    Args:
        group: a gloo process group; used while constructing only.
        device: kept for the surface's sake; inputs and outputs live in host memory.
        max_size: bytes of the staging pool, which all ranks share. One call can take `max_size / (2 x world_size)`
            bytes per rank (AITER's limit, and here the size of a slot).
        registered_size: bytes per rank for inputs made with `empty`, which `all_gather_reg` reads in place.
        timeout: seconds after which a call raises TimeoutError because a rank did not come.

    Attributes:
        disabled: True when it can't serve, on every rank alike; `disabled_reason` says why.
    """

    def __init__(
        self,
        group: ProcessGroup,
        device: object = None,
        max_size: int = DEFAULT_MAX_SIZE,
        *,
        registered_size: int = DEFAULT_MAX_SIZE,
        timeout: float = 300.0,
    ) -> None:
        import torch.distributed as dist

        self.group = group
        self.device = device
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self.max_size = max_size
        self.disabled = True
        self.disabled_reason = ""
        self._IS_CAPTURING = False
        self._timeout = timeout
        self._calls = 0
        # Whole cache lines per slot, never more than the promised share.
        self._slot = max_size // (2 * self.world_size) // ALIGNMENT * ALIGNMENT
        self._registered_size = _round_up(registered_size, _PAGE)
        self._registered_used = 0
        self._segment: Segment | None = None
        self._connect(dist)

    # Setting up: every step ends with an exchange, so that all ranks learn of any rank's failure and decide alike.
    def _connect(self, dist: Any) -> None:
        header = _round_up(SharedBarrier.bytes_needed(self.world_size) + 8 * 2 * self.world_size, _PAGE)
        pool = _round_up(2 * self.world_size * self._slot, _PAGE)
        total = header + pool + self.world_size * self._registered_size
        offer: Any = None
        if self.rank == 0:
            try:
                self._segment = Segment.create(total)
                SharedBarrier(self._segment.base, 0, self.world_size).initialise()
                offer = self._segment.address
            except OSError as problem:
                offer = f"rank 0: {problem}"
        offers: list[Any] = [None] * self.world_size
        dist.all_gather_object(offers, offer, group=self.group)
        failure = offers[0] if isinstance(offers[0], str) else ""
        if not failure and self.rank != 0:
            try:
                self._segment = Segment.open(offers[0])
            except OSError as problem:
                failure = f"rank {self.rank}: {problem}"
        failures: list[Any] = [None] * self.world_size
        dist.all_gather_object(failures, failure, group=self.group)
        self.disabled_reason = next((text for text in failures if text), "")
        if self.disabled_reason or self._segment is None:
            self.close()
            return
        self._segment.close_fd()
        base = self._segment.base
        self._barrier = SharedBarrier(base, self.rank, self.world_size)
        offsets_at = SharedBarrier.bytes_needed(self.world_size)
        self._offsets = memoryview(self._segment.map)[offsets_at : offsets_at + 8 * 2 * self.world_size].cast("q")
        self._slots = [
            [base + header + (half * self.world_size + rank) * self._slot for rank in range(self.world_size)]
            for half in (0, 1)
        ]
        self._registered_at = header + pool
        self._arenas = [base + self._registered_at + rank * self._registered_size for rank in range(self.world_size)]
        self.disabled = False

    def should_custom_ag(self, inp: torch.Tensor) -> bool:
        """Whether a call can take `inp`: capacity, alignment and layout; says nothing about speed."""
        return self._fits(inp)

    # Apart from the public check, which a table may have replaced: whoever calls a gather has decided already.
    def _fits(self, inp: torch.Tensor) -> bool:
        size = inp.numel() * inp.element_size()
        return (
            not self.disabled
            and 0 < size <= self._slot
            and size % ALIGNMENT == 0
            and inp.device.type == "cpu"
            and inp.is_contiguous()
        )

    def all_gather_unreg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        """Gather `inp` of every rank along `dim` (0 or the last), staging it through the pool.

        Args:
            inp: contiguous host tensor, the same shape and dtype on every rank.
            out: contiguous, `inp`'s shape with `dim` times the world size; made when not given.

        Raises:
            ValueError: `inp`, `out` or `dim` can't be taken (`should_custom_ag` tells about `inp` before).
            TimeoutError: a rank did not come; the communicator is disabled from then on.
        """
        size = self._take(inp)
        target, gathered = self._target(inp, out, dim)
        half = self._calls & 1
        self._calls += 1
        slots = self._slots[half]
        ctypes.memmove(slots[self.rank], inp.data_ptr(), size)
        self._meet()
        self._collect(gathered, slots, size)
        return self._deliver(inp, gathered, target, dim)

    def all_gather_reg(self, inp: torch.Tensor, out: torch.Tensor | None = None, dim: int = 0) -> torch.Tensor:
        """Gather `inp` of every rank, read in place: `inp` must come from `empty`. Saves the staging copy.

        Raises:
            ValueError: as `all_gather_unreg`, or `inp` is not in registered memory.
            TimeoutError: a rank did not come; the communicator is disabled from then on.
        """
        size = self._take(inp)
        offset = inp.data_ptr() - self._arenas[self.rank]
        if not 0 <= offset <= self._registered_size - size:
            raise ValueError("the input is not in registered memory; make it with communicator.empty(shape, dtype)")
        target, gathered = self._target(inp, out, dim)
        half = self._calls & 1
        self._calls += 1
        offsets = self._offsets
        offsets[half * self.world_size + self.rank] = offset
        self._meet()
        sources = [arena + offsets[half * self.world_size + rank] for rank, arena in enumerate(self._arenas)]
        self._collect(gathered, sources, size)
        # The caller may overwrite its input as soon as this returns: nobody may still be reading it.
        self._meet()
        return self._deliver(inp, gathered, target, dim)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised input tensor in this rank's registered memory; it is given back by `close` only.

        Raises:
            ValueError: the registered memory is used up, or the communicator is disabled.
        """
        import torch

        size = math.prod(shape) * dtype.itemsize
        start = self._registered_used
        if self.disabled or self._segment is None:
            raise ValueError(f"the communicator is disabled: {self.disabled_reason or 'closed'}")
        if size <= 0 or start + size > self._registered_size:
            raise ValueError(
                f"{size} bytes asked for, {self._registered_size - start} of {self._registered_size} bytes of "
                "registered memory are left; construct the communicator with a larger registered_size"
            )
        self._registered_used = _round_up(start + size, 64)
        at = self._registered_at + self.rank * self._registered_size + start
        flat = torch.frombuffer(self._segment.map, dtype=dtype, count=math.prod(shape), offset=at)
        return flat.view(*shape)

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Marks that calls inside belong to a captured graph; host memory has no graphs, so they run as ever."""
        self._IS_CAPTURING = True
        try:
            yield
        finally:
            self._IS_CAPTURING = False

    def close(self) -> None:
        """Stop serving; the memory goes with the last tensor and the last process that uses it. May be called twice."""
        if not self.disabled:
            self.disabled_reason = "closed"
        self.disabled = True
        if self._segment is not None:
            self._segment.close_fd()
            self._segment = None

    def _take(self, inp: torch.Tensor) -> int:
        if not self._fits(inp):
            raise ValueError(
                f"{tuple(inp.shape)} {inp.dtype} on {inp.device} can't be taken: "
                + (
                    f"the communicator is disabled ({self.disabled_reason})"
                    if self.disabled
                    else f"expected contiguous host memory of 1 to {self._slot} bytes, a multiple of {ALIGNMENT}"
                )
            )
        return inp.numel() * inp.element_size()

    def _target(self, inp: torch.Tensor, out: torch.Tensor | None, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and where the slots are gathered rank after rank: the output itself unless dim is the last."""
        if dim not in (0, -1, inp.dim() - 1):
            raise ValueError(f"dim {dim} of {inp.dim()} dimensions: only the first and the last can be gathered")
        shape = list(inp.shape) or [1]
        shape[dim] *= self.world_size
        if out is None:
            out = inp.new_empty(shape)
        elif out.numel() != inp.numel() * self.world_size or out.dtype != inp.dtype or not out.is_contiguous():
            found = f"{out.dtype} {tuple(out.shape)}"
            raise ValueError(f"the output must be contiguous {inp.dtype} {tuple(shape)}, found {found}")
        if _is_first(inp, dim):
            return out, out
        return out, inp.new_empty((self.world_size, *inp.shape))

    def _collect(self, gathered: torch.Tensor, sources: list[int], size: int) -> None:
        address = gathered.data_ptr()
        for source in sources:
            ctypes.memmove(address, source, size)
            address += size

    def _deliver(self, inp: torch.Tensor, gathered: torch.Tensor, target: torch.Tensor, dim: int) -> torch.Tensor:
        if not _is_first(inp, dim):
            shape = (*inp.shape[:-1], self.world_size, inp.shape[-1])
            target.view(shape).copy_(gathered.movedim(0, -2))
        return target

    def _meet(self) -> None:
        try:
            self._barrier.wait(self._timeout)
        except TimeoutError:
            self.disabled_reason = f"a rank did not come within {self._timeout:g} s"
            self.disabled = True
            raise


def _is_first(inp: torch.Tensor, dim: int) -> bool:
    return dim == 0 or inp.dim() <= 1


def _round_up(value: int, step: int) -> int:
    return (value + step - 1) // step * step
