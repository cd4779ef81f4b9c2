"""Host memory as a device, and graphs of host calls for trying out, without a GPU, what captures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ccl_dispatch.tuner.device.base import Call, Graph

if TYPE_CHECKING:
    import torch

_CACHE_SIZES = "/sys/devices/system/cpu/cpu0/cache/index{level}/size"
_UNITS = {"K": 1024, "M": 1024**2}


class HostGraph:
    """A list of host calls. Making a call while one is being captured appends it, `replay` makes them in order.

    It keeps what makes capturing hard for a backend (nothing runs at capture, arguments are those of the capture, the
    backend is not asked again at replay) and has nothing of a GPU's speed. Sweeps use it only when the config says
    `measure: {host_graphs: true}`, and their tables say so.
    """

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def append(self, call: Call) -> None:
        """Note a call."""
        self._calls.append(call)

    def replay(self) -> None:
        """Make all calls."""
        for call in self._calls:
            call()


# What is captured is a property of the process, as the current stream is on a GPU: a library that is called must find
# out without being told.
_captured_into: list[HostGraph] = []


def capturing() -> bool:
    """Whether host calls are being captured in this process."""
    return bool(_captured_into)


def launch(call: Call) -> None:
    """Make `call`, or note it in the graph that is being captured."""
    if _captured_into:
        _captured_into[-1].append(call)
    else:
        call()


@contextmanager
def capture_into(graph: HostGraph) -> Iterator[None]:
    """Inside, `launch` notes calls in `graph`."""
    _captured_into.append(graph)
    try:
        yield
    finally:
        _captured_into.pop()


class HostDevice:
    """Host memory. Calls are complete when they return.

    Args:
        graphs: allow host graphs in place of a GPU's.
    """

    name = "cpu"
    #: Visits of 1, 4, 20 and 150 samples found Gloo and shared memory alike, within what they scatter.
    launches = False
    #: 1000 times what reading the host's clock costs and resolves (about 50 ns).
    mark_seconds = 50e-6

    def __init__(self, *, graphs: bool = False) -> None:
        self.graphs = graphs
        self._flusher: torch.Tensor | None = None
        self._before_capture: list[Call] = []

    @property
    def cache_bytes(self) -> int:
        """See `Device`."""
        return max(map(_cache_size, range(5)))

    def empty(self, size: int) -> torch.Tensor:
        """See `Device`."""
        import torch

        return torch.empty(size, dtype=torch.uint8)

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def finishing(self, call: Call) -> Call:
        """The call itself."""
        return call

    def mark(self) -> float:
        """The time."""
        return time.perf_counter()

    def seconds_between(self, first: float, second: float) -> float:
        """See `Device`."""
        return second - first

    def capturing(self) -> bool:
        """See `Device`."""
        return capturing()

    def before_capture(self, action: Call) -> None:
        """See `Device`."""
        self._before_capture.append(action)

    def recordable(self, call: Call) -> Call:
        """`call`, noted instead of made while a graph is being captured."""
        return partial(launch, call)

    def capture(
        self, batches: Sequence[Sequence[Call]], around: Callable[[], AbstractContextManager[Any]]
    ) -> list[Graph]:
        """See `Device`."""
        graphs: list[Graph] = []
        with around():
            batches[0][0]()
            for action in self._before_capture:
                action()
            for calls in batches:
                graph = HostGraph()
                with capture_into(graph):
                    for call in calls:
                        call()
                graphs.append(graph)
        return graphs

    def flush(self) -> None:
        """See `Device`."""
        if self._flusher is None:
            self._flusher = self.empty(2 * self.cache_bytes)
        self._flusher.fill_(1)

    def condition(self) -> Mapping[str, float | str]:
        """Nothing is known of a host's cores here."""
        return {}


def _cache_size(level: int) -> int:
    """Bytes of a cache of the first core, as Linux tells; 0 where it doesn't."""
    try:
        with open(_CACHE_SIZES.format(level=level), encoding="ascii") as file:
            text = file.read().strip()
        return int(text[:-1]) * _UNITS[text[-1]]
    except (OSError, ValueError, KeyError, IndexError):
        return 0
