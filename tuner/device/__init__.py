"""Where inputs and outputs live: host memory or a GPU, its clock, its graphs, and which rank uses which."""

from ccl_dispatch.tuner.device.base import Device, Graph
from ccl_dispatch.tuner.device.host import HostDevice
from ccl_dispatch.tuner.device.placement import Placement

__all__ = ["Device", "Graph", "HostDevice", "Placement"]
