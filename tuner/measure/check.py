"""Is the output right, bit for bit? Asked of every backend at every point, on every rank, before it is timed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.device.base import Device
from ccl_dispatch.tuner.device.host import HostDevice

if TYPE_CHECKING:
    import torch

# Starting places within the pattern: enough that ranks, rounds and points differ, all aligned to 16 bytes.
_PLACES = 65536
_STEP = 16


class Pattern:
    """Random bytes from which every rank cuts its input at a place of its own.

    Inputs then differ by rank and by position, any rank can make what any other sends, and nothing has to be generated
    per point. The places change with every round: what a backend kept from the round before is wrong in this one.

    Args:
        largest: the largest per-rank input in bytes.
        seed: the same on every rank.
        device: where inputs and outputs are.
    """

    def __init__(self, largest: int, seed: int, device: Device | None = None) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        size = _round_up(largest) + _PLACES * _STEP
        words = torch.randint(-(2**62), 2**62, (size // 8,), dtype=torch.int64, generator=generator)
        self._device = device or HostDevice()
        self._bytes = words.view(torch.uint8).to(self._device.name)
        self._inverse = torch.bitwise_not(self._bytes)
        # A bool is 0 or 1, and a library may make it so. Made when the first one is asked for.
        self._bools: tuple[torch.Tensor, torch.Tensor] | None = None

    def input(self, point: Point, rank: int, round_number: int) -> torch.Tensor:
        """The bytes that `rank` sends: flat uint8, a view."""
        return self._patterns(point)[0][_place(point, rank, round_number)]

    def expected(self, point: Point, world_size: int, round_number: int) -> torch.Tensor:
        """The bytes of the right output, as a new flat uint8 tensor."""
        expected = self._device.empty(point.size * world_size)
        for rank, part in enumerate(_parts(expected, point, world_size)):
            part.copy_(self.input(point, rank, round_number).view(part.shape))
        return expected

    def poison(self, target: torch.Tensor, point: Point, world_size: int, round_number: int) -> None:
        """Fill `target` with the complement of what must come: no byte can be right unless it was written."""
        inverse = self._patterns(point)[1]
        for rank, part in enumerate(_parts(target, point, world_size)):
            part.copy_(inverse[_place(point, rank, round_number)].view(part.shape))

    def mistakes(self, target: torch.Tensor, point: Point, world_size: int, round_number: int) -> str:
        """What is wrong with `target`, in words; empty when every bit is right."""
        import torch

        # Part by part against the pattern: outputs are large, and the right one need not be laid out to be compared.
        parts = enumerate(_parts(target, point, world_size))
        if all(torch.equal(part, self.input(point, rank, round_number).view(part.shape)) for rank, part in parts):
            return ""
        expected = self.expected(point, world_size, round_number)
        found = target.view(-1).view(torch.uint8)
        wrong = found != expected
        first = int(wrong.nonzero()[0, 0])
        unwritten = int((found == (expected ^ 1 if point.cell.dtype == "bool" else ~expected)).sum())
        return (
            f"{int(wrong.sum())} of {expected.numel()} bytes are wrong ({unwritten} of them unwritten), "
            f"the first at byte {first}: {int(found[first]):#04x} instead of {int(expected[first]):#04x}"
        )

    def _patterns(self, point: Point) -> tuple[torch.Tensor, torch.Tensor]:
        """What is sent of the point's dtype, and its complement."""
        if point.cell.dtype != "bool":
            return self._bytes, self._inverse
        if self._bools is None:
            self._bools = self._bytes & 1, self._inverse & 1
        return self._bools


def _place(point: Point, rank: int, round_number: int) -> slice:
    """Where in the pattern the input of `rank` lies."""
    start = (rank * 769 + round_number * 4241) % _PLACES * _STEP
    return slice(start, start + point.size)


def _parts(output: torch.Tensor, point: Point, world_size: int) -> Iterator[torch.Tensor]:
    """What comes from each rank, in an output of the point's layout: views of its bytes, (rows, bytes of a row)."""
    import torch

    rows = 1 if point.cell.dim == "first" else math.prod(point.input_shape[:-1])
    by_rank = output.view(-1).view(torch.uint8).view(rows, world_size, point.size // rows)
    return (by_rank[:, rank] for rank in range(world_size))


def _round_up(size: int) -> int:
    return (size + 7) // 8 * 8
