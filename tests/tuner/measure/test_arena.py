"""Buffers rotate far enough that no cache decides, and never overlap."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.device import HostDevice
from ccl_dispatch.tuner.measure.arena import MAX_SLOTS, Arena, arena_bytes, outgrows, slot_count


class SmallCache(HostDevice):
    """A host whose cache is as small as a test wants it."""

    cache_bytes = 1 << 16


@settings(max_examples=200, deadline=None)
@given(
    largest=st.integers(1, 1 << 26),
    part=st.floats(0.0001, 1.0),
    world_sizes=st.sets(st.sampled_from([2, 4, 6, 8]), min_size=1),
    cache=st.integers(0, 1 << 28),
)
def test_every_point_fits_and_rotation_outgrows_the_cache(
    largest: int, part: float, world_sizes: set[int], cache: int
) -> None:
    """The slots of any size fit into the memory that was reckoned for the largest, and exceed the cache or say not."""
    size = max(1, int(largest * part))
    inputs, outputs = arena_bytes(largest, sorted(world_sizes), cache)
    for world_size in world_sizes:
        count = slot_count(size, world_size, cache)
        assert 1 <= count <= MAX_SLOTS
        assert (count - 1) * (-(-size // 256) * 256) + size <= inputs
        assert (count - 1) * (-(-size * world_size // 256) * 256) + size * world_size <= outputs
        assert outgrows(size, world_size, cache) == (count * size * (1 + world_size) >= 2 * cache)
        if count < MAX_SLOTS:
            assert outgrows(size, world_size, cache)


def test_slots_do_not_overlap_and_one_is_enough_when_warm() -> None:
    """Written one after the other, every source and target keeps what was written; warm there is one pair."""
    point = Point(Cell("all_gather", "eager", "last", "bfloat16", 2), 400, (4, 50))
    arena = Arena(SmallCache(), 4096, [2, 4], cold=True)
    slots = arena.slots(point)
    assert len(slots) == MAX_SLOTS
    assert arena.needs_flush(point)
    for index, pair in enumerate(slots):
        for tensor in pair:
            tensor.fill_(index)
    for index, (source, target) in enumerate(slots):
        assert tuple(source.shape) == (4, 50)
        assert tuple(target.shape) == (4, 100)
        assert bool((source == index).all())
        assert bool((target == index).all())
    warm = Arena(SmallCache(), 4096, [2], cold=False)
    assert len(warm.slots(point)) == 1
    assert not warm.needs_flush(point)
    large = Point(Cell("all_gather", "eager", "first", "bfloat16", 2), 4096)
    assert len(arena.slots(large)) == 11
    assert not arena.needs_flush(large)
