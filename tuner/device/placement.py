"""Which device each rank uses, and the settings that ranks need which share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccl_dispatch.tuner.device.base import Device

#: torch's names of the types of device; `cuda` is a GPU of either make.
DEVICE_TYPES = ("cpu", "cuda")

# NCCL refuses two ranks on one GPU of one host. Each rank then says that it is a host of its own, and all traffic goes
# over the loopback interface: right in every bit, and slow.
_SHARED_NCCL = {
    "NCCL_NET": "Socket",
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_P2P_DISABLE": "1",
    "NCCL_SHM_DISABLE": "1",
    "NCCL_IB_DISABLE": "1",
}
_SHARED_TORCH = {"TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES": "1"}

#: What a table of ranks that shared GPUs, or of host graphs, has among its platform's settings. No serving process has
#: them, so such a table fits nowhere.
SHARED_SETTING = "CCL_DISPATCH_SHARED_DEVICES"
HOST_GRAPHS_SETTING = "CCL_DISPATCH_HOST_GRAPHS"


@dataclass(frozen=True)
class Placement:
    """Rank r is on device r, or with `shared` on device r modulo `count`.

    Attributes:
        type: `cpu`, or `cuda` for GPUs of either make.
        count: how many devices are there; 0 on the host, where ranks share its cores.
        shared: several ranks may share a GPU, which tells whether they are right and nothing about their speed.
        host_graphs: on the host, allow graphs of host calls in place of a GPU's.
        own: each rank's process sees one device, its own, as Slurm binds them: that is number 0 there.
        variables: what every rank finds in its environment, whatever this process has there.
    """

    type: str = "cpu"
    count: int = 0
    shared: bool = False
    host_graphs: bool = False
    own: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    def device(self, rank: int) -> Device:
        """The device of `rank`, in the rank's own process."""
        if self.type == "cpu":
            from ccl_dispatch.tuner.device.host import HostDevice

            return HostDevice(graphs=self.host_graphs)
        from ccl_dispatch.tuner.device.cuda import CudaDevice

        return CudaDevice(0 if self.own else rank % self.count if self.shared else rank)

    def environment(self, rank: int) -> dict[str, str]:
        """What the process of `rank` finds in its environment beside the parent's."""
        if not self.shared:
            return dict(self.variables)
        return {**self.variables, **_SHARED_NCCL, **_SHARED_TORCH, "NCCL_HOSTID": f"rank{rank}"}

    def settings(self) -> Mapping[str, str]:
        """What belongs among the settings of the table's platform beside the parent's environment."""
        found = dict(self.variables)
        if self.shared:
            found |= {**_SHARED_NCCL, "NCCL_HOSTID": "one per rank", SHARED_SETTING: "1"}
        if self.host_graphs:
            found[HOST_GRAPHS_SETTING] = "1"
        return found

    @property
    def note(self) -> str:
        """What a reader of the table must know about its figures; empty when there is nothing."""
        if self.shared:
            return "the ranks shared GPUs: their times are those of time slicing and say nothing about speed"
        if self.host_graphs:
            return "graphs were lists of host calls: their times say nothing about a GPU's graphs"
        return ""
