"""The protocol of a backend."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ccl_dispatch.runtime.vocabulary import ITEMSIZE, MODES, Cell
from ccl_dispatch.tuner.device.base import Call, Device
from ccl_dispatch.tuner.device.host import HostDevice

if TYPE_CHECKING:
    import torch

# Rows of the two-dimensional input that stands for a size when the last dim is gathered and no shape is given.
LAST_DIM_ROWS = 8


@dataclass(frozen=True)
class Point:
    """One size in one cell. `size` is per-rank input bytes, `shape` the workload shape it stands for, or empty."""

    cell: Cell
    size: int
    shape: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one rank's input: the workload's, else flat, else two-dimensional for the last dim."""
        if self.shape:
            return self.shape
        count = self.size // ITEMSIZE[self.cell.dtype]
        if self.cell.dim == "last" and count % LAST_DIM_ROWS == 0 and count > LAST_DIM_ROWS:
            return (LAST_DIM_ROWS, count // LAST_DIM_ROWS)
        return (1, count) if self.cell.dim == "last" else (count,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the gathered output."""
        shape = list(self.input_shape)
        shape[0 if self.cell.dim == "first" else -1] *= self.cell.world_size
        return tuple(shape)

    @property
    def whole(self) -> bool:
        """Whether the size is a whole number of elements of the cell's dtype."""
        return self.size > 0 and math.prod(self.input_shape) * ITEMSIZE[self.cell.dtype] == self.size


@dataclass(frozen=True)
class BackendContext:
    """What a worker gives a backend when it makes one, on every rank of a group.

    Attributes:
        group: the process group of these ranks, of the kind that the class names in `group_kind`; None for a backend
            that moves no data.
        rank, world_size: of this group.
        device: where inputs and outputs live.
        options: the backend's own mapping from the config (`backends: {NAME: ...}`).
    """

    group: Any
    rank: int
    world_size: int
    device: Device = field(default_factory=HostDevice)
    options: Mapping[str, Any] = field(default_factory=dict)


class Backend(abc.ABC):
    """One implementation of a collective, for one group of ranks.

    A worker makes one instance per world size and keeps it for the whole sweep. For each point it calls `supports` and,
    on a yes, `prepare` for every pair of buffers; every rank makes the same calls in the same order. In the modes
    `graph` and `graph_copy_in` it is the worker that captures the prepared calls, all backends alike, and replays them.
    """

    #: The name in configs and tables.
    name: ClassVar[str]
    #: The collectives that it does. Workers check and time an all-gather.
    collectives: ClassVar[tuple[str, ...]] = ("all_gather",)
    #: The modes that its calls can be run in, on a device that has graphs; on one that has none only `eager` is left.
    modes: ClassVar[tuple[str, ...]] = MODES
    #: The dtypes that it takes.
    dtypes: ClassVar[tuple[str, ...]] = tuple(ITEMSIZE)
    #: The types of device that it runs on, the usual one first.
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    #: torch.distributed's name of the kind of process group that it wants.
    group_kind: ClassVar[str] = "gloo"
    #: The keys that it understands in its mapping of the config.
    options: ClassVar[tuple[str, ...]] = ()
    #: Bytes of its pool where the option `max_size` is not given; None for a backend without a pool.
    default_max_size: ClassVar[int | None] = None
    #: Whether `unavailable` imports torch, which takes a second or two: it is asked where torch is imported anyway.
    torch_tells: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def unavailable(cls) -> str | None:
        """Why this machine can't run the backend at all, or None when it can. Asked without a process group."""

    @classmethod
    def declined(cls, cell: Cell, *, graphs: bool) -> str | None:
        """Why no point of `cell` can be taken, by what the class declares; None when some may.

        Args:
            graphs: whether the device has graphs.
        """
        if cell.collective not in cls.collectives:
            return f"{cls.name} does {' and '.join(cls.collectives)} only, not {cell.collective}"
        if cell.mode not in cls.modes:
            return f"{cls.name} runs in mode {' and '.join(cls.modes)} only, not {cell.mode}"
        if cell.dtype not in cls.dtypes:
            return f"{cls.name} takes {', '.join(cls.dtypes)}, not {cell.dtype}"
        if cell.mode != "eager" and not graphs:
            return f"host memory has no graphs: mode {cell.mode} can't be captured"
        return None

    @classmethod
    def foreseen(cls, point: Point, options: Mapping[str, Any]) -> str | None:
        """Why `point` can't be taken, as far as point and options tell: for a plan that is made without ranks."""
        return None

    @classmethod
    def device_bytes(cls, largest: int, world_size: int, options: Mapping[str, Any]) -> int:
        """Bytes that one instance takes on each rank's device, for inputs of up to `largest` bytes."""
        return 0

    @abc.abstractmethod
    def __init__(self, context: BackendContext) -> None:
        """Collective: every rank of the group constructs it at the same time."""

    @abc.abstractmethod
    def supports(self, point: Point) -> str | None:
        """Why the backend can't take `point`, or None when it can. Must answer alike on every rank."""

    def input_memory(self, size: int) -> torch.Tensor | None:
        """`size` bytes (flat uint8) in which inputs must lie to be read in place in mode `graph`; None: anywhere.

        Collective, and asked at most once, right after the constructor.
        """
        return None

    @abc.abstractmethod
    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """A call that gathers `source` (shape `point.input_shape`) into `target` (`point.output_shape`).

        The call is what is timed, and what is captured. It is complete when it returns, or on a GPU when what it put
        into the current stream is.
        """

    def capture(self) -> AbstractContextManager[Any]:
        """What must be entered around a capture of prepared calls, and left before the first replay."""
        return nullcontext()

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back. May be called twice."""
