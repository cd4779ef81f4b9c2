"""How alike cells are: degrees of likeness that are put in come out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from landscapes import Landscape, make, published
from tuning import likeness


def _at(landscape: Landscape, world_size: int, name: str = "h1000-x") -> Landscape:
    return replace(landscape, name=name, cell=landscape.cell._replace(world_size=world_size))


def _walk(seed: int) -> Landscape:
    """A curve that goes up and down by chance, with as many points as published ones have."""
    whole = make(seed, "walk", 0)
    return replace(whole, knots=whole.knots[::6], log_us=whole.log_us[:, ::6])


def test_a_group_differs_in_world_size_alone() -> None:
    """Of one kind of machine, one pair of backends and otherwise one cell; nobody is grouped with itself."""
    found = likeness.groups(published())
    assert len(found) > 40
    for group in found:
        assert len({one.backends for one in group}) == 1
        assert len({one.cell._replace(world_size=0) for one in group}) == 1
        assert len({one.cell.world_size for one in group}) == len(group) > 1
    one = _walk(3)
    assert likeness.groups([_at(one, 4), _at(one, 4), _at(one, 8, "h2000-x")]) == []
    assert [len(group) for group in likeness.groups([_at(one, 4), _at(one, 8, "h1001-x")])] == [2]


def test_one_curve_is_told_from_curves_that_have_nothing_in_common() -> None:
    """Two cells with the same curve are as alike as can be; of curves drawn apart hardly any degree is believed."""
    curves = [_walk(seed) for seed in range(8)]
    same = [likeness.evidence([_at(one, 4), _at(one, 8)]) for one in curves]
    assert all(int(np.argmax(found)) == len(likeness.DEGREES) - 1 for found in same)
    pairs = zip(curves[::2], curves[1::2], strict=True)
    total = np.sum([likeness.evidence([_at(one, 4), _at(other, 8)]) for one, other in pairs], axis=0)
    assert likeness.DEGREES[int(np.argmax(total))] <= 0.3
    assert total[-1] < -20
