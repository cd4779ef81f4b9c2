"""From a study to its table. Nothing is measured, nothing but the study is asked: same samples, same bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.version import version
from ccl_dispatch.tuner.emit.text import seal
from ccl_dispatch.tuner.evidence.disturbed import disturbed_evidence
from ccl_dispatch.tuner.evidence.faults import fault_evidence
from ccl_dispatch.tuner.evidence.ranks import slow_rank_evidence
from ccl_dispatch.tuner.fit import fit_cells
from ccl_dispatch.tuner.samples import PointResult, nodes_of
from ccl_dispatch.tuner.study.meta import StudyMeta


def build_table(meta: StudyMeta, results: Sequence[PointResult]) -> Table:
    """The sealed table of a study's points.

    Raises:
        StorageError: the study has no points.
        MeasuringError: a cell has none of the baseline.
    """
    if not results:
        raise StorageError(f"study {meta.name!r} has no measured points yet: there is nothing to build a table from")
    workload = {
        cell: {size: (shape, weight) for shape, size, weight in entries} for cell, entries in meta.workload.items()
    }
    cells = fit_cells(
        results, baseline=meta.baseline, candidates=meta.candidates, policy=meta.policy, workload=workload
    )
    return seal(
        Table(
            name=meta.name,
            generated_by=f"ccl-dispatch {version()}",
            provenance=meta.provenance,
            baseline=meta.baseline,
            candidates=meta.candidates,
            platform=meta.platform,
            policy=meta.policy,
            cells=cells,
            evidence=evidence_of(meta, results),
            digest="",
            source="",
        )
    )


def executions(results: Sequence[PointResult]) -> dict[str, int]:
    """Per backend how often its collective ran for these points, checks and warm-up included."""
    total: dict[str, int] = {}
    for result in results:
        for name, count in result.executions.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def evidence_of(meta: StudyMeta, results: Sequence[PointResult]) -> Mapping[str, Any]:
    """What the table of these points says about where its figures come from."""
    times = sorted(result.measured_at for result in results if result.measured_at)
    evidence: dict[str, Any] = {
        "study": meta.name,
        "config_digest": meta.digest,
        "trials": len(results),
        "samples": sum(max((len(v) for v in result.latencies_us.values()), default=0) for result in results),
        "executions": executions(results),
        "collective_seconds": round(math.fsum(result.collective_seconds for result in results), 3),
    }
    nodes = Counter(name for name in nodes_of(results) if name)
    if nodes:
        evidence["nodes"] = dict(sorted(nodes.items()))
    if times:
        evidence |= {"measured_from": times[0], "measured_to": times[-1]}
    found = fault_evidence(results) | slow_rank_evidence(results) | disturbed_evidence(results)
    return evidence | found | dict(meta.source)
