"""Is everything that calls itself available right? A short pass over real ranks, for `doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccl_dispatch.runtime.vocabulary import DIMS, MODES, Cell
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.device.placement import Placement
from ccl_dispatch.tuner.measure.fault import WorkerFault
from ccl_dispatch.tuner.measure.messages import MeasureSettings, PointRequest, RankReport
from ccl_dispatch.tuner.measure.pool import WorkerPool
from ccl_dispatch.tuner.statistics import StopRule

RANKS = 2
DTYPES = ("bfloat16", "float32")
# The least that there is, an odd number of cache lines, and enough to keep every block of a kernel busy.
SIZES = (16, 4096 + 128, 1024**2)
# A first call may set a library up.
_TIMEOUT = 120.0
_POOL = 64 * 1024**2


@dataclass
class Check:
    """What the pass found of one backend.

    Attributes:
        right: points at which every bit was right on every rank, twice.
        refused: points that the backend does not take.
        problems: what went wrong, one line each.
        reason: why it takes no point at all; empty when it takes some.
    """

    right: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    reason: str = ""


def check_backends(
    names: Sequence[str], placement: Placement, log_folder: Path, extra: Mapping[str, str] | None = None
) -> dict[str, Check]:
    """Run `names`, which all run on the placement's device, over dtypes, dims, modes and sizes, without timing.

    `extra` are names that the registry does not have, and their `module:Class`.

    Raises:
        MeasuringError: the workers can't be started, or end for no backend's fault.
    """
    checks = {name: Check() for name in names}
    first, *others = names
    rule = StopRule(0.0, 0.95, max(1, len(others)), 2, 2)
    settings = MeasureSettings(
        first,
        tuple(others),
        "isolated",
        rule,
        min_seconds=0.0,
        max_seconds=1.0,
        warmup=1,
        timeout=_TIMEOUT,
        seed=0,
        extra_backends=extra or {},
        placement=placement,
        graph_calls=2,
        registered=placement.type == "cuda",
    )
    options = {name: {"max_size": _POOL} for name in names if "max_size" in backend_class(name, extra).options}
    without: dict[str, None] = {}
    modes = MODES if placement.type == "cuda" else MODES[:1]
    with WorkerPool([RANKS], max(SIZES), settings, options, log_folder) as pool:
        cells = [Cell("all_gather", mode, dim, dtype, RANKS) for mode in modes for dim in DIMS for dtype in DTYPES]
        points = [Point(cell, size) for cell in cells for size in SIZES]
        for number, point in enumerate(points):
            for name in _faulty(pool, PointRequest(point, number, tuple(without), check_only=True), checks):
                without[name] = None
    return checks


def _faulty(pool: WorkerPool, request: PointRequest, checks: Mapping[str, Check]) -> list[str]:
    """Check one point; the backends that must be left out from now on."""
    out: list[str] = []
    while True:
        point = request.point
        try:
            reports = pool.measure(request)
        except WorkerFault as fault:
            if not fault.backend or fault.backend in request.without:
                raise
            checks[fault.backend].problems.append(f"{point.cell.name}, {point.size} B: {fault}")
            out.append(fault.backend)
            request = PointRequest(point, request.number, (*request.without, fault.backend), check_only=True)
            if all(name in request.without for name in checks):
                return out
            continue
        _note(point, reports, request.without, checks)
        return out


def _note(point: Point, reports: Sequence[RankReport], without: Sequence[str], checks: Mapping[str, Check]) -> None:
    for name, check in checks.items():
        if name in without:
            continue
        reason = next((report.unsupported[name] for report in reports if name in report.unsupported), None)
        wrong = next((report.wrong[name] for report in reports if name in report.wrong), None)
        if reason is not None:
            check.refused += 1
            check.reason = "" if check.right else reason
        elif wrong is not None:
            check.problems.append(f"{point.cell.name}, {point.size} B: {wrong}")
        else:
            check.right += 1
            check.reason = ""
