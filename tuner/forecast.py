"""What a sweep would do, told before it does anything: cells, points, time, memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.tuner.allowance import Memory, host_memory
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.budgeting import make_sampler, most_visits, no_room
from ccl_dispatch.tuner.device.base import INFINITY_CACHE
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.machine import Need, check_room, memory_needs
from ccl_dispatch.tuner.plan import Plan

# Seconds that a point takes beside its repetitions: buffers, checks, on a GPU capturing; and what starting takes.
_POINT_SECONDS = {"cpu": 0.02, "cuda": 0.2}
_START_SECONDS = {"cpu": 5.0, "cuda": 60.0}
# Where there are crossovers to find, a search visits about as many points again as its first look has.
_REFINEMENT = 2

_LASTING = (
    "each visit goes on for {:g} s at least (measure.min_seconds), which small sizes fill with thousands of "
    "executions: the budget of executions may be spent after fewer visits; measure: {{min_seconds: 0}} leaves their "
    "number to the search"
)


def forecast(plan: Plan) -> dict[str, Any]:
    """The plan as JSON data.

    `sizes` are all points that there are, `first_look` those that are measured whatever comes out, if the budget of
    executions has room for them. `visits` and `minutes` go from a search that ends there, each visit as short as may
    be, to one that has crossovers to find, each visit as long as may be. A replay takes none of this machine's memory,
    and as good as no time.

    Raises:
        UsageError: the budget has no room for one visit; or it does not fit into the memory that the
            config's `machine`, or for host memory this machine, has.
    """
    config, settings = plan.config, plan.settings
    outlook = make_sampler(plan).judge([])
    if outlook.exhausted:
        # As the sweep would: a first visit has a warm-up, also where later ones of a replay have none.
        raise UsageError(no_room(plan, outlook.exhausted))
    first, most = outlook.first_look, most_visits(plan)
    visits = [first, first * _REFINEMENT] if most is None else [min(first, most), min(first * _REFINEMENT, most)]
    needs: list[Need] = []
    memory, seconds = None, [0.0, 0.0]
    if config.replay is None:
        device = settings.placement.type
        cache = HostDevice().cache_bytes if device == "cpu" else INFINITY_CACHE
        devices = Memory(config.machine.memory, "each of the config's devices (`machine.memory`)")
        memory, whose = host_memory() if device == "cpu" else devices
        check_room(plan, memory, cache, whose)
        needs = memory_needs(plan, cache)
        seconds = [
            _START_SECONDS[device] + count * (_POINT_SECONDS[device] + each)
            for count, each in zip(visits, (config.measure.min_seconds, config.measure.max_seconds), strict=True)
        ]
        if config.budget.seconds is not None:
            seconds = [min(each, config.budget.seconds) for each in seconds]
    return {
        "name": config.name,
        "device": settings.placement.type if config.replay is None else "replay",
        "backends": list(settings.backends),
        "cells": [_cell(plan, name) for name in plan.cells],
        "first_look": first,
        "visits": visits,
        "sizes": sum(len(sizes) for sizes in plan.space.grid.values()),
        "minutes": [round(each / 60, 1) for each in seconds],
        "ranks": max(config.world_sizes),
        "memory_per_rank": sum(need.bytes for need in needs),
        "memory": {need.what: need.bytes for need in needs},
        "memory_available": memory,
        "budget": {key: value for key, value in vars(config.budget).items() if value is not None},
    }


def forecast_lines(plan: Plan) -> list[str]:
    """The plan for a reader.

    Raises:
        UsageError: as `forecast`.
    """
    facts, config = forecast(plan), plan.config
    machine = config.machine
    meant = [text for text in (machine.architecture, machine.devices and f"{machine.devices} devices") if text]
    against = f"{' and '.join(config.candidates)} against {config.baseline}"
    axes = {"mode": config.modes, "dim": config.dims, "dtype": config.dtypes, "world size": config.world_sizes}
    product = " x ".join(counted(len(values), axis) for axis, values in axes.items())
    where = facts["device"] + (f" ({', '.join(map(str, meant))})" if meant else "")
    lines = [
        f"{config.name}: {config.collective}, {against}, on {where}",
        f"cells: {len(facts['cells'])} of {product}",
    ]
    if config.environment:
        lines.append("the ranks get " + ", ".join(f"{name}={value}" for name, value in config.environment.items()))
    for cell in facts["cells"]:
        sizes = f"{short_size(cell['from'])} .. {short_size(cell['to'])}"
        lines.append(f"  {cell['cell']:45} {sizes:>20}, {cell['sizes']:3} sizes, {cell['workload']:2} of the workload")
        lines += [f"      {name} will not take {count}: {reason}" for name, reason, count in cell["refused"]]
    minutes = " to ".join(f"{each:g}" for each in facts["minutes"])
    few, many = facts["visits"]
    visits = f"about {few} to {many} visits in all" if few < many else f"at most {counted(many, 'visit')} by the budget"
    budget = ", ".join(f"{key} {value:g}" for key, value in facts["budget"].items())
    parts = ", ".join(f"{what} {short_size(size)}" for what, size in facts["memory"].items())
    available = facts["memory_available"]
    room = "" if available is None else f"; there are {short_size(available)}"
    replayed = config.replay is not None
    lines += [
        f"points: {facts['first_look']} of {facts['sizes']} in the first look, {visits}",
        ("time: a replay's, next to none" if replayed else f"time: about {minutes} minutes")
        + (f"; the budget ends it at {budget}" if budget else ""),
        *(
            ()
            if replayed or config.budget.executions is None or not config.measure.min_seconds
            else (_LASTING.format(config.measure.min_seconds),)
        ),
        *(() if replayed else (f"memory per rank: {short_size(facts['memory_per_rank'])} ({parts}){room}",)),
        "nothing was started and nothing was measured",
    ]
    return lines


def _cell(plan: Plan, name: str) -> dict[str, Any]:
    """One cell, and what its candidates are known not to take: the name, the first such size's reason, how many."""
    sizes = plan.space.grid[name]
    refused = []
    for candidate in plan.settings.candidates if plan.config.replay is None else ():
        kind, options = backend_class(candidate), plan.config.backends.get(candidate, {})
        reasons = [kind.foreseen(plan.point(name, size), options) for size in sizes]
        counts = Counter(_general(reason) for reason in reasons if reason is not None)
        examples = {_general(reason): reason for reason in reversed(reasons) if reason is not None}
        refused += [[candidate, examples[key], count] for key, count in counts.items()]
    return {
        "cell": name,
        "from": sizes[0],
        "to": sizes[-1],
        "sizes": len(sizes),
        "workload": len(plan.space.workload.get(name, ())),
        "refused": refused,
    }


def _general(reason: str) -> str:
    """A reason without its numbers: those of several sizes are one."""
    return "".join(char for char in reason if not char.isdigit())
