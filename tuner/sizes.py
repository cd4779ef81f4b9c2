"""Sizes along a cell's curve: per-rank input bytes, spread evenly on a log scale; and runs of them in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.units import full_size, short_size
from ccl_dispatch.runtime.vocabulary import ITEMSIZE

# AITER, and the 16-byte loads and stores of custom kernels in general, take multiples of it only.
ALIGNMENT = 16


def size_grid(minimum: int, maximum: int, per_octave: int, align: int = ALIGNMENT) -> tuple[int, ...]:
    """Sizes from `minimum` to `maximum` bytes, rising, unique, multiples of `align`, evenly spread on a log scale.

    Both ends are included when they are multiples of `align`; an end that is not is moved inwards to the next one.
    Steps are equal in log, at most a factor of 2 ** (1 / per_octave), before sizes are rounded to `align` and small
    ones that fall together are merged.

    Raises:
        ValueError: a bound, `per_octave` or `align` below 1, or no multiple of `align` between the bounds.
    """
    if min(minimum, maximum, per_octave, align) < 1:
        raise ValueError(
            f"size_grid({minimum}, {maximum}, per_octave={per_octave}, align={align}): every value must be at least 1"
        )
    first, last = -(-minimum // align) * align, maximum // align * align
    if first > last:
        raise ValueError(f"no multiple of {align} B lies between {minimum} B and {maximum} B")
    steps = math.ceil(math.log2(last / first) * per_octave)
    inner = (first * (last / first) ** (step / steps) for step in range(1, steps))
    return tuple(sorted({first, last, *(round(size / align) * align for size in inner)}))


def is_alone(size: int, reason: str) -> bool:
    """Whether an exclusion at `size` says nothing of any other size: backends refuse what is not aligned to 16 bytes.

    What fails there in another way (a wrong output, a crash) may do so elsewhere as well.
    """
    return reason == "unsupported" and size % ALIGNMENT != 0


def shape_size(shape: Sequence[int], dtype: str) -> int:
    """Bytes of one rank's input of `shape`.

    Raises:
        ValueError: an unknown dtype, or a dimension below 1.
    """
    if dtype not in ITEMSIZE:
        raise ValueError(f"unknown dtype {dtype!r}. {nearest(dtype, ITEMSIZE)}")
    if any(dimension < 1 for dimension in shape):
        raise ValueError(f"shape {list(shape)} has a dimension below 1")
    return math.prod(shape) * ITEMSIZE[dtype]


def span_text(low: int, high: int) -> str:
    """A run of sizes, or the one size that it is."""
    return short_size(low) if low == high else f"{short_size(low)} to {short_size(high)}"


def exact_span(low: int, high: int) -> str:
    """The same for sizes that are measured ones, which a rounded text would not find again."""
    return full_size(low) if low == high else f"{full_size(low)} to {full_size(high)}"


def start_text(start: int) -> str:
    """The first size of a run that may follow on another: one edge, one text.

    A run begins one byte after the last one's end, and sizes are whole elements: so an odd start reads as that end.
    """
    return short_size(start - 1 if start % 2 and start > 1 else start)
