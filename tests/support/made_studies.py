"""Studies for tests: results of points with made-up latencies, in which a candidate is faster up to some size."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ccl_dispatch.runtime.table import Platform, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointExclusion, PointResult
from ccl_dispatch.tuner.search import RegretSampler, SearchSpace
from ccl_dispatch.tuner.study import StudyMeta, SweepStudy, open_storage


def made_study(cells: Sequence[Cell], *, visits: int = 1, samples: int = 12) -> tuple[StudyMeta, list[PointResult]]:
    """What a study of `cells` has: 25 sizes from 16 B to 16 MiB, each visited several times; all made up.

    `fast` wins up to 64 KiB and loses above; `odd` is excluded from 1 MiB on.
    """
    rng = random.Random(7)
    sizes = [16 * 2**step for step in range(21)] + [24 * 8**step for step in range(4)]
    results = []
    for visit in range(visits):
        for cell in cells:
            for size in sorted(sizes):
                base = 10 + size / 50_000
                ideal = {"base": base, "fast": base * (0.7 if size <= 65536 else 1.4), "odd": base * 1.1}
                out = (PointExclusion("odd", "crashed", "made up: signal 11 <&>"),) if size >= 1 << 20 else ()
                latencies = {
                    name: tuple(mean * rng.lognormvariate(0, 0.04) for _ in range(samples))
                    for name, mean in ideal.items()
                    if not (out and name == "odd")
                }
                results.append(
                    PointResult(
                        cell,
                        size,
                        latencies,
                        out,
                        executions=dict.fromkeys(latencies, samples + 2),
                        collective_seconds=0.01,
                        wall_seconds=0.02 + 0.001 * visit,
                        stopped_by="settled",
                    )
                )
    meta = StudyMeta(
        name="made <up>",
        provenance="replayed",
        baseline="base",
        candidates=("fast", "odd"),
        policy=Policy(0.03, 0.95, "isolated"),
        platform=Platform("cpu", "made up", "made up & odd", 8, "", {"torch": "0"}, {"NCCL_ALGO": '"Ring"'}),
        identity={},
        digest="sha256:0",
        workload={},
        source={"note": "made up for a test"},
    )
    return meta, results


def keep_study(
    path: Path, meta: StudyMeta, results: Sequence[PointResult], among: Sequence[PointResult] | None = None
) -> str:
    """A journal with these results, in a study that may measure all points of `among`; theirs alone without it."""
    space = SearchSpace.of((result.cell.name, result.size) for result in among or results)
    with open_storage(str(path), write=True) as storage:
        study = SweepStudy.create_or_continue(storage, meta, RegretSampler(space, meta.candidates))
        for result in results:
            study.add(space, result)
    return str(path)
