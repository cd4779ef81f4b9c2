"""Memory shared by the ranks of one host: segments, semaphores, a barrier, and an all-gather built on them."""

from ccl_dispatch.tuner.shared_memory.barrier import SharedBarrier
from ccl_dispatch.tuner.shared_memory.communicator import ShmCommunicator
from ccl_dispatch.tuner.shared_memory.segment import Segment
from ccl_dispatch.tuner.shared_memory.semaphores import Semaphores

__all__ = ["Segment", "Semaphores", "SharedBarrier", "ShmCommunicator"]
