"""Ours: the real pipeline, from a config and a measurement file to a table that the runtime has read."""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from landscapes import Landscape, Usual, write_csv
from landscapes.noise import Array
from numpy.typing import NDArray

from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.measure.replaying import ReplayMeasurer
from ccl_dispatch.tuner.measurements.csv_file import Measurements
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from ccl_dispatch.tuner.plan import Plan, make_measurer, make_plan
from ccl_dispatch.tuner.progress import Progress, SilentProgress
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.study.meta import StudyMeta
from ccl_dispatch.tuner.sweep import run_sweep, study_meta

# What an exhaustive scan of one cell runs: about 21 sizes, two backends, 20 warm-up and 100 timed calls each.
EXHAUSTIVE = 5000
# Calls of one visit that a noise is drawn for at a time.
_CALLS = 1024


@dataclass(frozen=True)
class Budget:
    """What a run may cost: `executions` of a collective, or `seconds` of machine time, or down to a `regret`."""

    executions: int | None = None
    seconds: float | None = None
    regret: float | None = None

    def yaml(self) -> str:
        """As a config has it."""
        return json.dumps({name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Tuned:
    """What came of a run.

    Attributes:
        meta: what the study said of itself.
        table: as the runtime read it from its file.
        text: that file.
        executions, seconds: what was spent in all, warm-up included; seconds are virtual.
    """

    meta: StudyMeta
    table: Table
    text: str
    results: tuple[PointResult, ...]

    @property
    def executions(self) -> int:
        """Executions of a collective, both backends together."""
        return sum(sum(result.executions.values()) for result in self.results)

    @property
    def seconds(self) -> float:
        """Virtual seconds in collectives."""
        return sum(result.collective_seconds for result in self.results)

    def regret(self, landscape: Landscape) -> float:
        """The true regret of the table's choices in the landscape's cell."""
        return landscape.regret(choices(self.table, landscape, landscape.sizes))

    def estimate(self, landscape: Landscape) -> float:
        """The regret that the table says may be left in the landscape's cell."""
        value = next(cell.regret_estimate for cell in self.table.cells if cell.cell == landscape.cell)
        return float("nan") if value is None else value


def own_seed(landscape: Landscape, seed: int) -> int:
    """The seed of a run on this landscape: cells of one name would share their noise under one seed, outliers and all,
    and the mean over landscapes would say little.
    """
    return zlib.crc32(f"{seed}/{landscape.name}".encode())


def tune(
    landscapes: Sequence[Landscape],
    budget: Budget,
    *,
    seed: int,
    min_gain: float = 0.0,
    progress: Progress | None = None,
) -> Tuned:
    """Sweep the cells of `landscapes` together, as `ccl-dispatch sweep` does, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load_config(write_config(landscapes, folder, budget, seed, min_gain, show_noise=False))
        out = folder / "table.yaml"

        def measurer(plan: Plan, logs: Path) -> Measurer:
            if all(one.is_usual for one in landscapes):
                return make_measurer(plan, logs)
            return ReplayMeasurer(_NoisyCurves(landscapes), plan.settings, seed)

        outcome = run_sweep(
            config,
            "memory://",
            out,
            folder / "logs",
            progress or SilentProgress(),
            measurer=measurer,
        )
        return Tuned(study_meta(make_plan(config)), load_table(out), out.read_text(encoding="utf-8"), outcome.results)


def write_config(
    landscapes: Sequence[Landscape],
    folder: Path,
    budget: Budget,
    seed: int,
    min_gain: float = 0.0,
    *,
    show_noise: bool = True,
) -> Path:
    """Write config and measurement file of a sweep over `landscapes`, which share backends and noise; the config."""
    first = landscapes[0]
    write_csv(landscapes, folder / "landscape.csv", show_noise=show_noise)
    noise = first.noise if isinstance(first.noise, Usual) else Usual(0.0, 0.0)
    replay = {"file": "landscape.csv", "noise": noise.sigma, "outliers": noise.outliers, "seed": seed}
    path = folder / "config.yaml"
    path.write_text(
        f"# {', '.join(dict.fromkeys(one.name for one in landscapes))}: simulated, or published, and replayed.\n"
        f"name: {json.dumps(first.name)}\n"
        f"baseline: {json.dumps(first.backends[0])}\n"
        f"candidates: [{json.dumps(first.backends[1])}]\n"
        f"policy: {{min_gain: {min_gain}}}\n"
        f"budget: {budget.yaml()}\n"
        f"replay: {json.dumps(replay)}\n"
        f"seed: {seed}\n",
        encoding="utf-8",
    )
    return path


def choices(table: Table, landscape: Landscape, sizes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the table's dispatcher chooses the candidate, at `sizes` of the landscape's cell."""
    cell = landscape.cell
    choose = table.dispatcher(cell.collective, world_size=cell.world_size).bind(
        dtype=cell.dtype, mode=cell.mode, dim=cell.dim
    )
    return np.array([choose(int(size)) == landscape.backends[1] for size in sizes], np.bool_)


class _NoisyCurves(ReplayCurves):
    """The curves of landscapes with a noise that a measurement file can't hold: one that has an order in time."""

    def __init__(self, landscapes: Sequence[Landscape]) -> None:
        rows = tuple(row for one in landscapes for row in one.rows())
        super().__init__(Measurements("landscapes", rows))
        self._landscapes = {one.cell: one for one in landscapes}
        self._visit: random.Random | None = None
        self._draws: Array = np.zeros((2, 0))
        self._calls = [0, 0]

    def latency_us(self, cell: Cell, backend: str, size: int, rng: random.Random) -> float:
        """The next latency of the backend in this visit; a visit is what has one `rng`."""
        landscape = self._landscapes[cell]
        if rng is not self._visit:
            self._visit, self._calls = rng, [0, 0]
            self._draws = landscape.noise.draw(np.random.default_rng(rng.getrandbits(64)), size, _CALLS)
        which = landscape.backends.index(backend)
        call = self._calls[which]
        self._calls[which] = (call + 1) % _CALLS
        return float(self.true_latency_us(cell, backend, size) * np.exp(self._draws[which, call]))
