"""The one suite that every backend passes, on real ranks."""

from __future__ import annotations

import pytest
from ranks import run_ranks

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.backends import BACKENDS, backend_class

SUITE = """
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import BackendContext, Point, backend_class
from ccl_dispatch.tuner.measure.check import Pattern

backend = backend_class(sys.argv[4])(BackendContext(dist.new_group(list(range(world_size))), rank, world_size))
pattern = Pattern(1 << 20, 7)
calls = 0
for dtype in ("float32", "bfloat16", "int64"):
    for dim in ("first", "last"):
        cell = Cell("all_gather", "eager", dim, dtype, world_size)
        for size, shape in ((16, ()), (4096, ()), (1 << 20, ()), (4096, (4, 1024 // getattr(torch, dtype).itemsize))):
            point = Point(cell, size, shape)
            assert backend.supports(point) is None, backend.supports(point)
            source = torch.empty(point.input_shape, dtype=getattr(torch, dtype))
            target = torch.empty(point.output_shape, dtype=source.dtype)
            backend.prepare(point, source, target)
            for _ in range(4):  # one call after the other, each with other input: nothing old may come out
                calls += 1
                source.view(-1).view(torch.uint8).copy_(pattern.input(point, rank, calls))
                pattern.poison(target, point, world_size, calls)
                backend.run()
                wrong = pattern.mistakes(target, point, world_size, calls)
                assert wrong == "", (point, wrong)
for point in (
    Point(Cell("all_reduce", "eager", "first", "float32", world_size), 64),
    Point(Cell("all_gather", "graph", "first", "float32", world_size), 64),
    Point(Cell("all_gather", "eager", "first", "float32", world_size), 18),
):
    assert backend.supports(point), point
backend.close()
backend.close()
print("right", calls)
"""


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("name", BACKENDS)
def test_gathers_bit_for_bit(name: str, world_size: int) -> None:
    """Every dtype, dim and size gives the right bits on every rank, and what it can't take is refused with a reason."""
    assert run_ranks(SUITE, world_size, name) == ["right 96\n"] * world_size


@pytest.mark.parametrize("name", BACKENDS)
def test_says_what_it_is(name: str) -> None:
    """A backend's name is the one in the registry, and it can run on this machine."""
    assert backend_class(name).name == name
    assert backend_class(name).unavailable() is None


def test_an_unknown_backend_names_the_nearest() -> None:
    """A mistyped backend is refused with the name that was meant."""
    with pytest.raises(UsageError, match="Did you mean 'gloo'"):
        backend_class("glo")
