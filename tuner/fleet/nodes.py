"""Are the nodes alike? Their latencies at points that several of them measured, compared with those of the others.

For each node, point and backend: how far its log latency lies from the median of the other nodes', against what may be
explained by noise within visits and by the difference between two visits of one node. Holm's correction (1979) bounds
the chance that any node is named by mistake, over all of them together.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.curves.noise import LEAST_SCATTER, deviation_of
from ccl_dispatch.tuner.samples import PointResult, nodes_of
from ccl_dispatch.tuner.statistics import correlation_time

DEFAULT_CONFIDENCE = 0.999
# A difference of this much in log latency, 1 %, is of no consequence and is not called one.
LEAST_DIFFERENCE = 0.01
_LEAST_REPEATS = 8
# The standard error of a median is so many times that of a mean, for a normal.
_MEDIAN_ERROR = 1.2533


class Difference(NamedTuple):
    """One node at one point with one backend, against the median of the other nodes.

    Attributes:
        log_ratio: of its latency to theirs; positive where it is slower.
        error: standard error of that.
        p: the chance of such a difference between nodes that are alike to 1 %, corrected for all that were looked at.
    """

    node: str
    cell: Cell
    size: int
    backend: str
    log_ratio: float
    error: float
    p: float


class FleetVerdict(NamedTuple):
    """What the common points say.

    Attributes:
        nodes: all that were compared.
        points: how many points.
        differences: all of them, the surest first.
        accused: nodes with a difference that is sure enough; of two nodes both, as nothing tells which one is right.
    """

    nodes: tuple[str, ...]
    points: int
    differences: tuple[Difference, ...]
    accused: tuple[str, ...]

    def of(self, node: str) -> list[Difference]:
        """The differences of one node, the surest first."""
        return [difference for difference in self.differences if difference.node == node]


class _Visits(NamedTuple):
    """One node's visits of a point with one backend: the mean of their medians, and variances in squared log units."""

    middle: float
    within: float
    made: int
    spread: float


def compare_nodes(results: Sequence[PointResult], confidence: float = DEFAULT_CONFIDENCE) -> FleetVerdict:
    """Which nodes differ, with the given confidence that none of them is named by mistake.

    Args:
        results: points with the names of their nodes; those that fewer than two nodes measured tell nothing.
    """
    found: dict[tuple[Cell, int, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for node, result in zip(nodes_of(results), results, strict=True):
        for backend, latencies in result.latencies_us.items():
            if node and len(latencies) >= _LEAST_REPEATS:
                found[result.cell, result.size, backend][node].append(_visit(latencies))
    shared = {key: by_node for key, by_node in sorted(found.items()) if len(by_node) > 1}
    points = {
        key: {node: _joined(visits) for node, visits in sorted(by_node.items())} for key, by_node in shared.items()
    }
    between, freedom = _between(points.values())
    tested = [_difference(key, node, by_node, between, freedom) for key, by_node in points.items() for node in by_node]
    differences = _holm(tested)
    accused = tuple(sorted({item.node for item in differences if item.p < 1 - confidence}))
    nodes = tuple(sorted({node for by_node in points.values() for node in by_node}))
    return FleetVerdict(nodes, len({key[:2] for key in points}), differences, accused)


def _visit(latencies: Sequence[float]) -> tuple[float, float]:
    """The median log latency of one visit, and the variance of that."""
    logs = np.log(np.asarray(latencies))
    middle = float(np.median(logs))
    deviation = deviation_of(logs - middle)
    return middle, correlation_time(logs.tolist()) * (_MEDIAN_ERROR * deviation) ** 2 / len(logs)


def _joined(visits: Sequence[tuple[float, float]]) -> _Visits:
    # Sorted, so that no sum depends on the order of arrival.
    middles = sorted(middle for middle, _ in visits)
    within = math.fsum(sorted(variance for _, variance in visits)) / len(visits)
    return _Visits(
        math.fsum(middles) / len(middles),
        within,
        len(visits),
        statistics.variance(middles) if len(middles) > 1 else 0.0,
    )


def _between(points: Iterable[dict[str, _Visits]]) -> tuple[float, int]:
    """The variance between two visits of one node, beyond the noise within them, and its degrees of freedom."""
    repeated = [visits for by_node in points for visits in by_node.values() if visits.made > 1]
    freedom = sum(visits.made - 1 for visits in repeated)
    if not freedom:
        return LEAST_SCATTER**2, 1_000_000  # what is believed without any; nothing was estimated
    seen = math.fsum((visits.made - 1) * (visits.spread - visits.within) for visits in repeated) / freedom
    return max(LEAST_SCATTER**2, seen), freedom


def _difference(
    key: tuple[Cell, int, str], node: str, by_node: dict[str, _Visits], between: float, freedom: int
) -> Difference:
    mine = by_node[node]
    others = [visits for name, visits in by_node.items() if name != node]
    log_ratio = mine.middle - statistics.median(visits.middle for visits in others)
    # The variance of a median of k normals: that of their mean for one and two, pi/2 times that for many.
    share = (math.pi / 2 if len(others) > 2 else 1.0) / len(others)
    mean = math.fsum(_variance(visits, between) for visits in others) / len(others)
    error = math.sqrt(_variance(mine, between) + share * mean)
    t = max(abs(log_ratio) - LEAST_DIFFERENCE, 0.0) / error
    # Student's t as a normal deviate (Wallace 1959), since the variance between visits is an estimate.
    z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return Difference(node, *key, log_ratio, error, math.erfc(z / math.sqrt(2)) if t else 1.0)


def _variance(visits: _Visits, between: float) -> float:
    return (visits.within + between) / visits.made


def _holm(tested: Sequence[Difference]) -> tuple[Difference, ...]:
    corrected: list[Difference] = []
    largest = 0.0
    for place, item in enumerate(sorted(tested, key=lambda item: (item.p, item[:4]))):
        largest = max(largest, min(1.0, (len(tested) - place) * item.p))
        corrected.append(item._replace(p=largest))
    return tuple(corrected)
