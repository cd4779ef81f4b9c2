"""What a sweep config says, as plain frozen values. `parsing.py` reads them from YAML."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import LAST_DIM_ROWS
from ccl_dispatch.tuner.sizes import ALIGNMENT, shape_size, size_grid


@dataclass(frozen=True)
class SizeRange:
    """The sizes to tune, in per-rank input bytes, both ends included, and how many of the grid lie in one octave."""

    minimum: int
    maximum: int
    per_octave: int = 4


@dataclass(frozen=True)
class WorkloadShape:
    """One rank's input `shape` that the workload is known to use, measured exactly; `weight` is its relative share.

    `world_size`, `mode` and `dim` are None when it occurs in all of them.
    """

    shape: tuple[int, ...]
    dtype: str
    weight: float = 1.0
    world_size: int | None = None
    mode: str | None = None
    dim: str | None = None

    @property
    def size(self) -> int:
        """Per-rank input bytes."""
        return shape_size(self.shape, self.dtype)

    def occurs_in(self, cell: Cell) -> bool:
        """Whether calls of this shape fall into `cell`."""
        return (
            self.dtype == cell.dtype
            and self.world_size in {None, cell.world_size}
            and self.mode in {None, cell.mode}
            and self.dim in {None, cell.dim}
        )


@dataclass(frozen=True)
class MeasureConfig:
    """How a point is measured.

    Attributes:
        min_samples: repetitions of a visit at least; the search chooses how many more it takes.
        max_samples: repetitions of a visit at most.
        min_seconds: repetitions go on at least that long, so that book-keeping never outweighs measuring.
        max_seconds: repetitions end after that long, settled or not.
        warmup: calls per backend before the first repetition.
        timeout: seconds after which a point counts as hung.
        cache: `cold`, buffers rotate so that no call finds its data in a cache because the call before put it there;
            `warm`, every call has the same buffers. None: cold on a GPU, warm on the host.
        graph_calls: calls in one captured graph.
        host_graphs: on host memory, let lists of host calls stand in for graphs, to try out what captures.
        retries: how often a point is measured again, with new workers, after a fault; one more of the same candidate
            excludes it there.
        max_faults: so many faults that no exclusion explains end the sweep.
    """

    min_samples: int = 1
    max_samples: int = 400
    min_seconds: float = 0.03
    max_seconds: float = 1.5
    warmup: int = 1
    timeout: float = 60.0
    cache: str | None = None
    graph_calls: int = 8
    host_graphs: bool = False
    retries: int = 1
    max_faults: int = 100


@dataclass(frozen=True)
class MachineConfig:
    """The machine that a config is for; None says nothing. A sweep refuses to start on another one.

    Attributes:
        architecture: of the GPUs, such as `gfx942` or `sm_90`.
        devices: how many there are.
        memory: bytes of each.
    """

    architecture: str | None = None
    devices: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class PolicyConfig:
    """`min_gain`: the least T(baseline)/T(candidate) - 1 that a candidate must prove, with `confidence` (0 to 1)."""

    min_gain: float = 0.03
    confidence: float = 0.95


@dataclass(frozen=True)
class BudgetConfig:
    """What ends a sweep, whichever comes first; None sets no limit.

    Attributes:
        regret: estimated mean slowdown of the table against the best backend (0.005 is half a percent).
        seconds: wall time.
        executions: runs of a collective, all backends together, warm-up included.
    """

    regret: float | None = None
    seconds: float | None = None
    executions: int | None = None


@dataclass(frozen=True)
class SlowNode:
    """A node whose replayed latencies are `by` (0.05: 5 %) longer from the size `start` in bytes on."""

    by: float
    start: int = 0


@dataclass(frozen=True)
class ReplayConfig:
    """A measurement file that stands in for the machine.

    Attributes:
        file: the path that was opened.
        sha256: of the file's bytes, in hexadecimal.
        where: column to value; only rows that match are there.
        noise: standard deviation of the log of each latency.
        outliers: share of latencies slowed by a further |N(0, 1)| in log.
        seed: of noise, outliers and the choice among repeats.
        pace: how much real time a replayed second takes; 0 for none.
        slow: per node how much slower it is made, and from which size on: a made-up difference, to try `fleet` out.
        ranges: the cells that can be tuned from the file, each with the lowest and highest size (bytes) at which the
            baseline and at least one candidate are measured, within the config's `sizes`.
    """

    file: str
    sha256: str
    where: Mapping[str, str]
    noise: float
    outliers: float
    seed: int
    ranges: Mapping[Cell, tuple[int, int]]
    pace: float = 0.0
    slow: Mapping[str, SlowNode] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepConfig:
    """A sweep: what is compared, where, how it is measured, and when it is enough. Sizes are per-rank input bytes.

    `device` is where inputs and outputs live, None where the baseline usually has them. With `share_devices` several
    ranks may share a GPU, which shows whether everything is right and nothing about speed. `environment` has variables
    that the ranks get as the engine's processes have them, and that the table is valid for. `only` leaves out all other
    cells of the product; no file says it, an update of single cells does. `lines` has the line of each key in the file
    `source`, for messages.
    """

    name: str
    collective: str
    baseline: str
    candidates: tuple[str, ...]
    world_sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    modes: tuple[str, ...]
    dims: tuple[str, ...]
    timing: str
    sizes: SizeRange
    workload: tuple[WorkloadShape, ...] = ()
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    backends: Mapping[str, Mapping[str, str | int | float | bool]] = field(default_factory=dict)
    replay: ReplayConfig | None = None
    seed: int = 0
    source: str = "<config>"
    device: str | None = None
    share_devices: bool = False
    machine: MachineConfig = field(default_factory=MachineConfig)
    environment: Mapping[str, str] = field(default_factory=dict)
    only: tuple[Cell, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def cells(self) -> tuple[Cell, ...]:
        """The cells to tune; with `replay`, those of them that the file can serve."""
        product = itertools.product(self.modes, self.dims, self.dtypes, self.world_sizes)
        cells = (Cell(self.collective, *values) for values in product)
        chosen = (cell for cell in cells if not self.only or cell in self.only)
        return tuple(cell for cell in chosen if self.replay is None or cell in self.replay.ranges)

    def grid(self, cell: Cell) -> tuple[int, ...]:
        """The sizes of the grid in one of `cells()`, rising; with `replay`, within what the file has for the cell."""
        low, high = self.sizes.minimum, self.sizes.maximum
        if self.replay is not None:
            low, high = self.replay.ranges[cell]
        return size_grid(low, high, self.sizes.per_octave, alignment(cell, low, high))

    def workload_of(self, cell: Cell) -> tuple[WorkloadShape, ...]:
        """The workload shapes that occur in `cell`, in the order of the config."""
        return tuple(entry for entry in self.workload if entry.occurs_in(cell))

    def identity(self) -> dict[str, Any]:
        """All that decides what this sweep's samples mean, as JSON data: two configs with one identity share a study.

        Left out: the name, the budget, where files lie, how patient the sweep is with faults, and the variables, which
        are part of the platform whether a config gives them or somebody exported them. Lists that are sets
        (world sizes, dtypes and the like) are sorted; the order of candidates stays, it decides between equals.
        """
        measure = {key: value for key, value in asdict(self.measure).items() if key not in {"retries", "max_faults"}}
        replay = None
        if self.replay is not None:
            replay = {
                "sha256": self.replay.sha256,
                "where": dict(sorted(self.replay.where.items())),
                "noise": self.replay.noise,
                "outliers": self.replay.outliers,
                "seed": self.replay.seed,
                # The pace is not among them: it changes no latency.
                **(
                    {"slow": {name: asdict(slow) for name, slow in sorted(self.replay.slow.items())}}
                    if self.replay.slow
                    else {}
                ),
            }
        workload = [{**asdict(entry), "shape": list(entry.shape)} for entry in self.workload]
        return {
            "collective": self.collective,
            "baseline": self.baseline,
            "candidates": list(self.candidates),
            "device": self.device,
            "share_devices": self.share_devices,
            "world_sizes": sorted(self.world_sizes),
            "dtypes": sorted(self.dtypes),
            "modes": sorted(self.modes),
            "dims": sorted(self.dims),
            "timing": self.timing,
            "sizes": asdict(self.sizes),
            "workload": sorted(workload, key=lambda entry: json.dumps(entry, sort_keys=True)),
            "measure": measure,
            "policy": asdict(self.policy),
            "backends": {name: dict(sorted(options.items())) for name, options in sorted(self.backends.items())},
            "replay": replay,
            "seed": self.seed,
            **({"only": sorted(cell.name for cell in self.only)} if self.only else {}),
        }


def alignment(cell: Cell, low: int, high: int) -> int:
    """What sizes from `low` to `high` are multiples of: the alignment that every backend asks of its input.

    Along a last dim they are multiples of `LAST_DIM_ROWS` rows of 16 bytes, where the range has such sizes.
    Every point then has the same number of rows, and rows that every backend can take.
    """
    wanted = ALIGNMENT * LAST_DIM_ROWS
    return wanted if cell.dim == "last" and -(-low // wanted) * wanted <= high else ALIGNMENT


def config_digest(config: SweepConfig) -> str:
    """`sha256:` and the hexadecimal digest of the config's identity."""
    text = json.dumps(config.identity(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """One line for each key in which two identities differ: `measure.warmup: 3 against 5`, the value of `a` first."""
    lines: list[str] = []
    _compare(a, b, "", lines)
    return lines


def _compare(a: Any, b: Any, key: str, lines: list[str]) -> None:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            _compare(a.get(name), b.get(name), f"{key}.{name}" if key else name, lines)
    elif a != b or type(a) is not type(b):
        one, other, alike = _apart(a, b)
        lines.append(f"{key}: {_shown(one)} against {_shown(other)}{alike}")


def _apart(a: Any, b: Any) -> tuple[Any, Any, str]:
    """Of two lists of mappings, such as a workload's shapes, what is not in both; of anything else all."""
    if not all(isinstance(value, list) and all(isinstance(item, Mapping) for item in value) for value in (a, b)):
        return a, b, ""
    own = [_given(item) for item in a if item not in b]
    others = [_given(item) for item in b if item not in a]
    alike = len(a) - len(own)
    return (own or None, others or None, f" ({alike} alike)") if alike and (own or others) else (a, b, "")


def _given(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None}


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
