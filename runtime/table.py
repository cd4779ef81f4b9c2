"""What a table says, as plain immutable values. `schema.py` reads it from YAML, `dispatch.py` decides by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ccl_dispatch.runtime.vocabulary import Cell

if TYPE_CHECKING:
    from ccl_dispatch.runtime.dispatch import Dispatcher
    from ccl_dispatch.runtime.explanation import Explanation

SCHEMA = "ccl-dispatch/table/v1"
SIZE_UNIT = "per_rank_input_bytes"

# Why a band uses its backend: it is faster than `against` beyond doubt; no candidate is proven to gain `min_gain`;
# or every candidate is excluded there. `likely` is a candidate that is ahead by its samples without proof: only with
# min_gain 0, where nothing has to be earned.
BAND_REASONS = ("faster", "tie", "excluded", "likely")
# The tie band is at least 1 % wide on either side: with min_gain 0 it would be a point, which nothing is ever proven to
# lie in, and backends that differ by less than 1 % are alike to every caller.
TIE_FLOOR = 0.01
EXCLUSION_REASONS = ("wrong_output", "unsupported", "crashed", "hung", "raised")


class Platform(NamedTuple):
    """What a table is valid for. An empty string or a zero says "unknown"; `settings` are environment variables."""

    device_type: str
    architecture: str
    device: str
    device_count: int
    link: str
    versions: Mapping[str, str]
    settings: Mapping[str, str]


class Policy(NamedTuple):
    """`min_gain`: the least T(baseline)/T(candidate) - 1 that a candidate must prove, with `confidence` (0 to 1)."""

    min_gain: float
    confidence: float
    timing: str


class Band(NamedTuple):
    """A run of sizes with one backend; the first band starts at the cell's `measured_from`.

    `gain` is T(against)/T(use) - 1 over the band's points, `interval` its bounds, each at the policy's confidence.
    """

    up_to: int
    use: str
    why: str
    against: str | None
    gain: float | None
    interval: tuple[float, float] | None
    points: int
    samples: int

    def reason(self, min_gain: float) -> str:
        """`why` for a reader: a band in which no candidate is proven is a tie only where the two are known to be close.

        The baseline's band is called `tie` in tables also where too little was measured to say more.
        """
        if self.why != "tie":
            return self.why
        reach = max(min_gain, TIE_FLOOR)
        close = self.interval is not None and -reach <= self.interval[0] and self.interval[1] <= reach
        return "tie" if close else "not proven"


class Crossover(NamedTuple):
    """The size `at` between two bands and the measured sizes `low` and `high` that it is known to lie between."""

    at: int
    low: int
    high: int
    below: str
    above: str


class Tie(NamedTuple):
    """Measured sizes from `low` to `high` at which `backend` is proven to lie within min_gain of the baseline."""

    backend: str
    low: int
    high: int


class Exclusion(NamedTuple):
    """`backend` may not be used at the measured sizes from `low` to `high`, and why."""

    backend: str
    reason: str
    low: int
    high: int
    detail: str


class Override(NamedTuple):
    """One exact size (of a workload shape) whose own measurement disagrees with its band."""

    size: int
    shape: tuple[int, ...]
    use: str
    against: str
    gain: float
    interval: tuple[float, float]
    samples: int


class CellTable(NamedTuple):
    """One cell's answer. Outside `measured_from`..`measured_to` (both included) the baseline is used."""

    cell: Cell
    measured_from: int
    measured_to: int
    bands: tuple[Band, ...]
    crossovers: tuple[Crossover, ...]
    ties: tuple[Tie, ...]
    exclusions: tuple[Exclusion, ...]
    overrides: tuple[Override, ...]
    regret_estimate: float | None


class Table(NamedTuple):
    """A whole table. `evidence` is plain data for readers; no decision depends on it."""

    name: str
    generated_by: str
    provenance: str
    baseline: str
    candidates: tuple[str, ...]
    platform: Platform
    policy: Policy
    cells: tuple[CellTable, ...]
    evidence: Mapping[str, Any]
    digest: str
    source: str

    def __repr__(self) -> str:
        # All of it is a page long: `ccl-dispatch show` prints that.
        from ccl_dispatch.runtime.units import counted

        return f"<Table {self.name!r}: {counted(len(self.cells), 'cell')}, {self.provenance}, {self.digest[:19]}>"

    def dispatcher(self, collective: str, world_size: int, *, strict: bool = False) -> Dispatcher:
        """The compiled lookups of one collective at one world size.

        Args:
            strict: raise for what no table can answer (a collective, dtype, mode or dim that does not exist, a world
                size or a size that is no whole number), here and in what is asked of the dispatcher; else the baseline
                answers, with one warning. $CCL_DISPATCH=strict asks for it as well.

        Raises:
            UsageError: strict, and there is no such collective, or `world_size` is no whole number.
        """
        from ccl_dispatch.runtime.dispatch import Dispatcher

        return Dispatcher(self, collective, world_size, strict=strict)

    def explain(
        self,
        collective: str,
        world_size: int,
        size: int,
        *,
        dtype: object = "bfloat16",
        mode: str = "eager",
        dim: str = "first",
        shape: tuple[int, ...] | None = None,
    ) -> Explanation:
        """Why a call of `size` per-rank input bytes uses what it uses (see `runtime.explanation`)."""
        from ccl_dispatch.runtime.explanation import explain

        return explain(self, collective, world_size, size, dtype=dtype, mode=mode, dim=dim, shape=shape)
