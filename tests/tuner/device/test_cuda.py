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
from ccl_dispatch.tuner.device import HostDevice
from ccl_dispatch.tuner.device.cuda import CudaDevice


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
