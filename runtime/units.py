"""Sizes as people write them (`16 B`, `4 MiB`) and as the code keeps them (bytes, an int); gains and counts as text."""

from __future__ import annotations

import re

from ccl_dispatch.runtime.vocabulary import MAX_SIZE

_UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_BINARY = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
# Half as many digits again as the largest size has.
_SIZE = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Bytes of `text`: an int is bytes; `"4 MiB"` and `"1.5 KiB"` are read with their unit.

    Raises:
        ValueError: no number, an unknown unit, not a whole number of bytes, or more than a table can hold.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return _bounded(text)
    text = str(text)
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None:
        raise ValueError(
            f"{text[:60]!r} is not a size; write bytes as an int, or a number with B, KiB, MiB, GiB, KB, MB or GB"
        )
    # In whole numbers: a float would lose the last digits of a long one.
    whole, _, fraction = match.group(1).partition(".")
    size, rest = divmod(int(whole + fraction) * unit, 10 ** len(fraction))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return _bounded(size)


def _bounded(size: int) -> int:
    if size > MAX_SIZE:
        raise ValueError(f"{str(size)[:20]}... B is more than a size can be, {MAX_SIZE} B")
    return size


def exact_size(size: int) -> str:
    """`size` bytes as `parse_size` reads them back: the largest unit that needs at most two decimals, else bytes.

    For data. People get `short_size`: here neighbouring sizes may have different units.
    """
    for unit, scale in _BINARY:
        if size >= scale:
            short = f"{size / scale:.2f}".rstrip("0").rstrip(".")
            if float(short) * scale == size:
                return f"{short} {unit}"
    return f"{size} B"


def short_size(size: float) -> str:
    """`size` bytes for a reader: in the largest unit that is not above it, to four figures and two decimals at most."""
    for unit, scale in _BINARY:
        # The largest number below a unit may round to it, and is told in it then.
        if size >= scale - scale / 2048:
            value = max(size / scale, 1.0)
            short = f"{value:.{2 if value < 100 else 1}f}".rstrip("0").rstrip(".") if value < 1000 else f"{value:.0f}"
            return f"{short} {unit}"
    return f"{size:.0f} B"


def full_size(size: int) -> str:
    """`size` bytes for a reader who may have to write them: the bytes stand behind a rounded size."""
    short = short_size(size)
    number, unit = short.split()
    return short if float(number) * _UNITS[unit.upper()] == size else f"{short} ({size} B)"


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


def percent(share: float) -> str:
    """A share as somebody has set it, with all of its digits: `95%`, `99.9%`, `2.5%`."""
    return f"{share * 100:.10g}%"


def counted(count: int, noun: str) -> str:
    """`1 point`, `4 points`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
