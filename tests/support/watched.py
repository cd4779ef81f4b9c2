"""A plan, a point and its verdict for tests of what watches a sweep."""

from __future__ import annotations

import math
from pathlib import Path

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.plan import Plan, make_plan
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval

CELL = Cell("all_gather", "eager", "first", "bfloat16", 2)
RESULT = PointResult(CELL, 65536, {"gloo": (2.0,), "shm": (1.0,)})
VERDICTS = {"shm": Interval(math.log(2), 0.6, 0.8)}


def small_plan(folder: Path, more: str = "", world_sizes: str = "[2]", dtypes: str = "[bfloat16]") -> Plan:
    """Gloo against shm from 16 B to 1 MiB."""
    path = folder / "c.yaml"
    path.write_text(
        f"name: c\ncollective: all_gather\nbaseline: gloo\ncandidates: [shm]\nworld_sizes: {world_sizes}\n"
        f"dtypes: {dtypes}\nsizes: {{min: 16 B, max: 1 MiB}}\n{more}"
    )
    return make_plan(load_config(str(path)))


def point(size: int, ratio: float, samples: int = 9, cell: Cell = CELL) -> PointResult:
    """A point at which shm takes 1/ratio of gloo's time, give or take a percent."""
    noise = [1 + 0.01 * math.sin(7.0 * turn + size) for turn in range(samples)]
    latencies = {"gloo": tuple(10.0 * ratio * value for value in noise), "shm": (10.0,) * samples}
    return PointResult(cell, size, latencies, executions={"gloo": samples, "shm": samples}, wall_seconds=0.1)
