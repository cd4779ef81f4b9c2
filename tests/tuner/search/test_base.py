"""What samplers are told of a study's points."""

from __future__ import annotations

import time

from ccl_dispatch.tuner.curves import PointSamples
from ccl_dispatch.tuner.search import Observation
from ccl_dispatch.tuner.search.base import joined_samples


def test_many_visits_of_one_point_are_joined_at_once() -> None:
    """20,000 visits of a size take no second of processor time, and are there in their order with their lengths."""
    visits = [
        Observation("cell", 16, {"fast": PointSamples((0.1 * number,) * 4, (float(number),))})
        for number in range(20_000)
    ]
    began = time.process_time()
    joined = joined_samples([*visits, Observation("cell", 32, {"fast": PointSamples((7.0,))})], "fast")
    assert time.process_time() - began < 1
    many, one = joined["cell", 16], joined["cell", 32]
    assert many.repeats == tuple(0.1 * number for number in range(20_000) for _ in range(4))
    assert (many.firsts, many.lengths) == (tuple(map(float, range(20_000))), (4,) * 20_000)
    assert one == PointSamples((7.0,))
