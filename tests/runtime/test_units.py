"""Sizes in words: short ones for people, exact ones for data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.runtime.units import counted, exact_size, full_size, parse_size, percent, short_size

SIZES = st.one_of(st.integers(0, 4096), st.integers(0, 1 << 41))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (16, "16 B"),
        (1023, "1023 B"),
        (724 << 10, "724 KiB"),
        (258560, "252.5 KiB"),
        (4871 << 10, "4.76 MiB"),
        ((4871 << 10) + 1, "4.76 MiB"),
        ((8 << 20) + 1, "8 MiB"),
        (9975792, "9.51 MiB"),
        (14107904, "13.45 MiB"),
        (1023 << 10, "1023 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (1 << 40, "1024 GiB"),
        (0.5 * (1 << 20), "512 KiB"),
    ],
)
def test_a_size_has_the_unit_of_its_magnitude(size: float, text: str) -> None:
    """The unit hangs on how large a size is, never on whether it divides by something."""
    assert short_size(size) == text


@given(SIZES)
def test_a_short_size_is_short_near_and_comes_back(size: int) -> None:
    """Nine characters at most, within half a per cent, never with an exponent."""
    text = short_size(size)
    number, unit = text.split()
    assert "e" not in number
    assert len(text) <= 9
    back = float(number) * parse_size(f"1 {unit}")
    assert abs(back - size) <= 0.005 * size


@given(st.integers(0, 1 << 33), st.integers(0, 1 << 33))
def test_short_sizes_keep_their_order(one: int, other: int) -> None:
    """Of two sizes the larger one never reads as the smaller."""
    low, high = (
        float(number) * parse_size(f"1 {unit}")
        for number, unit in (short_size(size).split() for size in sorted((one, other)))
    )
    assert low <= high


@given(SIZES)
def test_exact_sizes_come_back(size: int) -> None:
    """What is written as data is read as the same number of bytes."""
    assert parse_size(exact_size(size)) == size


@pytest.mark.parametrize("text", ["0.3 B", "1.0001 KiB", "half a MiB", "4 Mib/s", "", "8388608 TiB"])
def test_what_is_no_whole_number_of_bytes_is_refused(text: str) -> None:
    """With a ValueError of a length to be read, which whoever reads sizes tells with its place."""
    with pytest.raises(ValueError, match="is not a") as told:
        parse_size(text)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(
    "size",
    [1 << 63, 10**400, "9223372036854775808", f"{'9' * 30} KiB", f"{'9' * 6000} KiB"],
    ids=["one more", "an int", "a text", "with a unit", "endless"],
)
def test_a_size_that_no_table_could_hold_is_refused(size: str | int) -> None:
    """In a sentence of a length to be read, whatever the number's."""
    with pytest.raises(ValueError, match=r"than a size can be, 9223372036854775807 B|is not a size") as told:
        parse_size(size)
    assert len(str(told.value)) < 200


def test_a_size_is_read_to_its_last_digit() -> None:
    """Also where a float would have lost it."""
    assert parse_size("9007199254740993 B") == 9007199254740993
    assert parse_size("0.1 GB") == 10**8
    assert parse_size((1 << 63) - 1) == (1 << 63) - 1


@given(SIZES)
def test_a_full_size_holds_the_bytes_where_the_short_one_is_rounded(size: int) -> None:
    """Either the short text is the size, or the bytes stand behind it."""
    short, _, rest = full_size(size).partition(" (")
    assert short == short_size(size)
    assert (rest == f"{size} B)") if rest else (parse_size(short) == size)


def test_counts_have_their_plural() -> None:
    """One point, and any other number of points."""
    assert [counted(count, "point") for count in (0, 1, 2)] == ["0 points", "1 point", "2 points"]


@pytest.mark.parametrize(
    ("share", "text"), [(0.95, "95%"), (0.999, "99.9%"), (0.03, "3%"), (0.025, "2.5%"), (0.0005, "0.05%"), (0.0, "0%")]
)
def test_what_somebody_set_is_told_with_all_of_its_digits(share: float, text: str) -> None:
    """A confidence of 0.999 is not told as 100 %, nor a gain of 0.025 as 2 %."""
    assert percent(share) == text
