"""Simulated landscapes with known truth: a curve of log(T_baseline / T_candidate) along size, seen through noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from ccl_dispatch.runtime.table import CellTable, Policy
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.fit import fit_cell
from ccl_dispatch.tuner.samples import PointExclusion, PointResult

Truth = Callable[[float], float]


class Bench:
    """Simulates points of one cell with the baseline `base` and the candidates `fast` and `other`, and fits them."""

    cell = Cell("all_gather", "eager", "first", "bfloat16", 8)
    baseline = "base"

    def policy(self, min_gain: float = 0.03) -> Policy:
        """A policy at 95 %."""
        return Policy(min_gain, 0.95, "isolated")

    def grid(self, count: int, low: int = 16, high: int = 4 << 20) -> list[int]:
        """`count` log-spaced sizes, each a multiple of 16 bytes."""
        return sorted({max(16, round(low * (high / low) ** (i / (count - 1)) / 16) * 16) for i in range(count)})

    def point(
        self,
        size: int,
        curves: dict[str, Truth],
        *,
        samples: int = 25,
        noise: float = 0.05,
        outliers: float = 0.01,
        seed: int = 0,
        excluded: Sequence[tuple[str, str]] = (),
    ) -> PointResult:
        """One simulated point; each curve is log(T_base / T_candidate) over log2(size)."""
        rng = random.Random(f"{seed}/{size}")

        def latency(ideal: float) -> float:
            late = abs(rng.gauss(0, 1)) if rng.random() < outliers else 0.0
            return ideal * math.exp(rng.gauss(0, noise) + late)

        ideal = 10 + size / 50_000
        names = {"base": ideal} | {name: ideal / math.exp(f(math.log2(size))) for name, f in curves.items()}
        out = {name for name, _ in excluded}
        return PointResult(
            self.cell,
            size,
            {name: tuple(latency(t) for _ in range(samples)) for name, t in names.items() if name not in out},
            tuple(PointExclusion(name, reason, f"{reason} at {size}") for name, reason in excluded),
        )

    def points(self, sizes: Sequence[int], curves: dict[str, Truth], **how: object) -> list[PointResult]:
        """`point` for each size."""
        return [self.point(size, curves, **how) for size in sizes]  # type: ignore[arg-type]

    def fit(
        self,
        results: Sequence[PointResult],
        *,
        min_gain: float = 0.03,
        candidates: Sequence[str] = ("fast",),
        workload: dict[int, tuple[tuple[int, ...], float]] | None = None,
    ) -> CellTable:
        """The table of the simulated cell."""
        return fit_cell(
            self.cell,
            results,
            baseline=self.baseline,
            candidates=candidates,
            policy=self.policy(min_gain),
            workload=workload or {},
        )

    def use(self, table: CellTable, size: int) -> str:
        """The backend that the bands say for `size`."""
        return next(band.use for band in table.bands if size <= band.up_to)

    def regret(self, table: CellTable, truth: Truth) -> float:
        """True mean regret of the table's choice between `base` and `fast` over 300 log-spaced sizes."""
        low, high = table.measured_from, table.measured_to
        total = 0.0
        for i in range(300):
            size = round(low * (high / low) ** ((i + 0.5) / 300) / 16) * 16
            lead = truth(math.log2(size))
            total += math.expm1(max(0.0, -lead if self.use(table, size) == "fast" else lead))
        return total / 300
