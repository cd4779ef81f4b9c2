"""What a GPU says of its condition, with made-up answers of amdsmi and torch."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ccl_dispatch.tuner.device.condition import gpu_condition, joined_conditions

OTHER, MINE = "0000:01:00.0", "0000:C1:00.0"
ADDRESS = SimpleNamespace(pci_domain_id=0, pci_bus_id=0xC1, pci_device_id=0)


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A GPU of AMD's at 0000:c1:00.0, behind another one that is hidden; what amdsmi says of it may be changed."""
    metrics: dict[str, Any] = {"indep_throttle_status": "N/A", "throttle_status": "N/A", "clock": 2100, "junction": 55}
    amdsmi = SimpleNamespace(
        AmdSmiClkType=SimpleNamespace(GFX="gfx"),
        AmdSmiTemperatureType=SimpleNamespace(JUNCTION="junction"),
        AmdSmiTemperatureMetric=SimpleNamespace(CURRENT="current"),
        amdsmi_get_clock_info=lambda handle, kind: {"clk": metrics["clock"] if handle == MINE else 132},
        amdsmi_get_temp_metric=lambda handle, kind, metric: metrics[kind] if handle == MINE else 31,
        amdsmi_init=lambda: None,
        amdsmi_get_processor_handles=lambda: [OTHER, MINE],
        amdsmi_get_gpu_device_bdf=lambda handle: handle,
        amdsmi_get_gpu_metrics_info=lambda handle: metrics if handle == MINE else {"throttle_status": 1},
    )
    monkeypatch.setitem(sys.modules, "amdsmi", amdsmi)
    monkeypatch.setattr(torch.version, "hip", "7.2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: ADDRESS)
    # torch's own questions go to the wrong one, as with ROCR_VISIBLE_DEVICES=1 (torch 2.13).
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda index: 132)
    monkeypatch.setattr(torch.cuda, "temperature", lambda index: 31)
    return metrics


@pytest.mark.parametrize("nothing", ["N/A", None, 0])
def test_what_is_no_number_is_left_out(nothing: Any, amd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What amdsmi can't tell is "N/A", as in a virtual machine, and it may be so at one look out of two."""
    before = gpu_condition(0, {})
    assert before == {"clock_mhz": 2100, "temperature_c": 55}
    amd |= {"clock": nothing, "junction": nothing}
    after = gpu_condition(0, {})
    assert after == {}
    assert joined_conditions([before, after]) == {"clock_mhz": [2100, 2100], "temperature_c": [55, 55]}


def test_without_amdsmi_nothing_is_known(amd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An amdsmi that shows no GPU, as beside a second copy of its library, costs a sweep what it would have told."""
    monkeypatch.setattr(sys.modules["amdsmi"], "amdsmi_get_processor_handles", list)
    assert gpu_condition(0, {}) == {}


def test_an_mi300_throttles_when_a_residency_has_grown(amd: dict[str, Any]) -> None:
    """It has no status, and adds up how long each limit held: what grew since the look before is told, by its name."""
    amd |= {"ppt_residency_acc": 700, "prochot_residency_acc": 3, "hbm_thm_residency_acc": "N/A"}
    seen: dict[str, int] = {}
    assert gpu_condition(0, seen)["throttle"] == ""
    assert gpu_condition(0, seen)["throttle"] == ""
    amd["ppt_residency_acc"] = 702
    assert gpu_condition(0, seen)["throttle"] == "power cap"
    assert gpu_condition(0, seen)["throttle"] == ""


def test_an_older_gpu_has_a_status(amd: dict[str, Any]) -> None:
    """Where there are no residencies the status is told as it is."""
    amd["indep_throttle_status"] = 0
    assert gpu_condition(0, {})["throttle"] == ""
    amd["indep_throttle_status"] = 0x10
    assert gpu_condition(0, {})["throttle"] == "throttle status 0x10"
