"""A sweep config: strict YAML to frozen values. Every error names file, line, key and the nearest valid word."""

from __future__ import annotations

import codecs
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ccl_dispatch.runtime.document import Node, Reader, describe, parse
from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.units import full_size
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, TIMINGS
from ccl_dispatch.tuner.backends.registry import BACKENDS
from ccl_dispatch.tuner.config.model import (
    BudgetConfig,
    MachineConfig,
    MeasureConfig,
    PolicyConfig,
    ReplayConfig,
    SizeRange,
    SweepConfig,
    WorkloadShape,
    config_digest,
    differences,
)
from ccl_dispatch.tuner.config.replay import ReplaySource, read_replay
from ccl_dispatch.tuner.config.sections import (
    flag,
    read_budget,
    read_environment,
    read_machine,
    read_measure,
    read_options,
    read_policy,
    read_workload,
    size_of,
)
from ccl_dispatch.tuner.device.placement import DEVICE_TYPES
from ccl_dispatch.tuner.kinds import DATABASE, JOURNAL, MEASUREMENTS, TABLE, kind_of
from ccl_dispatch.tuner.sizes import ALIGNMENT

__all__ = [
    "BudgetConfig",
    "MachineConfig",
    "MeasureConfig",
    "PolicyConfig",
    "ReplayConfig",
    "SizeRange",
    "SweepConfig",
    "WorkloadShape",
    "config_digest",
    "differences",
    "load_config",
    "parse_config",
]

KEYS = (
    "name",
    "collective",
    "baseline",
    "candidates",
    "device",
    "share_devices",
    "machine",
    "environment",
    "world_sizes",
    "dtypes",
    "modes",
    "dims",
    "timing",
    "sizes",
    "workload",
    "measure",
    "policy",
    "budget",
    "backends",
    "replay",
    "seed",
)
# The largest per-rank input that is measured; tables may hold sizes up to `vocabulary.MAX_SIZE`.
MAX_INPUT = 2**40
MAX_PER_OCTAVE = 64
MAX_SEED = 2**63 - 1
MAX_NAME = 100
# What is easily given for a config, and what to do with it.
_NO_CONFIG = {
    TABLE: "`ccl-dispatch show` and `explain` read tables",
    JOURNAL: "`ccl-dispatch sweep CONFIG --storage {0}` goes on with it, given the config that it was begun with",
    DATABASE: "`ccl-dispatch sweep CONFIG --storage sqlite:///{0}` goes on with it, given the config that it was begun "
    "with",
    MEASUREMENTS: "A config replays them by `replay: {{file: {0}}}`; `ccl-dispatch import` makes a study of them",
}

_Value = TypeVar("_Value", str, int)


def load_config(path: str | os.PathLike[str]) -> SweepConfig:
    """The config in the file at `path`.

    Raises:
        ConfigError: the file can't be read, or see `parse_config`.
    """
    source = os.fspath(path)
    try:
        data = Path(source).read_bytes()
    except OSError as problem:
        raise ConfigError(f"can't be read: {problem.strerror or problem}", source=source) from None
    if (kind := kind_of(data.removeprefix(codecs.BOM_UTF8))) in _NO_CONFIG:
        this = "these are" if kind == MEASUREMENTS else "this is"
        fix = _NO_CONFIG[kind].format(shlex.quote(source))
        raise ConfigError(f"{this} {kind}, expected a config", source=source, fix=fix)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ConfigError(f"not UTF-8: {problem.reason}", source=source, fix="Save the file as UTF-8") from None
    return parse_config(text, source)


def parse_config(text: str, source: str) -> SweepConfig:
    """The config in `text`; `source` is its path, for messages and to find a replayed file beside it.

    With `replay`, the file named there is read: what the config leaves out is what the file has.

    Raises:
        ConfigError: not YAML, an unknown or missing key, a wrong type, an impossible value.
        MeasurementFileError: the file to replay is wrong.
    """
    top = Reader(parse(text, source, ConfigError), KEYS, ConfigError)
    replay_node = top.get("replay")
    replayed = None if replay_node is None else read_replay(replay_node)
    names = tuple(BACKENDS) if replayed is None else replayed.measurements.backends()
    baseline = top.choice(top.need("baseline"), names)
    candidates = _candidates(top, baseline, names)
    minimum, maximum, per_octave = _sizes(top, required=replayed is None)
    collective = _collective(top, replayed)
    replay = None if replayed is None else replayed.served(collective, baseline, candidates, minimum, maximum)

    config = SweepConfig(
        name=_name(top),
        collective=collective,
        baseline=baseline,
        candidates=candidates,
        device=None if (device := top.get("device")) is None else top.choice(device, DEVICE_TYPES),
        share_devices=False if (share := top.get("share_devices")) is None else flag(top, share),
        machine=read_machine(top.get("machine")),
        environment=read_environment(top.get("environment")),
        world_sizes=_axis(top, "world_sizes", lambda node: top.integer(node, minimum=2), (), replay),
        dtypes=_axis(top, "dtypes", lambda node: top.choice(node, ITEMSIZE), (), replay),
        modes=_axis(top, "modes", lambda node: top.choice(node, MODES), ("eager",), replay),
        dims=_axis(top, "dims", lambda node: top.choice(node, DIMS), ("first",), replay),
        timing=TIMINGS[0] if (timing := top.get("timing")) is None else top.choice(timing, TIMINGS),
        sizes=SizeRange(minimum or ALIGNMENT, maximum or ALIGNMENT, per_octave),
        measure=read_measure(top.get("measure")),
        policy=read_policy(top.get("policy")),
        budget=read_budget(top.get("budget")),
        backends=read_options(top.get("backends"), (baseline, *candidates)),
        replay=replay,
        seed=0 if (seed := top.get("seed")) is None else top.integer(seed, minimum=0, maximum=MAX_SEED),
        source=source,
        lines={key: node.line for key in KEYS if (node := top.get(key)) is not None},
    )
    if replay is not None:
        config = _within_file(top, config, replay)
    return replace(config, workload=read_workload(top.get("workload"), config))


def _name(top: Reader) -> str:
    node = top.get("name")
    if node is None:
        return Path(top.node.source).stem
    name = top.text(node)
    # The name becomes part of file names.
    if len(name) > MAX_NAME or not name.isprintable() or "/" in name or name.startswith("."):
        raise top.fail(node, f"found {describe(node)}, expected a printable name without '/' and a leading '.'")
    return name


def _collective(top: Reader, replayed: ReplaySource | None) -> str:
    node = top.get("collective")
    if replayed is None:
        return top.choice(top.need("collective"), COLLECTIVES)
    there = tuple(dict.fromkeys(row.cell.collective for row in replayed.measurements.rows))
    if node is not None:
        return top.choice(node, there)
    if len(there) > 1:
        raise top.error(
            f"missing, and {replayed.said.file} has {', '.join(there)}",
            source=top.node.source,
            line=top.node.line,
            key="collective",
            fix="Name one of them",
        )
    return there[0]


def _candidates(top: Reader, baseline: str, names: tuple[str, ...]) -> tuple[str, ...]:
    def read(node: Node) -> str:
        name = top.choice(node, names)
        if name == baseline:
            raise top.fail(node, f"the baseline {name!r} is also a candidate", "Take it out of the candidates")
        return name

    return _several(top, top.need("candidates"), read)


def _several(top: Reader, node: Node, read: Callable[[Node], _Value]) -> tuple[_Value, ...]:
    """A list with at least one entry and none twice."""
    values: list[_Value] = []
    for item in top.items(node):
        value = read(item)
        if value in values:
            raise top.fail(item, f"{value} is given twice", "Keep one of the two")
        values.append(value)
    if not values:
        raise top.fail(node, "found an empty list, expected at least one entry")
    return tuple(values)


def _axis(
    top: Reader,
    key: str,
    read: Callable[[Node], _Value],
    default: tuple[_Value, ...],
    replay: ReplayConfig | None,
) -> tuple[_Value, ...]:
    """One dimension of the product that the cells are; with `replay` bounded by, and defaulting to, what is there."""
    if replay is None:
        return default if default and top.get(key) is None else _several(top, top.need(key), read)
    there = tuple(sorted({getattr(cell, key.removesuffix("s")) for cell in replay.ranges}))
    node = top.get(key)
    if node is None:
        return there

    def served(item: Node) -> _Value:
        value = read(item)
        if value not in there:
            raise top.fail(
                item,
                f"{value} has no measurement of the baseline and a candidate in {replay.file}",
                f"There are {', '.join(map(str, there))}",
            )
        return value

    return _several(top, node, served)


def _sizes(top: Reader, *, required: bool) -> tuple[int | None, int | None, int]:
    """The keys of `sizes`: min and max in bytes (None when left out, which only a replay may) and per_octave."""
    default = SizeRange(ALIGNMENT, ALIGNMENT).per_octave
    node = top.need("sizes") if required else top.get("sizes")
    if node is None:
        return None, None, default
    reader = Reader(node, ("min", "max", "per_octave"), ConfigError)
    low, high = (reader.need(key) if required else reader.get(key) for key in ("min", "max"))
    octave = reader.get("per_octave")
    minimum, maximum = (None if bound is None else _size(reader, bound) for bound in (low, high))
    if low is not None and minimum is not None and maximum is not None:
        if minimum > maximum:
            raise reader.fail(
                low, f"min {full_size(minimum)} is above max {full_size(maximum)}", "Swap them or widen the range"
            )
        if -(-minimum // ALIGNMENT) * ALIGNMENT > maximum:
            raise reader.fail(low, f"no multiple of {ALIGNMENT} B lies from min to max", "Widen the range")
    return minimum, maximum, default if octave is None else reader.integer(octave, minimum=1, maximum=MAX_PER_OCTAVE)


def _size(reader: Reader, node: Node) -> int:
    size = size_of(reader, node)
    if not ALIGNMENT <= size <= MAX_INPUT:
        raise reader.fail(node, f"found {size} B, expected {ALIGNMENT} B to {full_size(MAX_INPUT)} of per-rank input")
    return size


def _within_file(top: Reader, config: SweepConfig, replay: ReplayConfig) -> SweepConfig:
    """The config with the sizes that its file has for the config's cells; cells that were not asked for are dropped."""
    cells = config.cells()
    if not cells:
        raise top.fail(
            top.need("replay"),
            f"no cell of {replay.file} has the world sizes, dtypes, modes and dims that are asked for together",
            f"It has {', '.join(cell.name for cell in replay.ranges)}",
        )
    ranges = {cell: replay.ranges[cell] for cell in cells}
    sizes = SizeRange(
        min(low for low, _ in ranges.values()), max(high for _, high in ranges.values()), config.sizes.per_octave
    )
    return replace(config, sizes=sizes, replay=replace(replay, ranges=ranges))
