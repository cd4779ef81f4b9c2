"""More backends that go wrong, for whole sweeps: `registering/` lets a config name them and those of `faulty.py`."""

from __future__ import annotations

import abc
import contextlib
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ccl_dispatch.tuner.backends.base import BackendContext, Point
from ccl_dispatch.tuner.backends.gloo import GlooBackend
from ccl_dispatch.tuner.backends.shm import ShmBackend
from ccl_dispatch.tuner.device.base import Call

if TYPE_CHECKING:  # a sweep's own process looks at these classes, and leaves torch to its workers
    import torch


class _FailingRank(GlooBackend):
    """Gathers, but on one rank something comes before it."""

    failing_rank = 1

    @abc.abstractmethod
    def fail(self) -> None:
        """What the failing rank does before it gathers."""

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Fail on the failing rank, gather on the others."""
        gather = super().prepare(point, source, target)

        def call() -> None:
            if self._context.rank == self.failing_rank:
                self.fail()
            gather()

        return call


class Aborting(_FailingRank):
    """Rank 1 aborts, as a library does whose assertion fails; it says why first."""

    name = "aborting"

    def fail(self) -> None:
        """Say why, and abort."""
        print("Assertion `peer_ptr != nullptr` failed.", file=sys.stderr, flush=True)  # noqa: T201
        os.abort()


class Dying(_FailingRank):
    """Rank 0 is ended by SIGKILL, as the kernel does when memory runs out."""

    name = "dying"
    failing_rank = 0

    def fail(self) -> None:
        """Be killed."""
        os.kill(os.getpid(), signal.SIGKILL)


class Exiting(_FailingRank):
    """Rank 1 ends its process with an exit code, as some libraries do where they should raise."""

    name = "exiting"

    def fail(self) -> None:
        """Leave."""
        os._exit(7)


class Unborn(GlooBackend):
    """Rank 1 crashes while the backend is constructed."""

    name = "unborn"

    def __init__(self, context: BackendContext) -> None:
        if context.rank == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        super().__init__(context)


class Poisoning(ShmBackend):
    """Right in every call; from 512 bytes on every later collective of torch.distributed raises in rank 1's process.

    To the harness that is what a sticky error of CUDA or HIP is: the next who uses the device gets the exception.
    """

    name = "poisoning"

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        self._rank = context.rank

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather through shared memory, then poison rank 1."""
        gather = super().prepare(point, source, target)

        def call() -> None:
            gather()
            if self._rank == 1 and point.size >= 512:
                self.poison()

        return call

    def poison(self) -> None:
        """Have the process groups of this process raise."""
        import torch.distributed as dist

        def raising(*arguments: object) -> None:
            raise RuntimeError("an illegal memory access was encountered")

        # torch 2.13 renamed it and keeps the old name.
        for name in ("_allgather_base", "all_gather_single"):
            setattr(dist.ProcessGroup, name, raising)


class Undermining(Poisoning):
    """The same by other means: the connections of rank 1 are shut down, and a thread of gloo's aborts some time later.

    Whoever runs at that moment looks guilty.
    """

    name = "undermining"

    def poison(self) -> None:
        """Shut down every TCP connection of this process; the local sockets to the parent stay."""
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()).startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                        if connection.family == socket.AF_INET:
                            connection.shutdown(socket.SHUT_RDWR)


class Silent(GlooBackend):
    """Writes nothing."""

    name = "silent"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather into another place."""
        return super().prepare(point, source, target.new_empty(target.shape))


class Garbling(GlooBackend):
    """Every rank writes random bytes."""

    name = "garbling"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather, then write over it."""
        import torch

        gather = super().prepare(point, source, target)
        garbage = torch.frombuffer(bytearray(random.Random(1).randbytes(target.nbytes)), dtype=torch.uint8)

        def call() -> None:
            gather()
            target.view(-1).view(torch.uint8).copy_(garbage)

        return call


class Flipping(GlooBackend):
    """One bit is wrong, in the last byte, on rank 1 only."""

    name = "flipping"

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather, then flip a bit on rank 1."""
        import torch

        gather = super().prepare(point, source, target)

        def call() -> None:
            gather()
            if self._context.rank == 1:
                target.view(-1).view(torch.uint8)[-1] ^= 1

        return call


class _Timed(GlooBackend):
    """Gathers and then waits, so that its time is known and costs no core."""

    @abc.abstractmethod
    def seconds(self, size: int) -> float:
        """Seconds to wait at `size` bytes, on this rank."""

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Gather and wait."""
        gather = super().prepare(point, source, target)
        seconds = self.seconds(point.size)

        def call() -> None:
            gather()
            time.sleep(seconds)

        return call


class Limping(_Timed):
    """Slower on rank 1."""

    name = "limping"

    def seconds(self, size: int) -> float:
        """Longer on rank 1."""
        return 0.03 if self._context.rank == 1 else 0.002


class Steady(_Timed):
    """A baseline whose time is known."""

    name = "steady"

    def seconds(self, size: int) -> float:
        """Always the same."""
        return 0.004


class Brisk(_Timed):
    """A candidate whose crossover with `steady` is known: between 4 KiB and 8 KiB."""

    name = "brisk"

    def seconds(self, size: int) -> float:
        """Much less than `steady` up to 4 KiB, much more above."""
        return 0.0 if size <= 4096 else 0.02


class Storm:
    """Faults by a plan that goes on across processes and runs.

    `FAULTY_STORM` names a folder with the file `odds`, the share of draws that are a fault, and the file `drawn`, to
    which every draw adds a byte. Which draws are faults, and of which kind, depends on their number alone. What was
    done is in the file `done`.
    """

    KINDS = ("SIGSEGV", "SIGABRT", "SIGKILL", "SIGSTOP", "exit", "raise", "hang")

    def __init__(self) -> None:
        self._folder = Path(os.environ["FAULTY_STORM"])
        with (self._folder / "drawn").open("ab") as file:
            file.write(b".")
            number = file.tell()
        draw = random.Random(f"storm/{number}")
        kind = draw.choice(self.KINDS)
        self._due = kind if draw.random() < float((self._folder / "odds").read_text()) else ""

    def break_out(self) -> None:
        """Do what was drawn, once."""
        kind, self._due = self._due, ""
        if not kind:
            return
        with (self._folder / "done").open("a") as file:
            file.write(f"{kind}\n")
        if kind == "exit":
            os._exit(7)
        if kind == "raise":
            raise RuntimeError("a passing cloud")
        if kind != "hang":
            os.kill(os.getpid(), getattr(signal, kind))
        time.sleep(3600)

    def before(self, gather: Call) -> Call:
        """A call that does what was drawn, once, and then gathers."""

        def call() -> None:
            self.break_out()
            gather()

        return call


class Stormy(_Timed):
    """A candidate for `shaken` like `brisk`, but for what the storm does in its first call at a point."""

    name = "stormy"

    def seconds(self, size: int) -> float:
        """Much less than `shaken` up to 4 KiB, much more above."""
        return 0.0 if size <= 4096 else 0.15

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Draw, and fail as drawn."""
        return Storm().before(super().prepare(point, source, target))


class Shaken(_Timed):
    """A baseline whose time is known, but for what the storm does in its first call at a point."""

    name = "shaken"

    def seconds(self, size: int) -> float:
        """Several times what a rank waits for a core on a busy machine, 10 ms, so that no wait hides a gain."""
        return 0.03

    def prepare(self, point: Point, source: torch.Tensor, target: torch.Tensor) -> Call:
        """Draw, and fail as drawn."""
        return Storm().before(super().prepare(point, source, target))
