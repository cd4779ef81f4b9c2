"""From a config to what will be measured: cells, sizes, workload shapes, settings; can this machine do it?"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.table import Policy, Table
from ccl_dispatch.runtime.units import parse_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import Point
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.config.abilities import check_abilities, check_baseline
from ccl_dispatch.tuner.config.model import SweepConfig
from ccl_dispatch.tuner.curves.cells import families
from ccl_dispatch.tuner.device.placement import Placement
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.launch.launcher import Launcher, OwnRanks, once_more
from ccl_dispatch.tuner.machine import check_machine
from ccl_dispatch.tuner.measure.measurer import Measurer, WorkerMeasurer
from ccl_dispatch.tuner.measure.messages import MeasureSettings
from ccl_dispatch.tuner.measure.replaying import ReplayMeasurer
from ccl_dispatch.tuner.measurements.csv_file import read_measurements
from ccl_dispatch.tuner.measurements.replay import ReplayCurves
from ccl_dispatch.tuner.search.base import SearchSpace
from ccl_dispatch.tuner.statistics import StopRule
from ccl_dispatch.tuner.torch_import import broken_torch, need_torch, no_torch

logger = logging.getLogger(__name__)

Workload = Mapping[Cell, tuple[tuple[tuple[int, ...], int, float], ...]]


@dataclass(frozen=True)
class Plan:
    """What a sweep may measure and how.

    Attributes:
        cells: by name.
        workload: per cell (shape, size, weight) of the shapes that are measured exactly.
        given: the ranks that a launcher gave this node, None when the sweep starts its own.
        curves, replayed_platform: what is replayed, and what its file says it was measured on.
        node: the name of the node that measures.
    """

    config: SweepConfig
    cells: Mapping[str, Cell]
    space: SearchSpace
    workload: Workload
    policy: Policy
    settings: MeasureSettings
    curves: ReplayCurves | None = None
    replayed_platform: str = ""
    given: GivenRanks | None = None
    node: str = ""

    @property
    def largest(self) -> int:
        """The largest per-rank input in bytes."""
        return self.space.sizes[-1]

    def point(self, cell_name: str, size: int) -> Point:
        """The point, with the workload shape when the size is one's."""
        cell = self.cells[cell_name]
        return Point(cell, size, next((shape for shape, bytes_, _ in self.workload[cell] if bytes_ == size), ()))

    def number(self, cell_name: str, size: int, visit: int) -> int:
        """A number of the point's own, also when it is visited again: what is random about measuring it hangs on it."""
        place = self.space.cells.index(cell_name) * len(self.space.sizes) + self.space.sizes.index(size)
        return visit * len(self.space.cells) * len(self.space.sizes) + place


def make_plan(config: SweepConfig, given: GivenRanks | None = None) -> Plan:
    """Lay out the sweep; says nothing yet about whether this machine can run it (`machine.check_machine`).

    Args:
        given: the ranks that a launcher gave this node.

    Raises:
        UsageError: backends that don't run on one device, options that a backend doesn't have, too few ranks given.
        ConfigError: a collective, a mode or a dtype that the backends don't do, or a size that the baseline refuses.
    """
    if given is not None and config.replay is None and given.count < max(config.world_sizes):
        by, most = given.launched, max(config.world_sizes)
        raise UsageError(
            f"{config.source}: world size {most} needs {most} ranks, {by.by} gave this node {given.count}. "
            f"Start the job with {by.option} {most}, or lower `world_sizes`"
        )
    curves, platform = _replayed(config)
    cells = {cell.name: cell for cell in config.cells()}
    workload = {
        cell: tuple((entry.shape, entry.size, entry.weight) for entry in config.workload_of(cell))
        for cell in cells.values()
    }
    grid: dict[str, tuple[int, ...]] = {}
    shapes: dict[str, dict[int, float]] = {}
    for name, cell in cells.items():
        sizes = set(config.grid(cell))
        if config.replay is not None and curves is not None:
            # The sizes that were really measured are better evidence than any between them.
            low, high = config.replay.ranges[cell]
            sizes |= {size for size in curves.sizes(cell) if low <= size <= high}
        shapes[name] = {
            size: weight for _, size, weight in workload[cell] if curves is None or min(sizes) <= size <= max(sizes)
        }
        grid[name] = tuple(sorted(sizes | set(shapes[name])))
    alike = tuple(tuple(cell.name for cell in family) for family in families(cells.values()))
    policy = Policy(config.policy.min_gain, config.policy.confidence, config.timing)
    settings = _settings(config, policy)
    space = SearchSpace(grid, shapes, alike)
    plan = Plan(config, cells, space, workload, policy, settings, curves, platform, given)
    if config.replay is None:
        check_baseline(config, (plan.point(name, size) for name, sizes in grid.items() for size in sizes))
    return plan


def make_measurer(plan: Plan, log_folder: Path) -> Measurer:
    """What measures the plan's points: workers on this machine, or the replay.

    What measures has begun to start; it is a context manager that ends what it started.

    Raises:
        UsageError: this machine can't run what the config asks for.
        ModuleNotFoundError: torch is not installed.
        MeasuringError: a rank that a launcher should have given did not come.
    """
    config = plan.config
    replay = config.replay
    if replay is not None and plan.curves is not None:
        slow = replay.slow.get(plan.node)
        return ReplayMeasurer(plan.curves, plan.settings, replay.seed, pace=replay.pace, slow=slow)
    need_torch()
    launcher: Launcher = plan.given or OwnRanks()
    launcher.prepare(log_folder)

    on_host = plan.settings.placement.type == "cpu"

    def unavailable(backend: str) -> str | None:
        kind = backend_class(backend)
        if kind.torch_tells and on_host:
            # This process needs torch for nothing else then: a second or two, and half the work of a short sweep.
            return once_more(lambda: launcher.unavailable(backend, log_folder))
        return kind.unavailable()

    try:
        if plan.given is not None:
            plan.given.gather(max(config.world_sizes))
        if not on_host and (broken := broken_torch()) is not None:
            raise no_torch(broken)
        settings = replace(plan.settings, placement=check_machine(plan, unavailable))
        _tell_other_values(config)
    except BaseException:
        launcher.close(at_once=True)
        raise
    return WorkerMeasurer(config.world_sizes, plan.largest, settings, config.backends, log_folder, launcher)


def _tell_other_values(config: SweepConfig) -> None:
    for name, value in config.environment.items():
        here = os.environ.get(name, value)
        if here != value:
            logger.warning("the ranks get %s=%s (%s), not %s as this process has", name, value, config.source, here)


def uncovered(plan: Plan, table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cells that were not measured at all, and those whose ends were not: a table uses the baseline there."""
    measured = {cell.cell.name: (cell.measured_from, cell.measured_to) for cell in table.cells}
    whole = {name: (grid[0], grid[-1]) for name, grid in plan.space.grid.items()}
    unmeasured = tuple(name for name in plan.cells if name not in measured)
    return unmeasured, tuple(name for name, ends in measured.items() if ends != whole[name])


def unmeasured_shapes(plan: Plan, measured: Collection[tuple[Cell, int]]) -> tuple[str, ...]:
    """The workload's shapes that were not measured themselves, in words, heaviest first: bands around them answer."""
    left = [
        (-weight, f"{list(shape)} in {cell.name}")
        for cell, rows in plan.workload.items()
        for shape, size, weight in rows
        if (cell, size) not in measured
    ]
    return tuple(text for _, text in sorted(left))


def _settings(config: SweepConfig, policy: Policy) -> MeasureSettings:
    """How points are measured.

    Raises:
        UsageError, ConfigError: see `_device`.
    """
    rule = StopRule(
        math.log1p(policy.min_gain),
        policy.confidence,
        len(config.candidates),
        config.measure.min_samples,
        config.measure.max_samples,
    )
    device = _device(config)
    return MeasureSettings(
        config.baseline,
        config.candidates,
        config.timing,
        rule,
        config.measure.min_seconds,
        config.measure.max_seconds,
        config.measure.warmup,
        config.measure.timeout,
        config.seed,
        placement=Placement(
            device,
            shared=config.share_devices,
            host_graphs=config.measure.host_graphs,
            variables=config.environment,
        ),
        cold=(config.measure.cache or ("cold" if device == "cuda" else "warm")) == "cold",
        graph_calls=config.measure.graph_calls,
        registered="graph" in config.modes,
        retries=config.measure.retries,
        max_faults=config.measure.max_faults,
    )


def _device(config: SweepConfig) -> str:
    """The type of device that the sweep runs on; checks that all its backends do, and their options.

    Raises:
        UsageError: one of them does not.
    """
    if config.replay is not None:
        return "cpu"
    names = (config.baseline, *config.candidates)
    device = config.device or backend_class(config.baseline).devices[0]
    for name in names:
        known = backend_class(name)
        if device not in known.devices:
            raise UsageError(
                f"{config.source}: the backend {name} runs on {' and '.join(known.devices)}, this sweep on {device} "
                f"({'as `device` says' if config.device else f'as its baseline {config.baseline}'}). "
                "Compare backends of one device"
            )
        for key in config.backends.get(name, {}):
            if key not in known.options:
                raise UsageError(
                    f"{config.source}: backends.{name}.{key}: {name} has no such option. {nearest(key, known.options)}"
                )
        if "max_size" in config.backends.get(name, {}):
            try:
                parse_size(config.backends[name]["max_size"])  # type: ignore[arg-type]
            except ValueError as problem:
                raise UsageError(f"{config.source}: backends.{name}.max_size: {problem}") from None
    if device == "cpu" and config.share_devices:
        raise UsageError(f"{config.source}: share_devices is for GPUs; ranks on the host always share its cores")
    if device == "cuda" and config.measure.host_graphs:
        raise UsageError(f"{config.source}: measure.host_graphs is for the host; a GPU has graphs of its own")
    check_abilities(config, device)
    return device


def _replayed(config: SweepConfig) -> tuple[ReplayCurves | None, str]:
    """The curves to replay and the platform that their file names; nothing of it when the sweep measures."""
    if config.replay is None:
        return None, ""
    measurements = read_measurements(config.replay.file, config.replay.where)
    curves = ReplayCurves(measurements, noise=config.replay.noise, outliers=config.replay.outliers)
    return curves, measurements.rows[0].extra.get("platform", "")
