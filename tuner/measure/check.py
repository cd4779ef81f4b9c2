"""Is the output right, bit for bit? Asked of every backend at every point, on every rank, before it is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ccl_dispatch.tuner.backends.base import Point

if TYPE_CHECKING:
    import torch

# Starting places within the pattern: enough that ranks, rounds and points differ, all aligned to 16 bytes.
_PLACES = 65536
_STEP = 16


class Pattern:
    """Random bytes from which every rank cuts its input at a place of its own.

    Inputs then differ by rank and by position, any rank can make what any other sends, and nothing has to be generated
    per point. The places change with every round: what a backend kept from the round before is wrong in this one.

    Attributes:
        largest: the largest per-rank input in bytes.

    Args:
        seed: the same on every rank.
    """

    def __init__(self, largest: int, seed: int) -> None:
        import torch

        self.largest = largest
        generator = torch.Generator().manual_seed(seed)
        size = _round_up(largest) + _PLACES * _STEP
        words = torch.randint(-(2**62), 2**62, (size // 8,), dtype=torch.int64, generator=generator)
        self._bytes = words.view(torch.uint8)

    def input(self, point: Point, rank: int, round_number: int) -> torch.Tensor:
        """The bytes that `rank` sends: flat uint8, a view."""
        start = (rank * 769 + round_number * 4241) % _PLACES * _STEP
        return self._bytes[start : start + point.size]

    def expected(
        self, point: Point, world_size: int, round_number: int, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The bytes of the right output, as a flat uint8 tensor; in the memory of `out` (flat uint8) when given."""
        import torch

        if out is None:
            out = torch.empty(point.size * world_size, dtype=torch.uint8)
        parts = [self.input(point, rank, round_number) for rank in range(world_size)]
        if point.cell.dim == "first":
            return torch.cat(parts, out=out)
        row = point.size // _rows(point)
        torch.cat([part.view(-1, row) for part in parts], dim=1, out=out.view(-1, row * world_size))
        return out


def poison(target: torch.Tensor, expected: torch.Tensor) -> None:
    """Fill `target` with the complement of what must come: no byte can be right unless it was written."""
    import torch

    torch.bitwise_not(expected, out=target.view(-1).view(torch.uint8))


def mistakes(target: torch.Tensor, expected: torch.Tensor) -> str:
    """What is wrong with `target`, in words; empty when every bit is right."""
    import torch

    found = target.view(-1).view(torch.uint8)
    if torch.equal(found, expected):
        return ""
    wrong = found != expected
    first = int(wrong.nonzero()[0, 0])
    unwritten = int((found == ~expected).sum())
    return (
        f"{int(wrong.sum())} of {expected.numel()} bytes are wrong ({unwritten} of them unwritten), "
        f"the first at byte {first}: {int(found[first]):#04x} instead of {int(expected[first]):#04x}"
    )


def _rows(point: Point) -> int:
    rows = 1
    for extent in point.input_shape[:-1]:
        rows *= extent
    return rows


def _round_up(size: int) -> int:
    return (size + 7) // 8 * 8
