"""The machine under a sweep: is it the one that was meant, is there room, and what its tables are valid for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Platform
from ccl_dispatch.runtime.units import exact_size, parse_size, short_size
from ccl_dispatch.tuner.allowance import host_memory, processors_at_once
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.device.placement import Placement
from ccl_dispatch.tuner.measure.arena import arena_bytes

if TYPE_CHECKING:
    from ccl_dispatch.tuner.launch.given import GivenRanks
    from ccl_dispatch.tuner.plan import Plan

logger = logging.getLogger(__name__)

# Resident memory of a worker with torch loaded and nothing allocated, as seen with torch 2.13 on CPU: 240 MiB.
WORKER_BYTES = 256 * 1024**2
# What a rank takes of its GPU before it allocates anything: the runtime's context and a library's channels.
CONTEXT_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Need:
    """Memory of one kind that one rank takes, in bytes."""

    what: str
    bytes: int


def memory_needs(plan: Plan, cache_bytes: int) -> list[Need]:
    """What the rank that takes part in all world sizes takes of its device, or on the host of the host's memory.

    Args:
        cache_bytes: of the device; buffers rotate through twice as much.
    """
    settings, sizes = plan.settings, plan.config.world_sizes
    largest = plan.largest
    inputs, outputs = arena_bytes(largest, sizes, cache_bytes if settings.cold else 0)
    on_host = settings.placement.type == "cpu"
    needs = [
        Need("process" if on_host else "context", WORKER_BYTES if on_host else CONTEXT_BYTES),
        Need("inputs and outputs", inputs + outputs),
        Need("what outputs are checked against", 2 * largest),
    ]
    if settings.cold:
        needs.append(Need("what empties the cache", 2 * cache_bytes))
    for name in settings.backends:
        options = plan.config.backends.get(name, {})
        kind = backend_class(name)
        needs.append(Need(name, sum(kind.device_bytes(largest, world_size, options) for world_size in sizes)))
    return [need for need in needs if need.bytes]


def check_machine(plan: Plan, unavailable: Callable[[str], str | None]) -> Placement:
    """Refuse what this machine can't do, before anything is started; where each rank goes.

    Args:
        unavailable: why this machine can't run the backend of that name, None when it can.

    Raises:
        UsageError: a backend can't run here, the machine is not the one that the config is for, or it has not enough
            devices or memory for that many ranks.
    """
    for name in plan.settings.backends:
        reason = unavailable(name)
        if reason is not None:
            raise UsageError(
                f"the backend {name} can't run on this machine: {reason}. "
                "`ccl-dispatch doctor` shows what this machine can measure"
            )
    placement = plan.settings.placement
    if placement.type == "cpu":
        memory = host_memory()
        check_room(plan, memory.available, HostDevice().cache_bytes, memory.whose)
    else:
        placement = _check_gpus(plan, placement)
    _tell_of_throttling(plan)
    return placement


def _check_gpus(plan: Plan, placement: Placement) -> Placement:
    import torch

    from ccl_dispatch.tuner.device.cuda import gpu_cache_bytes, gpu_count

    config = plan.config
    count = gpu_count()
    ranks = max(config.world_sizes)
    here = this_platform("cuda")
    own = plan.given is not None and count == 1 < ranks and not placement.shared
    if own and plan.given is not None:
        # NCCL and RCCL refuse to start when two of these are the same.
        count = plan.given.count
        logger.warning(
            "each rank sees one GPU, which is taken to be its own. Kernels that reach into a peer's memory may refuse "
            "that, and how the GPUs are linked can't be told: let every rank see all GPUs where serving does "
            "(srun --gpus-per-node in place of --gpus-per-task, or --gpu-bind=none)"
        )
    wanted = config.machine
    if wanted.architecture is not None and here.architecture and wanted.architecture != here.architecture:
        raise UsageError(
            f"{config.source} is for {wanted.architecture} (`machine.architecture`), this machine has "
            f"{here.architecture}, {here.device}. Use the config that is for this machine, or change a copy of this one"
        )
    if wanted.devices is not None and wanted.devices != count and not placement.shared:
        raise UsageError(
            f"{config.source} is for {wanted.devices} devices (`machine.devices`), this process sees {count}. A table "
            "is valid for one number of devices: change the config, or the variable that hides devices"
        )
    if ranks > count and not placement.shared:
        raise UsageError(
            f"world size {ranks} needs {ranks} GPUs, one per rank; this process sees {count}. Lower `world_sizes`. "
            "`share_devices: true` lets ranks share a GPU, which shows whether all is right and nothing about speed"
        )
    properties = torch.cuda.get_device_properties(0)
    per_device = -(-ranks // count)
    whose = f"each rank's part of {properties.name}"
    check_room(plan, int(properties.total_memory) // per_device, gpu_cache_bytes(0), whose)
    return replace(placement, count=count, own=own)


def _tell_of_throttling(plan: Plan) -> None:
    ranks = max(plan.config.world_sizes)
    allowed = processors_at_once()
    if allowed is not None and allowed < ranks:
        logger.warning(
            "this container may use the time of %g processors (its CPU limit), and %d ranks wait busily for each "
            "other: they are stopped for a part of each 0.1 s, which is measured as time of whatever runs then. Raise "
            "the limit above %d, or leave it out",
            allowed,
            ranks,
            ranks,
        )


def check_room(plan: Plan, available: int | None, cache_bytes: int, where: str) -> None:
    """Refuse a plan that needs more memory than there is.

    Args:
        available: bytes, for one rank on a GPU and for all of them on the host; None when unknown.
        where: whose memory that is, for the message.

    Raises:
        UsageError: it does not fit.
    """
    config = plan.config
    needs = memory_needs(plan, cache_bytes)
    ranks = max(config.world_sizes)
    needed = sum(need.bytes for need in needs) * (ranks if plan.settings.placement.type == "cpu" else 1)
    if available is None or needed <= available:
        return
    parts = ", ".join(f"{need.what} {short_size(need.bytes)}" for need in needs)
    raise UsageError(
        f"{config.source}: world size {ranks} with inputs of up to {short_size(plan.largest)} needs about "
        f"{short_size(needed)} of memory, {where} has {short_size(available)}. A rank takes: {parts}. "
        "Lower `world_sizes`, `sizes.max` or a backend's `max_size`"
    )


def sweep_platform(plan: Plan) -> Platform:
    """What the table of this sweep is valid for: the machine, the settings of its workers, and its backends' pools.

    A pool bounds the sizes that a table may promise.
    """
    placement = plan.settings.placement
    here = this_platform(placement.type)
    pools = {}
    for name in plan.settings.backends:
        kind = backend_class(name)
        if kind.default_max_size is not None:
            size = plan.config.backends.get(name, {}).get("max_size", kind.default_max_size)
            pools[f"{name}.max_size"] = exact_size(parse_size(size))  # type: ignore[arg-type]
    if plan.given is not None:
        here = _of_all_ranks(here, plan.given, shared=placement.shared)
    return here._replace(versions={**here.versions, **pools}, settings={**here.settings, **placement.settings()})


def _of_all_ranks(here: Platform, given: GivenRanks, *, shared: bool) -> Platform:
    """The platform of ranks that a launcher may have bound to a processor or a GPU each; `here` is the first's."""
    if here.device_type == "cpu":
        return here._replace(device_count=len(given.cpus))
    if here.device_count == 1 < given.count and not shared:
        return here._replace(device_count=given.count, link="")
    return here
