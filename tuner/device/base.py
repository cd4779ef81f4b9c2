"""What measuring needs of a device: memory, an end to what was started, a clock, graphs, and its condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Call = Callable[[], None]

# CDNA 3 and CDNA 4 have 256 MiB of Infinity Cache in front of their memory (AMD's white papers), which HIP doesn't
# tell. It is also what a plan assumes that is made where there is no GPU: no supported one has a larger cache.
INFINITY_CACHE = 256 * 1024**2


class Graph(Protocol):
    """Captured calls that can be run again together."""

    def replay(self) -> None:
        """Start all of them in the order of their capture; `Device.synchronize` waits for the end."""


class Device(Protocol):
    """One rank's device. Calls are started in order, and complete when `synchronize` has returned.

    Attributes:
        name: torch's name of it, such as `cpu` or `cuda:3`.
        graphs: whether calls can be captured.
        launches: calls are launched by the host and run elsewhere, so that a host that has paused is late at first.
        mark_seconds: the least length of a region between two marks that keeps their resolution out of the result.
    """

    name: str
    graphs: bool
    launches: bool
    mark_seconds: float

    @property
    def cache_bytes(self) -> int:
        """Bytes of the last cache in front of the memory; 0 when unknown."""

    def empty(self, size: int) -> torch.Tensor:
        """`size` bytes, uninitialised, flat uint8."""

    def synchronize(self) -> None:
        """Return when all that was started is complete."""

    def finishing(self, call: Call) -> Call:
        """`call`, and the wait until it is complete."""

    def mark(self) -> Any:
        """A point in the order of what is started; `seconds_between` two of them is the device's own time."""

    def seconds_between(self, first: Any, second: Any) -> float:
        """Seconds from `first` to `second`, of which both are passed once `synchronize` has returned."""

    def capturing(self) -> bool:
        """Whether calls that are made now are captured instead of run."""

    def before_capture(self, action: Call) -> None:
        """Run `action` before each capture from now on, when all that was started before is complete."""

    def recordable(self, call: Call) -> Call:
        """`call` in a form that can be captured. Only host code needs one: kernels are captured by themselves."""

    def capture(
        self, batches: Sequence[Sequence[Call]], around: Callable[[], AbstractContextManager[Any]]
    ) -> list[Graph]:
        """Capture each of `batches` as a graph, with `around()` entered before and left after, as engines capture.

        The first call is run once before, inside `around()` and outside the capture: what a backend sets up at its
        first call can't be set up while a capture goes on.
        """

    def flush(self) -> None:
        """Start putting other data into the caches."""

    def condition(self) -> Mapping[str, float | str]:
        """Clocks, temperature and throttling, as far as they can be known; see `condition.py`."""
