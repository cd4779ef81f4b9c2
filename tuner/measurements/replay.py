"""Measured latencies served again: at measured sizes as they are, between them interpolated, beyond them none."""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.units import full_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.measurements.csv_file import Measurements
from ccl_dispatch.tuner.samples import PointExclusion


class ReplayCurves:
    """The latency curves of a measurement file, one for each cell and backend.

    Args:
        measurements: the file's rows.
        noise: standard deviation of the log of each served latency, on top of what the repeats show.
        outliers: share of served latencies (0 to 1) that are slowed by a further exp(|N(0, 1)|).
    """

    def __init__(self, measurements: Measurements, noise: float = 0.0, outliers: float = 0.0) -> None:
        # Without its folder: reasons are kept in studies and tables, which say the same wherever the file lies.
        self._source = Path(measurements.source).name
        self._curves = measurements.by_cell()
        self._sizes = {
            (cell, name): tuple(curve) for cell, curves in self._curves.items() for name, curve in curves.items()
        }
        self._excluded: dict[tuple[Cell, str], dict[int, set[tuple[str, str]]]] = {}
        for row in measurements.exclusions:
            sizes = self._excluded.setdefault((row.cell, row.backend), {})
            sizes.setdefault(row.size, set()).add((row.reason, row.detail))
        self._told = {key: sorted({*self._sizes.get(key, ()), *sizes}) for key, sizes in self._excluded.items()}
        self._noise = noise
        self._outliers = outliers

    def cells(self) -> tuple[Cell, ...]:
        """The cells of the file, rising."""
        return tuple(self._curves)

    def backends(self, cell: Cell) -> tuple[str, ...]:
        """The backends that have a curve in `cell`, in file order."""
        return tuple(self._curves.get(cell, ()))

    def sizes(self, cell: Cell) -> tuple[int, ...]:
        """The sizes in bytes at which any backend was measured in `cell`, rising."""
        return tuple(sorted({size for curve in self._curves.get(cell, {}).values() for size in curve}))

    def range_of(self, cell: Cell, backends: Sequence[str]) -> tuple[int, int]:
        """The lowest and the highest size in bytes that is covered for all of `backends`.

        Raises:
            KeyError: the cell or a backend is not in the file.
            ValueError: the backends have no size in common.
        """
        spans = [self._sizes[cell, name] for name in backends]
        low, high = max(sizes[0] for sizes in spans), min(sizes[-1] for sizes in spans)
        if low > high:
            raise ValueError(f"{' and '.join(backends)} have no measured size in common in {cell.name}")
        return low, high

    def covers(self, cell: Cell, backend: str, size: int) -> str | None:
        """Why there is no latency for `backend` at `size` bytes in `cell`, or None when there is."""
        if cell not in self._curves:
            return f"{self._source} has no measurement of {cell.name}"
        sizes = self._sizes.get((cell, backend))
        if sizes is None:
            hint = nearest(backend, self._curves[cell])
            return f"{self._source} has no measurement of {backend!r} in {cell.name}. {hint}"
        if sizes[0] <= size <= sizes[-1]:
            return None
        if len(sizes) == 1:
            return f"measured at {full_size(sizes[0])} only"
        return f"measured from {full_size(sizes[0])} to {full_size(sizes[-1])} only"

    def excluded(self, cell: Cell, backend: str, size: int) -> tuple[PointExclusion, ...]:
        """Why the file says that `backend` may not be used at `size` bytes in `cell`; empty when it doesn't.

        Between two sizes of the file what holds for either: a size that was wrong leaves nothing to be trusted up to
        the next one that was right.
        """
        excluded = self._excluded.get((cell, backend))
        if excluded is None:
            return ()
        told = self._told[cell, backend]
        right = bisect_left(told, size)
        if size in excluded or told[right : right + 1] == [size]:
            around = [size]
        else:
            around = told[right - 1 : right + 1] if 0 < right < len(told) else []
        return tuple(
            PointExclusion(backend, reason, _replayed(detail, "" if at == size else full_size(at)))
            for at in around
            for reason, detail in sorted(excluded.get(at, ()))
        )

    def latency_us(self, cell: Cell, backend: str, size: int, rng: random.Random) -> float:
        """One latency in microseconds, drawn with `rng`.

        At a measured size one of its repeats; between two of them the line, in log size and log latency, through one
        repeat of each; then noise and outliers.

        Raises:
            ValueError: `covers` says why there is none.
        """
        latency = self._at(cell, backend, size, rng.choice)
        if self._noise:
            latency *= math.exp(self._noise * rng.normalvariate(0.0, 1.0))
        if self._outliers and rng.random() < self._outliers:
            latency *= math.exp(abs(rng.normalvariate(0.0, 1.0)))
        return latency

    def true_latency_us(self, cell: Cell, backend: str, size: int) -> float:
        """The curve of the medians of the repeats at `size`, in microseconds: no noise, no outliers.

        Raises:
            ValueError: `covers` says why there is none.
        """
        return self._at(cell, backend, size, statistics.median)

    def _at(self, cell: Cell, backend: str, size: int, one_of: Callable[[list[float]], float]) -> float:
        reason = self.covers(cell, backend, size)
        if reason is not None:
            raise ValueError(reason)
        curve, sizes = self._curves[cell][backend], self._sizes[cell, backend]
        right = bisect_left(sizes, size)
        above = one_of(curve[sizes[right]])
        if sizes[right] == size:
            return above
        left = sizes[right - 1]
        share = math.log(size / left) / math.log(sizes[right] / left)
        return math.exp((1 - share) * math.log(one_of(curve[left])) + share * math.log(above))


def _replayed(detail: str, at: str) -> str:
    """What the file says of a size, as what it is: nothing was run."""
    said = f"replayed, of {at}" if at else "replayed"
    return f"{said}: {detail}" if detail else said
