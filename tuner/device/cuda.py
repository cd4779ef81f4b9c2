"""A GPU as torch knows it: NVIDIA's, and AMD's under the same name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import torch

from ccl_dispatch.tuner.device.base import INFINITY_CACHE, Call, Graph
from ccl_dispatch.tuner.device.condition import gpu_condition

# 400 times what two events resolve (0.5 us, CUDA's reference of cudaEventElapsedTime).
_CUDA_MARK_SECONDS = 200e-6
# HIP's events resolve 10 ns, but each is a packet of its own, which also writes back caches before it takes the time
# (clr's hip_event.cpp, hip::EventMarker): some microseconds, of which regions of different lengths have different
# shares. A graph of one tiny kernel was reported to take 15 us of a GPU's time (rocm-systems #10834).
_HIP_MARK_SECONDS = 1e-3

# A look at clocks takes milliseconds. amdsmi waits up to 5 s for locks that all processes of the host share
# (rocm_smi_lib #88, aiter #5180): two such looks a visit would be most of the sweep.
_SLOW_LOOK_SECONDS = 3.0

_untyped: Any = torch.cuda  # torch has no types for the constructors of streams and events, nor for its start


def gpu_count() -> int:
    """How many GPUs this process sees, as the GPU's own runtime counts them, which this starts; 0 without one.

    Before that torch asks NVML or amdsmi. Where two copies of amdsmi's library are loaded, as by an `amdsmi` beside
    ROCm's wheels, that finds none (pytorch #186516).
    """
    try:
        _untyped.init()
    except (AssertionError, RuntimeError):
        return 0
    return torch.cuda.device_count()


def gpu_cache_bytes(index: int) -> int:
    """Bytes of the last cache in front of the memory of torch's device `index`."""
    return INFINITY_CACHE if torch.version.hip else int(torch.cuda.get_device_properties(index).L2_cache_size)


class CudaDevice:
    """GPU number `index`, which becomes this process's current device. Calls go to the current stream."""

    graphs = True
    launches = True

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.mark_seconds = _HIP_MARK_SECONDS if torch.version.hip else _CUDA_MARK_SECONDS
        self._index = index
        torch.cuda.set_device(index)
        self.cache_bytes = gpu_cache_bytes(index)
        self._flusher: torch.Tensor | None = None
        self._seen: dict[str, int] = {}
        self._tells = True
        self._before_capture: list[Call] = []

    def empty(self, size: int) -> torch.Tensor:
        """See `Device`."""
        return torch.empty(size, dtype=torch.uint8, device=self.name)

    def synchronize(self) -> None:
        """See `Device`."""
        torch.cuda.current_stream().synchronize()

    def finishing(self, call: Call) -> Call:
        """See `Device`."""
        wait = torch.cuda.current_stream().synchronize

        def finish() -> None:
            call()
            wait()

        return finish

    def mark(self) -> torch.cuda.Event:
        """An event in the current stream."""
        event: torch.cuda.Event = _untyped.Event(enable_timing=True)
        event.record()
        return event

    def seconds_between(self, first: torch.cuda.Event, second: torch.cuda.Event) -> float:
        """See `Device`."""
        return float(first.elapsed_time(second)) * 1e-3

    def capturing(self) -> bool:
        """See `Device`."""
        return torch.cuda.is_current_stream_capturing()

    def before_capture(self, action: Call) -> None:
        """See `Device`."""
        self._before_capture.append(action)

    def recordable(self, call: Call) -> Call:
        """The call itself."""
        return call

    def capture(
        self, batches: Sequence[Sequence[Call]], around: Callable[[], AbstractContextManager[Any]]
    ) -> list[Graph]:
        """See `Device`. On a stream of its own, as a capture must be."""
        stream: torch.cuda.Stream = _untyped.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), around():
            batches[0][0]()
            stream.synchronize()
            for action in self._before_capture:
                action()
            graphs: list[Graph] = [_captured(calls) for calls in batches]
        torch.cuda.current_stream().wait_stream(stream)
        return graphs

    def flush(self) -> None:
        """See `Device`."""
        if self._flusher is None:
            self._flusher = self.empty(2 * self.cache_bytes)
        self._flusher.fill_(1)

    def condition(self) -> Mapping[str, float | str]:
        """See `Device`. What keeps the ranks waiting is not asked again."""
        if not self._tells:
            return {}
        before = time.monotonic()
        found = gpu_condition(self._index, self._seen)
        self._tells = time.monotonic() - before < _SLOW_LOOK_SECONDS
        return found


def _captured(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """A graph of `calls`, captured from the current stream.

    `torch.cuda.graph` would also collect garbage and empty the allocator's cache each time, which takes longer than
    measuring a point.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads (NCCL's watchdog) may go on asking for their events.
    graph.capture_begin(capture_error_mode="thread_local")
    try:
        for call in calls:
            call()
    except BaseException:
        with suppress(Exception):  # what went wrong in the call is what the reader must see
            graph.capture_end()
        raise
    graph.capture_end()
    return graph
