"""The parts of a config that stand on their own: workload, measure, policy, budget, and options of backends."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from ccl_dispatch.runtime.document import Node, Reader, describe
from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.probe import is_setting
from ccl_dispatch.runtime.units import parse_size
from ccl_dispatch.runtime.vocabulary import DIMS, ITEMSIZE, MODES
from ccl_dispatch.tuner.config.model import (
    BudgetConfig,
    MachineConfig,
    MeasureConfig,
    PolicyConfig,
    SweepConfig,
    WorkloadShape,
)
from ccl_dispatch.tuner.config.recorded import read_recorded

MAX_COUNT = 10**9
MAX_DIMENSION = 2**40
MAX_GRAPH_CALLS = 1024
MAX_RETRIES = 100
MAX_VARIABLES = 64
MAX_VALUE = 500
CACHES = ("cold", "warm")
_ARCHITECTURE = re.compile(r"gfx[0-9a-f]{3,5}|sm_[0-9]{2,3}")

_Value = TypeVar("_Value", str, int)


def read_workload(node: Node | None, config: SweepConfig) -> tuple[WorkloadShape, ...]:
    """The shapes of `workload`, listed or recorded, each in a dtype, mode and world size that `config` tunes."""
    if node is not None and isinstance(node.value, dict):
        return read_recorded(node, config)
    entries: dict[WorkloadShape, float] = {}
    for item in () if node is None else items_of(node):
        if isinstance(item.value, dict) and "recorded" in item.value:
            reader = Reader(item, [*item.value], ConfigError)
            raise reader.fail(
                item,
                "a record stands for the whole workload and can't be one of its shapes",
                "Write `workload: {recorded: PATH}`, or list shapes alone",
            )
        reader = Reader(item, [field.name for field in fields(WorkloadShape)], ConfigError)
        dtype, weight, world_size, mode, dim = (
            reader.get(key) for key in ("dtype", "weight", "world_size", "mode", "dim")
        )
        dtype = reader.need("dtype") if dtype is None else dtype
        # Without its weight: one shape with two weights is a contradiction, not two entries.
        entry = WorkloadShape(
            shape=_shape(reader, reader.need("shape")),
            dtype=_tuned(reader, dtype, reader.choice(dtype, ITEMSIZE), config.dtypes, "dtypes"),
            world_size=None
            if world_size is None
            else _tuned(reader, world_size, reader.integer(world_size), config.world_sizes, "world_sizes"),
            mode=None if mode is None else _tuned(reader, mode, reader.choice(mode, MODES), config.modes, "modes"),
            dim=None if dim is None else _tuned(reader, dim, reader.choice(dim, DIMS), config.dims, "dims"),
        )
        if entry in entries:
            raise reader.fail(item, "this shape is given twice", "Keep one of the two and add up their weights")
        entries[entry] = 1.0 if weight is None else above(reader, weight, 0)
    return tuple(replace(entry, weight=weight) for entry, weight in entries.items())


def read_measure(node: Node | None) -> MeasureConfig:
    """The `measure` mapping, over the defaults."""
    values = MeasureConfig()
    if node is None:
        return values
    reader = Reader(node, [field.name for field in fields(MeasureConfig)], ConfigError)
    kinds: dict[str, Callable[[Node], Any]] = {
        "min_samples": lambda child: reader.integer(child, minimum=1, maximum=MAX_COUNT),
        "max_samples": lambda child: reader.integer(child, minimum=1, maximum=MAX_COUNT),
        "min_seconds": lambda child: reader.number(child, minimum=0),
        "max_seconds": lambda child: above(reader, child, 0),
        "warmup": lambda child: reader.integer(child, minimum=0, maximum=MAX_COUNT),
        "timeout": lambda child: above(reader, child, 0),
        "cache": lambda child: reader.choice(child, CACHES),
        "graph_calls": lambda child: reader.integer(child, minimum=1, maximum=MAX_GRAPH_CALLS),
        "host_graphs": lambda child: flag(reader, child),
        "retries": lambda child: reader.integer(child, minimum=0, maximum=MAX_RETRIES),
        "max_faults": lambda child: reader.integer(child, minimum=1, maximum=MAX_COUNT),
    }
    values = replace(
        values, **{key: read(child) for key, read in kinds.items() if (child := reader.get(key)) is not None}
    )
    for unit in ("samples", "seconds"):
        least, most = getattr(values, f"min_{unit}"), getattr(values, f"max_{unit}")
        if least > most:
            where = reader.get(f"max_{unit}") or reader.need(f"min_{unit}")
            raise reader.fail(where, f"min_{unit} is {least:g} and max_{unit} {most:g}", f"Raise max_{unit}")
    return values


def read_machine(node: Node | None) -> MachineConfig:
    """The `machine` mapping; what it leaves out may be anything."""
    if node is None:
        return MachineConfig()
    reader = Reader(node, [field.name for field in fields(MachineConfig)], ConfigError)
    architecture, devices, memory = (reader.get(key) for key in ("architecture", "devices", "memory"))
    return MachineConfig(
        architecture=None if architecture is None else _architecture(reader, architecture),
        devices=None if devices is None else reader.integer(devices, minimum=1),
        memory=None if memory is None else size_of(reader, memory),
    )


def read_policy(node: Node | None) -> PolicyConfig:
    """The `policy` mapping, over the defaults: min_gain from 0 to below 1, confidence between 0.5 and 1."""
    values = PolicyConfig()
    if node is None:
        return values
    reader = Reader(node, [field.name for field in fields(PolicyConfig)], ConfigError)
    if (child := reader.get("min_gain")) is not None:
        values = replace(values, min_gain=_share(reader, child, reader.number(child, minimum=0), "0.03 is 3 %"))
    if (child := reader.get("confidence")) is not None:
        values = replace(values, confidence=_share(reader, child, above(reader, child, 0.5), "0.95 is 95 %"))
    return values


def read_budget(node: Node | None) -> BudgetConfig:
    """The `budget` mapping; what it leaves out is not limited."""
    if node is None:
        return BudgetConfig()
    reader = Reader(node, [field.name for field in fields(BudgetConfig)], ConfigError)
    regret, seconds, executions = (reader.get(key) for key in ("regret", "seconds", "executions"))
    return BudgetConfig(
        regret=None if regret is None else _share(reader, regret, above(reader, regret, 0), "0.01 is 1 %"),
        seconds=None if seconds is None else above(reader, seconds, 0),
        executions=None if executions is None else reader.integer(executions, minimum=1),
    )


def read_options(node: Node | None, names: Sequence[str]) -> Mapping[str, Mapping[str, str | int | float | bool]]:
    """The `backends` mapping: for some of `names` a mapping of scalars, which the backend itself reads."""
    if node is None:
        return {}
    options: dict[str, dict[str, str | int | float | bool]] = {}
    for name, child in Reader(node, names, ConfigError).node.value.items():
        keys = tuple(child.value) if isinstance(child.value, dict) else ("options",)
        reader = Reader(child, keys, ConfigError)
        for value in child.value.values():
            if value.value is None or isinstance(value.value, (dict, list)):
                raise reader.fail(value, f"found {describe(value)}, expected text, a number, true or false")
        options[name] = {key: value.value for key, value in child.value.items()}
    return options


def read_environment(node: Node | None) -> Mapping[str, str]:
    """The `environment` mapping: variables that a table depends on, and what the ranks find there."""
    if node is None:
        return {}
    keys = tuple(node.value) if isinstance(node.value, dict) else ("NCCL_GRAPH_REGISTER",)
    reader = Reader(node, keys, ConfigError)
    if len(keys) > MAX_VARIABLES:
        raise reader.fail(node, f"found {len(keys)} variables, expected at most {MAX_VARIABLES}")
    found = {}
    for name in keys:
        child = reader.need(name)
        if not is_setting(name):
            raise reader.fail(
                child,
                f"no table depends on {name}: expected NCCL_..., RCCL_..., AITER_..., HSA_... or SGLANG_... with AITER "
                "in it, and none of logging",
                "Export it where the sweep is started",
            )
        if isinstance(child.value, bool) or not isinstance(child.value, (str, int)):
            raise reader.fail(child, f"found {describe(child)}, expected text or a whole number")
        value = str(child.value)
        if len(value) > MAX_VALUE or not value.isprintable():
            raise reader.fail(child, f"expected printable text of up to {MAX_VALUE} characters")
        found[name] = value
    return found


def items_of(node: Node) -> list[Node]:
    """The nodes of a list."""
    if not isinstance(node.value, list):
        raise ConfigError(f"found {describe(node)}, expected a list", source=node.source, line=node.line, key=node.key)
    return node.value


def size_of(reader: Reader, node: Node) -> int:
    """Bytes, written as an int or with a unit."""
    if isinstance(node.value, bool) or not isinstance(node.value, (int, str)):
        raise reader.fail(node, f"found {describe(node)}, expected a size such as 64 KiB, or bytes as a whole number")
    try:
        size = parse_size(node.value)
    except ValueError as problem:
        raise reader.fail(node, str(problem)) from None
    if size < 1:
        raise reader.fail(node, f"found {size} B, expected at least 1 B")
    return size


def flag(reader: Reader, node: Node) -> bool:
    """True or false."""
    if not isinstance(node.value, bool):
        raise reader.fail(node, f"found {describe(node)}, expected true or false")
    return node.value


def above(reader: Reader, node: Node, floor: float) -> float:
    """A finite number greater than `floor`."""
    value = reader.number(node)
    if value <= floor:
        raise reader.fail(node, f"found {node.value}, expected more than {floor:g}")
    return value


def _architecture(reader: Reader, node: Node) -> str:
    text = reader.text(node)
    if not _ARCHITECTURE.fullmatch(text):
        raise reader.fail(node, f"found {describe(node)}, expected AMD's or NVIDIA's name, such as gfx942 or sm_90")
    return text


def _share(reader: Reader, node: Node, value: float, example: str) -> float:
    if value >= 1:
        raise reader.fail(node, f"found {node.value}, expected less than 1", f"It is a share: {example}")
    return value


def _tuned(reader: Reader, node: Node, value: _Value, tuned: Sequence[_Value], key: str) -> _Value:
    if value not in tuned:
        raise reader.fail(
            node,
            f"{value} is not tuned: `{key}` has {', '.join(map(str, tuned))}",
            f"Add it to `{key}` or take this shape out",
        )
    return value


def _shape(reader: Reader, node: Node) -> tuple[int, ...]:
    shape = tuple(reader.integer(item, minimum=1, maximum=MAX_DIMENSION) for item in reader.items(node))
    if not shape:
        raise reader.fail(node, "found an empty list, expected dimensions such as [4, 32320]")
    return shape
