"""How the GPUs of this host are linked: XGMI, NVLink or PCIe, pair by pair."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

# The kernel's own account of AMD GPUs, which rocm-smi and RCCL read as well.
KFD_NODES = "/sys/class/kfd/kfd/topology/nodes"
_XGMI = "11"  # HSA_IOLINK_TYPE_XGMI in the kernel's kfd_sysfs.h


class PciAddress(NamedTuple):
    """Where a GPU is on the PCI bus."""

    domain: int
    bus: int
    device: int


def describe_links(kinds: Sequence[str], count: int) -> str:
    """Words for the links between each pair of `count` devices: `XGMI, 8 fully connected`; empty when unknown."""
    if count < 2 or len(kinds) != count * (count - 1) // 2 or not all(kinds):
        return ""
    if len(set(kinds)) == 1:
        return f"{kinds[0]}, {count} fully connected"
    parts = [f"{kind} between {kinds.count(kind)}" for kind in sorted(set(kinds), reverse=True)]
    return f"{' and '.join(parts)} of {len(kinds)} pairs"


def nvidia_links(addresses: Sequence[PciAddress]) -> list[str]:
    """Per pair `NVLink` or `PCIe`, as NVML tells.

    Raises:
        Exception: nvidia-ml-py is not installed, or it knows none of these devices.
    """
    import pynvml

    pynvml.nvmlInit()
    handles = [
        pynvml.nvmlDeviceGetHandleByPciBusId(f"{at.domain:08x}:{at.bus:02x}:{at.device:02x}.0".encode())
        for at in addresses
    ]
    statuses = (
        pynvml.nvmlDeviceGetP2PStatus(first, second, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
        for first, second in combinations(handles, 2)
    )
    return ["NVLink" if status == pynvml.NVML_P2P_STATUS_OK else "PCIe" for status in statuses]


def amd_links(addresses: Sequence[PciAddress], folder: str = KFD_NODES) -> list[str]:
    """Per pair `XGMI` or `PCIe`, as the kernel tells under `folder`; empty for a pair of which it doesn't know one, or
    that has one address: partitions of a GPU (DPX, CPX) share theirs, and which of its nodes is which can't be told.
    """
    by_node = {int(name): _properties(f"{folder}/{name}/properties") for name in _entries(folder)}
    node_at = {_address(found): node for node, found in by_node.items() if found.get("simd_count", "0") != "0"}
    kinds = []
    for first, second in combinations([node_at.get(address) for address in addresses], 2):
        if first is None or second is None or first == second:
            kinds.append("")
        else:
            linked = second in _xgmi_peers(folder, first) or first in _xgmi_peers(folder, second)
            kinds.append("XGMI" if linked else "PCIe")
    return kinds


def _xgmi_peers(folder: str, node: int) -> set[int]:
    """The nodes that `node` has an XGMI link to."""
    peers = set()
    for kind in ("io_links", "p2p_links"):
        for name in _entries(f"{folder}/{node}/{kind}"):
            link = _properties(f"{folder}/{node}/{kind}/{name}/properties")
            if link.get("type") == _XGMI and "node_to" in link:
                peers.add(int(link["node_to"]))
    return peers


def _address(properties: Mapping[str, str]) -> PciAddress:
    # location_id is bus, device and function, as in the kernel's PCI_DEVID.
    location = int(properties.get("location_id", "0"))
    return PciAddress(int(properties.get("domain", "0")), location >> 8, location >> 3 & 31)


def _entries(folder: str) -> list[str]:
    try:
        return sorted((name for name in os.listdir(folder) if name.isdigit()), key=int)
    except OSError:
        return []


def _properties(path: str) -> dict[str, str]:
    """The `key value` lines of a file; nothing when it can't be read, as where a container hides a device."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return dict(line.split(None, 1) for line in file.read().splitlines() if len(line.split()) == 2)
    except OSError:
        return {}
