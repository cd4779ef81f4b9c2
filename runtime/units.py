"""Sizes as people write them (`16 B`, `4 MiB`) and as the code keeps them (bytes, an int); gains for people."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Bytes of `text`: an int is bytes; `"4 MiB"` and `"1.5 KiB"` are read with their unit.

    Raises:
        ValueError: no number, an unknown unit, or not a whole number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(str(text))
    unit = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None:
        raise ValueError(
            f"{text!r} is not a size; write bytes as an int, or a number with B, KiB, MiB, GiB, KB, MB or GB"
        )
    value = float(match.group(1)) * unit
    if value != int(value):
        raise ValueError(f"{text!r} is {value} bytes, which is not a whole number")
    return int(value)


def format_size(size: int) -> str:
    """`size` bytes for a reader, exact: the largest binary unit that needs at most two decimals, else plain bytes."""
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= scale:
            short = f"{size / scale:.2f}".rstrip("0").rstrip(".")
            if float(short) * scale == size:
                return f"{short} {unit}"
    return f"{size} B"


def approx_size(size: float) -> str:
    """`size` bytes for a reader, to three figures: for axes and columns, never for data that is read back."""
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.4g} B"


def short_size(size: int) -> str:
    """`size` bytes for a column: exact where that is short, else to three figures."""
    exact = format_size(size)
    return approx_size(size) if exact.endswith(" B") and size >= 1024 else exact


def gain_texts(*gains: float) -> tuple[str, ...]:
    """Gains, T(other)/T(this) - 1, for a reader: all as per cent, or all as factors where one of them is twice as fast.

    What is compared, such as a gain and the bounds of its interval, is given at once: on two scales nobody compares it.
    """
    if max(gains) >= 1:
        return tuple(f"{1 + gain:.2f}x" for gain in gains)
    return tuple(f"{gain:+.1%}" for gain in gains)


def gain_text(gain: float) -> str:
    """One gain that stands by itself."""
    return gain_texts(gain)[0]
