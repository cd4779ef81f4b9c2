"""A landscape: the true latencies of two backends over size, the noise on them, and both as a file to replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import Row, write_measurements
from ccl_dispatch.tuner.measurements.evaluate import log_spaced
from ccl_dispatch.tuner.sizes import size_grid
from landscapes.noise import Array, Noise, Usual

CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)
# Repeats of each size that a file has to show a noise that `replay` can't be told; odd: the median is one of them.
REPEATS = 33


@dataclass(frozen=True)
class Landscape:
    """One cell whose truth is known.

    Attributes:
        name: of its own among the landscapes of a seed.
        family: the kind of it.
        knots: sizes in bytes, rising; between them log latency is straight in log size.
        log_us: shape (2, len(knots)): log of the true latencies in microseconds, baseline first.
        backends: the names of baseline and candidate.
    """

    name: str
    family: str
    knots: NDArray[np.int64]
    log_us: Array
    cell: Cell = CELL
    backends: tuple[str, str] = ("base", "fast")
    noise: Noise = field(default_factory=Usual)

    @property
    def low(self) -> int:
        """The smallest size in bytes."""
        return int(self.knots[0])

    @property
    def high(self) -> int:
        """The largest size in bytes."""
        return int(self.knots[-1])

    @property
    def is_usual(self) -> bool:
        """Whether `replay` can make the noise by itself."""
        return isinstance(self.noise, Usual)

    def log_latency(self, sizes: NDArray[np.int64] | Sequence[int]) -> Array:
        """Log of the true latencies in microseconds, shape (2, len(sizes)), baseline first."""
        at, knots = np.log2(np.asarray(sizes)), np.log2(self.knots)
        return np.stack([np.interp(at, knots, row) for row in self.log_us])

    def lead(self, sizes: NDArray[np.int64] | Sequence[int]) -> Array:
        """True log(T_baseline / T_candidate): positive where the candidate is faster."""
        baseline, candidate = self.log_latency(sizes)
        return np.asarray(baseline - candidate)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The sizes in bytes that regret is the mean over: 16 in each octave, as `ccl-dispatch evaluate` has them."""
        return np.array(log_spaced(self.low, self.high), np.int64)

    def regret(self, candidate: NDArray[np.bool_]) -> float:
        """The mean of T(chosen)/T(best) - 1 when the candidate is chosen at those of `sizes` where `candidate` says."""
        lead = self.lead(self.sizes)
        return float(np.mean(np.expm1(np.maximum(np.where(candidate, -lead, lead), 0.0))))

    def sample(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """Latencies in microseconds of `count` pairs measured in one visit of `size`, shape (2, count)."""
        return np.asarray(np.exp(self.log_latency([size]) + self.noise.draw(rng, size, count)))

    def rows(self, repeats: int = 1) -> list[Row]:
        """The knots as rows of a measurement file; with several `repeats` (odd) each shows the landscape's noise.

        The median of the repeats is the truth, exactly. What is lost is the order in time: drift and autocorrelation
        become a spread.
        """
        rng = np.random.default_rng([len(self.knots), *self.name.encode()])
        rows = []
        for place, size in enumerate(map(int, self.knots)):
            draws = np.zeros((2, 1))
            if repeats > 1:
                # A visit for each repeat: what lasts for a whole visit differs from repeat to repeat as well.
                draws = np.concatenate([self.noise.draw(rng, size, 1) for _ in range(repeats)], axis=1)
                draws -= np.median(draws, axis=1, keepdims=True)
            for name, row in zip(self.backends, self.log_us[:, place, None] + draws, strict=True):
                rows += [Row(self.cell, name, size, float(value)) for value in np.exp(row)]
        return rows

    @property
    def exhaustive_us(self) -> float:
        """The mean latency of an execution, in microseconds, when every size of a 2x grid is measured alike."""
        return float(np.exp(self.log_latency(size_grid(self.low, self.high, 1))).mean())


def write_csv(landscapes: Sequence[Landscape], path: Path, *, show_noise: bool = True) -> None:
    """Write cells as one measurement file whose replay is these landscapes.

    `replay` itself makes usual noise (`noise: 0.05`, `outliers: 0.01`). Another is shown by repeats, if `show_noise`.
    """
    write_measurements(
        (row for one in landscapes for row in one.rows(REPEATS if show_noise and not one.is_usual else 1)), path
    )
