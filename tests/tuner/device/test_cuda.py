"""What a GPU's device does in which order, on a made-up torch.cuda."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._C._distributed_c10d import ProcessGroup

from ccl_dispatch.tuner.backends.base import BackendContext
from ccl_dispatch.tuner.backends.nccl import NcclBackend, RcclBackend
from ccl_dispatch.tuner.device import HostDevice, cuda
from ccl_dispatch.tuner.device.cuda import CudaDevice, gpu_count


class Stream:
    """Notes when it is waited for."""

    def __init__(self, journal: list[str], name: str) -> None:
        self.synchronize = partial(journal.append, f"{name} complete")

    def wait_stream(self, other: Stream) -> None:
        """Nothing is under way."""


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU of AMD's, and what is done with it."""
    told: list[str] = []

    class Graph:
        def capture_begin(self, capture_error_mode: str) -> None:
            told.append(f"begin {capture_error_mode}")

        def capture_end(self) -> None:
            told.append("end")

    @contextmanager
    def current(stream: Stream) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.version, "hip", "7.2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: Stream(told, "side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream(told, "main"))
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return told


def test_no_capture_begins_while_a_watchdog_asks(journal: list[str]) -> None:
    """The call before a capture leaves RCCL's watchdog an event; it has let go of it before any capture begins."""
    device = CudaDevice(0)
    group = SimpleNamespace(_wait_for_pending_works=partial(journal.append, "watchdog done"))
    device.empty = HostDevice().empty  # type: ignore[method-assign]
    RcclBackend(BackendContext(group, 0, 2, device))
    device.capture([[partial(journal.append, "call")]], nullcontext)
    assert journal == ["call", "side complete", "watchdog done", "begin thread_local", "call", "end"]


def test_only_rccl_waits_for_its_watchdog(journal: list[str]) -> None:
    """CUDA lets a watchdog ask while others capture; what RCCL waits with is a method of torch's groups."""
    NcclBackend(BackendContext(SimpleNamespace(), 0, 2, HostDevice()))
    assert callable(ProcessGroup._wait_for_pending_works)
    with pytest.raises(AttributeError, match="_wait_for_pending_works"):
        RcclBackend(BackendContext(SimpleNamespace(), 0, 2, HostDevice()))


def test_regions_outweigh_their_marks(journal: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """HIP's events cost more than they resolve, so that regions are longer than with CUDA's."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(L2_cache_size=1 << 20))
    assert CudaDevice(0).mark_seconds == 1e-3
    monkeypatch.setattr(torch.version, "hip", None)
    assert CudaDevice(0).mark_seconds == 200e-6


@pytest.mark.parametrize(("seconds", "looks"), [(0.01, 3), (5.0, 1)])
def test_a_look_that_takes_long_is_the_last(
    seconds: float, looks: int, journal: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of amdsmi's that others hold costs a rank one wait."""
    now = [0.0]

    def look(index: int, seen: dict[str, int]) -> dict[str, str]:
        now[0] += seconds
        return {"throttle": "power cap"}

    monkeypatch.setattr(cuda, "gpu_condition", look)
    monkeypatch.setattr(cuda, "time", SimpleNamespace(monotonic=lambda: now[0]))
    device = CudaDevice(0)
    assert [device.condition() for _ in range(3)] == [{"throttle": "power cap"}] * looks + [{}] * (3 - looks)


def test_gpus_are_counted_by_their_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of amdsmi's library show torch no GPU until HIP has been started, which then counts itself."""
    amdsmi = SimpleNamespace(AmdSmiException=OSError, amdsmi_init=lambda: None, amdsmi_get_processor_handles=list)
    monkeypatch.setattr(torch.version, "hip", "7.2")
    monkeypatch.setattr(torch.cuda, "amdsmi", amdsmi, raising=False)
    for name in ("_HAS_AMDSMI", "_HAS_PYNVML"):  # the second up to torch 2.10
        monkeypatch.setattr(torch.cuda, name, True, raising=False)
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "_initialized", False)
    monkeypatch.setattr(torch.cuda, "_cached_device_count", None)
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: 8, raising=False)
    monkeypatch.setattr(torch.cuda, "init", lambda: setattr(torch.cuda, "_initialized", True))
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert torch.cuda.device_count() == 0
    assert gpu_count() == 8


def test_without_a_gpu_none_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that was built for none says so with one kind of exception, a driver that is absent with another."""
    for refusal in (AssertionError("Torch not compiled with CUDA enabled"), RuntimeError("No HIP GPUs are available")):

        def init(refusal: Exception = refusal) -> None:
            raise refusal

        monkeypatch.setattr(torch.cuda, "init", init)
        assert gpu_count() == 0
