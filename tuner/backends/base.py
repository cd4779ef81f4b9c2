"""The protocol of a backend."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ccl_dispatch.runtime.vocabulary import ITEMSIZE, Cell

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
        group: the process group of these ranks (gloo on host memory), None for a backend that moves no data.
        rank, world_size: of this group.
        device: where inputs and outputs live.
        options: the backend's own mapping from the config (`backends: {NAME: ...}`).
    """

    group: Any
    rank: int
    world_size: int
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)


class Backend(abc.ABC):
    """One implementation of a collective, for one group of ranks.

    A worker makes one instance per world size and keeps it for the whole sweep. For each point it calls `supports` and,
    on a yes, `prepare` once and `run` many times; every rank makes the same calls in the same order.
    """

    #: The name in configs and tables.
    name: ClassVar[str]
    #: What it needs besides torch, for `doctor` and for the error when it is missing.
    needs: ClassVar[str] = ""

    @classmethod
    @abc.abstractmethod
    def unavailable(cls) -> str | None:
        """Why this machine can't run the backend at all, or None when it can. Asked without a process group."""

    @abc.abstractmethod
    def __init__(self, context: BackendContext) -> None:
        """Collective: every rank of the group constructs it at the same time."""

    @abc.abstractmethod
    def supports(self, point: Point) -> str | None:
        """Why the backend can't take `point`, or None when it can. Must answer alike on every rank."""

    @abc.abstractmethod
    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> None:
        """Make `run` gather `source` (shape `point.input_shape`) into `target` (`point.output_shape`)."""

    @abc.abstractmethod
    def run(self) -> None:
        """One call of the collective, complete when it returns."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back. May be called twice."""
