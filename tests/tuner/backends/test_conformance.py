"""The one suite that every backend passes, on real ranks, in every mode that its device has."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from ranks import run_ranks

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.backends import BACKENDS, backend_class
from ccl_dispatch.tuner.device import Placement

SUITE = """
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, ITEMSIZE, MODES, Cell
from ccl_dispatch.tuner.backends import BackendContext, Point, backend_class
from ccl_dispatch.tuner.device import Placement
from ccl_dispatch.tuner.measure.check import Pattern

name, device_type, count = sys.argv[4:7]
device = Placement(device_type, int(count), device_type == "cuda", device_type == "cpu").device(rank)
kind = backend_class(name, {"eager_only": "eager_only:EagerOnly"})
group = dist.new_group(list(range(world_size)), backend=kind.group_kind)
options = {"max_size": "64 MiB"} if "max_size" in kind.options else {}
backend = kind(BackendContext(group, rank, world_size, device, options))
pattern = Pattern(1 << 20, 7, device)
inputs = backend.input_memory(4 << 20)
points = calls = 0

def check(run, source, target, point):
    global calls
    calls += 1
    source.view(-1).view(torch.uint8).copy_(pattern.input(point, rank, calls))
    pattern.poison(target, point, world_size, calls)
    device.synchronize()
    dist.barrier()
    run()
    device.synchronize()
    wrong = pattern.mistakes(target, point, world_size, calls)
    assert wrong == "", (point, wrong)
    dist.barrier()

for mode in kind.modes:
    for dtype in ("float32", "bfloat16", "int64"):
        for dim in ("first", "last"):
            cell = Cell("all_gather", mode, dim, dtype, world_size)
            rows = (4, 1024 // getattr(torch, dtype).itemsize)
            for size, shape in ((16, ()), (4096, ()), (1 << 20, ()), (4096, rows)):
                point = Point(cell, size, shape)
                reason = backend.supports(point)
                assert reason is None or dtype == "int64", reason
                if reason is not None:
                    continue
                points += 1
                memory = device.empty(size) if inputs is None or mode != "graph" else inputs[: size]
                source = memory.view(getattr(torch, dtype)).view(point.input_shape)
                target = device.empty(size * world_size).view(source.dtype).view(point.output_shape)
                run = backend.prepare(point, source, target)
                if mode != "eager":
                    # Two calls in one graph: the second writes elsewhere.
                    other = torch.empty_like(target)
                    second = backend.prepare(point, source, other)
                    graph, one = device.capture([[run, second], [run]], backend.capture)
                    check(graph.replay, source, target, point)
                    check(graph.replay, source, other, point)
                    run = one.replay
                for _ in range(4):  # one call after the other, each with other input: nothing old may come out
                    check(run, source, target, point)
# What it declares, neither more nor less; a bool stays 0 or 1.
for dtype in ITEMSIZE:
    point = Point(Cell("all_gather", "eager", "first", dtype, world_size), 4096)
    assert (backend.supports(point) is None) == (dtype in kind.dtypes), dtype
    if dtype in kind.dtypes:
        source, target = (device.empty(size).view(getattr(torch, dtype)) for size in (4096, 4096 * world_size))
        check(backend.prepare(point, source, target), source, target, point)
        calls -= 1
cell = Cell("all_gather", "eager", "first", "float32", world_size)
for point in (
    *(Point(cell._replace(collective=other), 64) for other in COLLECTIVES if other not in kind.collectives),
    *(Point(cell._replace(mode=mode), 64) for mode in MODES if mode not in kind.modes),
    Point(cell, 18),
):
    assert backend.supports(point), point
if device_type == "cpu" and "graph" in kind.modes:
    bare = kind(BackendContext(group, rank, world_size, Placement().device(rank), options))
    assert "no graphs" in bare.supports(Point(Cell("all_gather", "graph", "first", "float32", world_size), 64))
    bare.close()
backend.close()
backend.close()
print("right", points, calls, len(kind.modes), len({*kind.modes} - {"eager"}))
"""

# (name, device, with the stand-in for AITER): each name on its own device, and the stand-in wherever there is one.
CASES = [(name, backend_class(name).devices[0], False) for name in BACKENDS]
CASES += [("aiter", "cpu", True), ("aiter", "cuda", True)]
# One that declares less than all modes.
CASES += [("eager_only", "cpu", False)]


def missing(name: str, device: str, *, standin: bool) -> str | None:
    """Why a case can't run on this machine."""
    if standin:
        if importlib.util.find_spec("aiter") is not None:
            return "the real aiter is installed"
        return None if device == "cpu" or torch.cuda.is_available() else "there is no GPU"
    return backend_class(name).unavailable() if name in BACKENDS else None


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(("name", "device", "standin"), CASES)
def test_gathers_bit_for_bit(name: str, device: str, standin: bool, world_size: int) -> None:
    """Every mode, dtype, dim and size gives the right bits on every rank; what can't be taken is refused."""
    if (reason := missing(name, device, standin=standin)) is not None:
        pytest.skip(f"{name}: {reason}")
    count = torch.cuda.device_count()
    placement = Placement(device, count, shared=device == "cuda" and count < world_size)
    found = run_ranks(
        SUITE,
        world_size,
        name,
        device,
        str(min(count, world_size)),
        environment=placement.environment,
        standin=standin,
        timeout=240,
    )
    assert len(set(found)) == 1
    word, *counts = found[0].split()
    points, calls, modes, captured = map(int, counts)
    assert word == "right"
    # int64 may be refused; what is not is called 4 times, and twice more in each captured mode.
    assert points in {16 * modes, 24 * modes}
    assert calls == points * 4 + points // modes * captured * 2


@pytest.mark.parametrize("name", BACKENDS)
def test_says_what_it_is(name: str) -> None:
    """A backend's name is the one in the registry, and where it can't run it says why in words."""
    assert backend_class(name).name == name
    reason = backend_class(name).unavailable()
    assert reason is None or len(reason.split()) > 3


def test_the_host_has_gloo_and_shared_memory() -> None:
    """What needs no GPU can run on this machine."""
    assert [backend_class(name).unavailable() for name in ("gloo", "shm")] == [None, None]


def test_an_unknown_backend_names_the_nearest() -> None:
    """A mistyped backend is refused with the name that was meant."""
    with pytest.raises(UsageError, match="Did you mean 'gloo'"):
        backend_class("glo")
