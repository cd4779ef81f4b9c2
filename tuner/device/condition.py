"""A GPU's clock, temperature and throttling while it is measured. What can't be asked is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# NVML's reasons for a lowered clock that spoil a measurement (nvml.h, nvmlClocksEventReasons); idling is none of them.
_NVIDIA_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "power brake",
}
_NOT_SUPPORTED = 0xFFFFFFFFFFFFFFFF


def gpu_condition(index: int) -> dict[str, float | str]:
    """`clock_mhz`, `temperature_c` and `throttle` of torch's device `index`; `throttle` is empty when there is none.

    torch asks NVML (nvidia-ml-py) or amdsmi, whichever is there, and knows which of their devices is `index`.
    """
    import torch

    found: dict[str, float | str] = {}
    clock = _ask(lambda: torch.cuda.clock_rate(index))
    if clock:
        found["clock_mhz"] = clock
    temperature = _ask(lambda: torch.cuda.temperature(index))
    if temperature:
        found["temperature_c"] = temperature
    throttle = _ask(lambda: _amd_throttle(index) if torch.version.hip else _nvidia_throttle(index))
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


def _amd_throttle(index: int) -> str | None:
    """Whether anything throttles, as amdsmi's metrics say; None where this GPU doesn't tell."""
    import amdsmi

    amdsmi.amdsmi_init()
    address = pci_address(index)
    handle = next(
        handle
        for handle in amdsmi.amdsmi_get_processor_handles()
        if amdsmi.amdsmi_get_gpu_device_bdf(handle).lower() == address
    )
    metrics = amdsmi.amdsmi_get_gpu_metrics_info(handle)
    told = [
        value
        for key in ("indep_throttle_status", "throttle_status")
        if isinstance(value := metrics.get(key), int) and value != _NOT_SUPPORTED
    ]
    if not told:
        return None
    return ", ".join(f"throttle status {value:#x}" for value in told[:1] if value)


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None: a library that is absent, or of another version, raises what it likes."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - see above
        return None
