"""The check of outputs finds what a broken collective gives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import ITEMSIZE, Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.measure.check import Pattern

PATTERN = Pattern(1 << 16, 7)


def _point(dim: str = "first", size: int = 4096, world_size: int = 4, dtype: str = "bfloat16") -> Point:
    return Point(Cell("all_gather", "eager", dim, dtype, world_size), size)


def _target(point: Point) -> torch.Tensor:
    return torch.empty(point.output_shape, dtype=getattr(torch, point.cell.dtype))


def _expected(point: Point, number: int) -> torch.Tensor:
    return PATTERN.expected(point, point.cell.world_size, number)


def _poison(target: torch.Tensor, point: Point, number: int) -> None:
    PATTERN.poison(target, point, point.cell.world_size, number)


def _mistakes(target: torch.Tensor, point: Point, number: int) -> str:
    return PATTERN.mistakes(target, point, point.cell.world_size, number)


def _fill(target: torch.Tensor, content: torch.Tensor) -> None:
    target.view(-1).view(torch.uint8).copy_(content)


@pytest.mark.parametrize("dim", ["first", "last"])
@pytest.mark.parametrize("dtype", sorted(ITEMSIZE))
def test_expects_what_torch_gathers(dtype: str, dim: str) -> None:
    """What must come is torch.cat of the ranks' inputs along the dim, bit for bit, for every dtype."""
    point = _point(dim, dtype=dtype)
    typed = [PATTERN.input(point, rank, 3).view(torch.uint8).clone() for rank in range(4)]
    shaped = [part.view(*point.input_shape[:-1], -1) for part in typed]
    gathered = torch.cat(shaped, dim=0 if dim == "first" else -1)
    assert torch.equal(_expected(point, 3), gathered.flatten())
    # Libraries may make 0 or 1 of what is none of them, and would be called wrong for it.
    assert (int(gathered.max()) == 1) is (dtype == "bool")
    assert gathered.numel() == math.prod(point.output_shape) * ITEMSIZE[dtype]


@pytest.mark.parametrize("dim", ["first", "last"])
def test_an_unwritten_output_is_wrong_in_every_byte(dim: str) -> None:
    """A backend that writes nothing leaves no byte right, and the words say that all are unwritten."""
    point = _point(dim)
    target = _target(point)
    _poison(target, point, 1)
    words = _mistakes(target, point, 1)
    assert "16384 of 16384 bytes are wrong (16384 of them unwritten), the first at byte 0" in words


@pytest.mark.parametrize("dim", ["first", "last"])
def test_a_right_output_has_no_mistakes(dim: str) -> None:
    """Over the poison, what must come is right."""
    point = _point(dim)
    target, expected = _target(point), _expected(point, 1)
    _poison(target, point, 1)
    _fill(target, expected)
    assert _mistakes(target, point, 1) == ""


@pytest.mark.parametrize("by", [1, 2, 16, 4096])
def test_a_shifted_output_is_found(by: int) -> None:
    """Everything there, but some bytes further on."""
    point = _point()
    target, expected = _target(point), _expected(point, 1)
    _fill(target, expected.roll(by))
    assert "bytes are wrong" in _mistakes(target, point, 1)


@pytest.mark.parametrize("dim", ["first", "last"])
def test_swapped_ranks_are_found(dim: str) -> None:
    """The blocks of two ranks exchanged, also in the smallest size."""
    for size in (16, 4096):
        point = _point(dim, size)
        target, expected = _target(point), _expected(point, 1)
        blocks = _target(point).view(torch.uint8)
        _fill(blocks, expected)
        rows = blocks.view(4, -1) if dim == "first" else blocks.view(-1, 4, size // math.prod(point.input_shape[:-1]))
        _fill(target, rows.index_select(0 if dim == "first" else 1, torch.tensor([1, 0, 2, 3])).flatten())
        assert "bytes are wrong" in _mistakes(target, point, 1)


@settings(max_examples=100, deadline=None)
@given(first=st.integers(0, 5000), later=st.integers(1, 40), size=st.sampled_from([16, 64, 4096]))
def test_an_output_of_an_earlier_round_is_found(first: int, later: int, size: int) -> None:
    """What was right up to forty rounds ago is wrong now, for every rank's part of it."""
    point = _point(size=size)
    old, new = _expected(point, first), _expected(point, first + later)
    for rank in range(4):
        part = slice(rank * size, (rank + 1) * size)
        mixed = new.clone()
        mixed[part] = old[part]
        target = _target(point)
        _fill(target, mixed)
        assert _mistakes(target, point, first + later) != ""


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 16383), flip=st.integers(1, 255))
def test_one_wrong_bit_is_found_and_placed(at: int, flip: int) -> None:
    """Any change of any one byte is found, and the words say where and what."""
    point = _point()
    expected = _expected(point, 2)
    target = _target(point)
    _fill(target, expected)
    was = int(expected[at])
    target.view(torch.uint8)[at] = was ^ flip
    words = _mistakes(target, point, 2)
    assert words.startswith("1 of 16384 bytes are wrong")
    assert f"at byte {at}: {was ^ flip:#04x} instead of {was:#04x}" in words


def test_an_unwritten_bool_is_wrong_too() -> None:
    """Of bools the complement is the other one of two values: still nothing can be right that was not written."""
    point = _point("first", dtype="bool")
    target = torch.empty(point.size * 4, dtype=torch.uint8)
    _poison(target, point, 1)
    assert int(target.max()) == 1
    wrong = _mistakes(target, point, 1)
    assert f"{point.size * 4} of {point.size * 4} bytes are wrong ({point.size * 4} of them unwritten)" in wrong


def test_what_ranks_send_is_like_nothing_else_that_they_send() -> None:
    """Bytes of all values, hardly any like its neighbour, and pieces of 16 bytes that no other rank or round has."""
    sent = torch.cat([PATTERN.input(_point(size=1024), rank, turn) for rank in range(4) for turn in range(8)])
    counts = torch.bincount(sent.long(), minlength=256)
    assert 64 < int(counts.min()) <= int(counts.max()) < 256, "128 of each are expected"
    assert float((sent[1:] == sent[:-1]).double().mean()) < 0.02
    pieces = {bytes(piece.tolist()) for piece in sent.view(-1, 16)}
    assert len(pieces) == len(sent) // 16
