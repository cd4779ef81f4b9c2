"""A GPU's clock, temperature and throttling while it is measured. What can't be asked is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

# NVML's reasons for a lowered clock that spoil a measurement (nvml.h, nvmlClocksEventReasons); idling is none of them.
_NVIDIA_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "power brake",
}
# What keeps an AMD GPU's clocks down. MI300 and later have no status that says so now: amdsmi's metrics add up how long
# each of these held (ROCm's documentation of amdsmi, "GPU violations").
_AMD_REASONS = {
    "prochot_residency_acc": "processor hot",
    "ppt_residency_acc": "power cap",
    "socket_thm_residency_acc": "socket thermal",
    "vr_thm_residency_acc": "voltage regulator thermal",
    "hbm_thm_residency_acc": "memory thermal",
}
_NOT_SUPPORTED = 0xFFFFFFFFFFFFFFFF


def gpu_condition(index: int, seen: dict[str, int]) -> dict[str, float | str]:
    """`clock_mhz`, `temperature_c` and `throttle` of torch's device `index`; `throttle` is empty when there is none.

    NVML (nvidia-ml-py) or amdsmi tells, where it is there. Which of NVML's devices is `index` torch knows. It takes a
    neighbour for it on ROCm where `ROCR_VISIBLE_DEVICES` hides some, so amdsmi's is found by its PCI address here.

    Args:
        seen: what the look before has left there, empty at first; what a GPU adds up is told by how it has grown.
    """
    import torch

    questions: list[Callable[[], Any]]
    if torch.version.hip:
        handle = _ask(partial(_amd_handle, index))
        if handle is None:
            return {}
        questions = [
            partial(_amd_clock, handle),
            partial(_amd_temperature, handle),
            partial(_amd_throttle, handle, seen),
        ]
    else:
        questions = [partial(ask, index) for ask in (torch.cuda.clock_rate, torch.cuda.temperature, _nvidia_throttle)]
    clock, temperature, throttle = map(_ask, questions)
    # amdsmi says "N/A" of what it can't tell.
    answers = {"clock_mhz": clock, "temperature_c": temperature}
    found: dict[str, float | str] = {
        key: answer for key, answer in answers.items() if answer and isinstance(answer, (int, float))
    }
    if throttle is not None:
        found["throttle"] = throttle
    return found


def joined_conditions(conditions: Sequence[Mapping[str, float | str]]) -> dict[str, Any]:
    """What several ranks saw before and after a point, as ranges: `clock_mhz: [lowest, highest]`."""
    joined: dict[str, Any] = {}
    for key in ("clock_mhz", "temperature_c"):
        values = [value for item in conditions if (value := item.get(key)) is not None]
        if values:
            joined[key] = [min(values), max(values)]
    words = {str(item["throttle"]) for item in conditions if "throttle" in item}
    if words:
        joined["throttle"] = "; ".join(sorted(words - {""}))
    return joined


def pci_address(index: int) -> str:
    """The PCI address of torch's device `index`, such as `0000:c1:00.0`.

    Raises:
        AttributeError: this torch doesn't tell.
    """
    import torch

    properties: Any = torch.cuda.get_device_properties(index)
    return f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"


def _nvidia_throttle(index: int) -> str:
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_address(index).encode())
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return ", ".join(word for bit, word in _NVIDIA_REASONS.items() if reasons & bit)


def _amd_handle(index: int) -> Any:
    """What amdsmi calls torch's device `index`; of a partitioned GPU its first partition, whose address all have."""
    import amdsmi

    amdsmi.amdsmi_init()
    address = pci_address(index)
    return next(
        handle
        for handle in amdsmi.amdsmi_get_processor_handles()
        if amdsmi.amdsmi_get_gpu_device_bdf(handle).lower() == address
    )


def _amd_clock(handle: Any) -> Any:
    import amdsmi

    told = amdsmi.amdsmi_get_clock_info(handle, amdsmi.AmdSmiClkType.GFX)
    return told["clk"] if "clk" in told else told["cur_clk"]  # its name up to ROCm 6.1


def _amd_temperature(handle: Any) -> Any:
    import amdsmi

    kind, metric = amdsmi.AmdSmiTemperatureType.JUNCTION, amdsmi.AmdSmiTemperatureMetric.CURRENT
    return amdsmi.amdsmi_get_temp_metric(handle, kind, metric)


def _amd_throttle(handle: Any, seen: dict[str, int]) -> str | None:
    """What throttles, as amdsmi's metrics say: since the look before, or now; None where this GPU doesn't tell."""
    import amdsmi

    metrics = amdsmi.amdsmi_get_gpu_metrics_info(handle)
    sums = {key: value for key in _AMD_REASONS if (value := _told(metrics, key)) is not None}
    if sums:
        grown = [_AMD_REASONS[key] for key, value in sums.items() if value > seen.get(key, value)]
        seen.update(sums)
        return ", ".join(grown)
    states = [_told(metrics, key) for key in ("indep_throttle_status", "throttle_status")]
    told = [state for state in states if state is not None]
    return ", ".join(f"throttle status {state:#x}" for state in told[:1] if state) if told else None


def _told(metrics: Mapping[str, Any], key: str) -> int | None:
    value = metrics.get(key)
    return value if isinstance(value, int) and value != _NOT_SUPPORTED else None


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None: a library that is absent, or of another version, raises what it likes."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - see above
        return None
