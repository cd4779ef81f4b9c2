"""Simulated landscapes: families of curves and of noise. A seed gives them all anew.

Latency is that of a latency-bandwidth model: T(s) = (a^p + (s/b)^p)^(1/p) with a start-up time a, a bandwidth b and a
bend p, as every collective's is within one of its protocols.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ccl_dispatch.tuner.sizes import size_grid
from landscapes import noise
from landscapes.model import CELL, Landscape
from landscapes.noise import Array, Noise

PER_OCTAVE = 8
_LOWS = (16, 16, 16, 256, 1024, 4096)
_HIGHS = (4 << 20, 16 << 20, 64 << 20, 64 << 20, 256 << 20)

Curve = Callable[[np.random.Generator, Array], Array]


def latency(start: float, bandwidth: float, bend: float, octaves: Array) -> Array:
    """Log latency in microseconds at `octaves` (log2 of bytes); `start` and `bandwidth` are logs of us and bytes/us."""
    return np.asarray(np.logaddexp(bend * start, bend * (octaves * np.log(2) - bandwidth)) / bend)


def protocol(rng: np.random.Generator, octaves: Array) -> Array:
    """Log latency of some protocol: 4 to 20 us to start, 10 to 80 GB/s."""
    return latency(rng.normal(np.log(9), 0.4), rng.normal(np.log(30e3), 0.5), rng.uniform(1, 3), octaves)


def _smooth(rng: np.random.Generator, octaves: Array) -> Array:
    """The lead of one protocol over another that is about a fifth off in start-up time and bandwidth; no steps."""
    start, bandwidth = rng.normal(np.log(9), 0.4), rng.normal(np.log(30e3), 0.5)
    one, two = (
        latency(start + rng.normal(0, 0.2), bandwidth + rng.normal(0, 0.2), rng.uniform(1, 3), octaves) for _ in "12"
    )
    return one - two


def _stepped(rng: np.random.Generator, octaves: Array) -> Array:
    """Both backends go through two to four protocols, and change where their authors thought best, not where it is."""
    lead = np.zeros_like(octaves)
    shared = rng.normal(np.log(6), 0.3), rng.normal(np.log(15e3), 0.4)
    for sign in (1, -1):
        count = int(rng.integers(2, 5))
        edges = np.sort(rng.uniform(octaves[0] + 1, octaves[-1] - 1, count - 1))
        part = np.searchsorted(edges, octaves)
        start, bandwidth = (value + rng.normal(0, 0.15) for value in shared)
        for index in range(count):
            lead += sign * np.where(part == index, latency(start, bandwidth, rng.uniform(1, 3), octaves), 0)
            start += rng.normal(0.2, 0.2)  # later protocols start more slowly and stream faster
            bandwidth += rng.normal(0.25, 0.2)
    return lead


def _crossing(rng: np.random.Generator, octaves: Array) -> Array:
    """Three to five crossovers at random places, the lead between them 3 % to 30 % at its highest."""
    # Not in the first two octaves, where multiples of 16 B lie far apart.
    span = octaves[-1] - octaves[0] - 2
    count = int(rng.integers(3, 6))
    edges = octaves[0] + 2 + span * np.sort(rng.dirichlet(np.full(count + 1, 5.0)).cumsum()[:-1])
    bounds = np.concatenate([[octaves[0] - 1], edges, [octaves[-1] + 1]])
    sign = rng.choice([-1, 1])
    lead = np.zeros_like(octaves)
    for index in range(count + 1):
        low, high = bounds[index : index + 2]
        inside = (octaves >= low) & (octaves < high)
        height = np.exp(rng.uniform(np.log(0.03), np.log(0.3)))
        lead += np.where(inside, sign * height * np.sin(np.pi * (octaves - low) / (high - low)), 0)
        sign = -sign
    return lead


def _tied(rng: np.random.Generator, octaves: Array) -> Array:
    """Nowhere more than 4 % apart."""
    phase, length = rng.uniform(0, 2 * np.pi), rng.uniform(4, 16)
    return np.asarray(rng.uniform(-0.02, 0.02) + 0.02 * np.sin(2 * np.pi * octaves / length + phase))


def _islands(rng: np.random.Generator, octaves: Array) -> Array:
    """One backend leads but on one or two islands, half an octave to three octaves wide."""
    sign = rng.choice([-1, 1])
    lead = np.full_like(octaves, sign * rng.uniform(0.03, 0.25))
    for _ in range(int(rng.integers(1, 3))):
        width = rng.uniform(0.5, 3)
        low = rng.uniform(octaves[0], octaves[-1] - width)
        lead[(octaves >= low) & (octaves <= low + width)] = -sign * rng.uniform(0.04, 0.3)
    return lead


def _wandering(rng: np.random.Generator, octaves: Array) -> Array:
    """A random walk along octaves, straight between them."""
    knots = np.arange(np.floor(octaves[0]), np.ceil(octaves[-1]) + 1)
    walk = np.cumsum(rng.normal(0, rng.uniform(0.04, 0.2), len(knots)))
    return np.asarray(np.interp(octaves, knots, walk - rng.uniform(0.2, 0.8) * walk.mean() + rng.normal(0, 0.05)))


def _won(rng: np.random.Generator, octaves: Array) -> Array:
    """One backend leads everywhere, by 8 % to 60 %."""
    ends = rng.uniform(0.08, 0.6, 2)
    share = (octaves - octaves[0]) / (octaves[-1] - octaves[0])
    return np.asarray(rng.choice([-1, 1]) * (ends[0] + (ends[1] - ends[0]) * share))


def _limited(rng: np.random.Generator, octaves: Array) -> Array:
    """The candidate has a limit, beyond which it calls the baseline: a lead that ends in nothing."""
    limit = rng.uniform(octaves[0] + 4, octaves[-1] - 2)
    start, end = rng.uniform(0.1, 0.5), rng.uniform(-0.2, 0.2)
    lead = start + (end - start) * (octaves - octaves[0]) / (limit - octaves[0])
    return np.where(octaves <= limit, lead, 0.0)


CURVES: dict[str, Curve] = {
    "latency_bandwidth": _smooth,
    "protocol_steps": _stepped,
    "crossovers": _crossing,
    "ties": _tied,
    "islands": _islands,
    "walk": _wandering,
    "one_winner": _won,
    "limit": _limited,
}
NOISES: dict[str, Noise] = {
    "heavy_tails": noise.HeavyTails(),
    "heteroscedastic": noise.Heteroscedastic(),
    "bimodal": noise.Bimodal(),
    "bimodal_in_runs": noise.Bimodal(length=8),
    "autocorrelated": noise.Autocorrelated(),
    "drift": noise.Drift(),
    "slow_rank": noise.SlowRank(),
}
FAMILIES = (*CURVES, *NOISES)
# What the families that are about noise draw their curves from.
_PLAIN = ("latency_bandwidth", "protocol_steps", "crossovers", "walk", "islands")


def simulated(seed: int, each: int, families: tuple[str, ...] = FAMILIES) -> list[Landscape]:
    """`each` landscapes of every family; the same for a seed and a family whatever else is asked for.

    Raises:
        KeyError: there is no such family.
    """
    return [make(seed, family, index) for family in families for index in range(each)]


def make(seed: int, family: str, index: int) -> Landscape:
    """The landscape of that number in a family."""
    rng = np.random.default_rng([seed, index, *family.encode()])
    curve = CURVES[family if family in CURVES else _PLAIN[index % len(_PLAIN)]]
    knots, octaves = _axis(rng)
    return Landscape(
        name=f"{family}-{index}",
        family=family,
        knots=knots,
        log_us=_with_lead(protocol(rng, octaves), curve(rng, octaves)),
        noise=NOISES.get(family, noise.Usual()) if family not in CURVES else noise.Usual(),
    )


def without_difference(seed: int, count: int) -> list[Landscape]:
    """Cells in which the candidate is the baseline itself, each in a cell of its own number of ranks."""
    made = []
    for index in range(count):
        rng = np.random.default_rng([seed, index, 0])
        knots, octaves = _axis(rng)
        curve = protocol(rng, octaves)
        cell = CELL._replace(world_size=2 + index)
        made.append(Landscape(f"null-{index}", "null", knots, np.stack([curve, curve]), cell))
    return made


def dtypes(seed: int, count: int, *, alike: bool) -> list[tuple[Landscape, Landscape, Landscape]]:
    """Groups of three cells that differ in dtype: with one curve over bytes, or each with a curve of its own."""
    groups = []
    kinds = ("latency_bandwidth", "protocol_steps", "crossovers", "islands", "walk")
    for index in range(count):
        rng = np.random.default_rng([seed, index, 1 + alike])
        knots, octaves = _axis(rng)
        base = protocol(rng, octaves)
        names = ("bfloat16", "float16", "float32")
        kind = kinds[index % len(kinds)]
        leads = [CURVES[kind](rng, octaves)] * 3 if alike else [CURVES[kind](rng, octaves) for _ in names]
        one, two, three = (
            Landscape(
                f"{'alike' if alike else 'differing'}-{index}-{name}",
                kind,
                knots,
                _with_lead(base, lead),
                CELL._replace(dtype=name),
            )
            for name, lead in zip(names, leads, strict=True)
        )
        groups.append((one, two, three))
    return groups


def _axis(rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    knots = np.array(size_grid(int(rng.choice(_LOWS)), int(rng.choice(_HIGHS)), PER_OCTAVE), np.int64)
    return knots, np.log2(knots)


def _with_lead(baseline: Array, lead: Array) -> Array:
    return np.stack([baseline, baseline - lead])
