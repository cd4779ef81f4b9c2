"""Noise of latencies: what is added to the log of a true latency, call by call, for two backends measured in turn.

Every model treats both backends alike, so that the median of the log-ratio of a pair is the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Noise(Protocol):
    """A model of noise."""

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """What one visit of a size (bytes) adds to log latency: shape (2, count), baseline first, in order of time."""


@dataclass(frozen=True)
class Usual:
    """As `replay` has it: every log latency moves by N(0, `sigma`), a share `outliers` is slower by |N(0, 1)| more."""

    sigma: float = 0.05
    outliers: float = 0.01

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        late = rng.random((2, count)) < self.outliers
        return rng.normal(0, self.sigma, (2, count)) + late * np.abs(rng.normal(0, 1, (2, count)))


@dataclass(frozen=True)
class HeavyTails:
    """Student's t with 2 degrees of freedom: a scale of `sigma`, and no variance."""

    sigma: float = 0.03

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        return self.sigma * np.clip(rng.standard_t(2, (2, count)), -30, 60)


@dataclass(frozen=True)
class Heteroscedastic:
    """Normal, its scale geometric in size from `at_low` at 16 B to `at_high` at 64 MiB, and so on beyond."""

    at_low: float = 0.15
    at_high: float = 0.015

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        share = (np.log2(size) - 4) / 22
        return rng.normal(0, self.at_low * (self.at_high / self.at_low) ** share, (2, count))


@dataclass(frozen=True)
class Bimodal:
    """A backend is slower by `gap` in a share `slow` of its calls, each kind lasting about `length` calls."""

    sigma: float = 0.02
    gap: float = 0.25
    slow: float = 0.3
    length: float = 1.0

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        keep = 1 - 1 / self.length
        fresh = rng.random((2, count)) < self.slow
        stays = rng.random((2, count)) < keep
        mode = fresh.copy()
        for call in range(1, count):
            mode[:, call] = np.where(stays[:, call], mode[:, call - 1], fresh[:, call])
        return np.asarray(self.gap * mode + rng.normal(0, self.sigma, (2, count)))


@dataclass(frozen=True)
class Autocorrelated:
    """A first-order autoregression of each backend along the calls of a visit, stationary with deviation `sigma`."""

    sigma: float = 0.05
    memory: float = 0.8

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        fresh = rng.normal(0, self.sigma, (2, count))
        noise: Array = fresh.copy()
        for call in range(1, count):
            noise[:, call] = self.memory * noise[:, call - 1] + np.sqrt(1 - self.memory**2) * fresh[:, call]
        return noise


@dataclass(frozen=True)
class Drift:
    """The machine drifts: a level common to both backends, `level` apart from visit to visit and moving during one.

    On top of it each backend is off by N(0, `bias`) for the whole of a visit, which no repeating there takes out.
    """

    sigma: float = 0.04
    level: float = 0.15
    bias: float = 0.01

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        common = rng.normal(0, self.level) + np.cumsum(rng.normal(0, self.level / 20, count))
        return np.asarray(common + rng.normal(0, self.bias, (2, 1)) + rng.normal(0, self.sigma, (2, count)))


@dataclass(frozen=True)
class SlowRank:
    """One rank is late in a share of the calls of either backend, and the call with it: by |N(0, `delay`)| in log."""

    sigma: float = 0.03
    share: float = 0.3
    delay: float = 0.3

    def draw(self, rng: np.random.Generator, size: int, count: int) -> Array:
        """See `Noise`."""
        late = rng.random((2, count)) < self.share
        return rng.normal(0, self.sigma, (2, count)) + late * np.abs(rng.normal(0, self.delay, (2, count)))
