"""How alike are cells that differ in world size alone? What the published measurements say of sharing between them.

The search shares what it learns between dtypes, in a joint Gaussian process whose cells correlate by some degree
(`tuner/curves/model.py`). Here the same process is asked which degree explains the published curves of two or three
world sizes best, all else being equal: the log evidence under the shape of curve that fits best with each degree.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from landscapes import Landscape
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from ccl_dispatch.tuner.curves.kernel import SHAPES, KernelParts

DEGREES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.97)
# The deviation that published latencies are taken to have, and the one that wilder curves are scaled down to.
_NOISE = 0.01
_UNIT = 0.35


def groups(landscapes: Sequence[Landscape]) -> list[list[Landscape]]:
    """Landscapes of one kind of machine that differ in world size alone, where there are two at least."""
    found: dict[tuple[object, ...], dict[int, Landscape]] = {}
    for one in landscapes:
        kind = one.name.partition("-")[0][:-1]  # without the number of the platform among those of its kind
        key = (kind, one.backends, one.cell._replace(world_size=0))
        found.setdefault(key, {}).setdefault(one.cell.world_size, one)
    return [[group[size] for size in sorted(group)] for group in found.values() if len(group) > 1]


def evidence(group: Sequence[Landscape]) -> NDArray[np.float64]:
    """Log evidence of the group's measured points for each of `DEGREES`, over that of cells with nothing in common."""
    x = np.concatenate([np.log2(one.knots) for one in group])
    cell = np.repeat(np.arange(len(group)), [len(one.knots) for one in group])
    leads = [one.lead(one.knots) for one in group]
    values = np.concatenate(leads) / max(1.0, *(float(np.std(lead)) / _UNIT for lead in leads))
    parts = KernelParts(x, x)
    kernels = [parts.kernel(shape) for shape in SHAPES]
    best = []
    for degree in DEGREES:
        alike = np.where(cell[:, None] == cell[None, :], 1.0, degree)
        covariances = (kernel * alike + _NOISE**2 * np.eye(len(x)) for kernel in kernels)
        best.append(max(float(multivariate_normal.logpdf(values, cov=covariance)) for covariance in covariances))
    return np.array(best) - best[0]


def text(landscapes: Sequence[Landscape]) -> list[str]:
    """Lines for people: each group's evidence, and the sum."""
    rows = [(group, evidence(group)) for group in groups(landscapes)]
    lines = ["log evidence over cells that have nothing in common, by degree of likeness", _row("", map(str, DEGREES))]
    for group, found in rows:
        first = group[0]
        sizes = ",".join(str(one.cell.world_size) for one in group)
        label = f"{first.name.partition('-')[0]} {'/'.join(first.backends)} {first.cell.dtype} {sizes}"
        lines.append(_row(label, (f"{value:.1f}" for value in found)))
    total = np.sum([found for _, found in rows], axis=0)
    best = [DEGREES[int(np.argmax(found))] for _, found in rows]
    counts = ", ".join(f"{degree}: {sum(1 for _ in same)}" for degree, same in itertools.groupby(sorted(best)))
    return [
        *lines,
        _row(f"all {len(rows)} groups", (f"{value:.1f}" for value in total)),
        f"the degree that fits best, and in how many groups: {counts}",
    ]


def _row(label: str, values: Iterable[str]) -> str:
    return f"{label:<64}" + "".join(f"{value:>9}" for value in values)
