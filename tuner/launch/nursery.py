"""A process that imports torch once and then forks a worker whenever it is asked to.

Its arguments are `FD [PARENT]`: the socket to the launcher (`wire.py`), and the process whose end ends this one. A rank
that torchrun or srun gave has none: it ends when the socket does, and leaves their signals to the sweep, which says
with which exit code. Workers end with their nursery, whatever ends that.

Forking is right as long as this process has one thread and no device: no lock is held by a thread that the child lacks,
and CUDA and HIP are set up in the child. Both are looked at before the first fork. Where they don't hold (something
that is loaded into every Python starts a thread, say) each worker gets a new interpreter, as slowly as that goes.
What is read from the environment when a library is loaded is the same for all ranks; what differs by rank
(`Placement.environment`) is read by NCCL, HIP and torch when they are first used, which is after the fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.interpreter import python
from ccl_dispatch.tuner.torch_import import in_a_line

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PR_SET_NAME = 15
WORKER_MODULE = "ccl_dispatch.tuner.measure.worker"
# OpenBLAS, which numpy brings, starts its threads when it is loaded. Ranks don't use it.
_WHILE_IMPORTING = {"OPENBLAS_NUM_THREADS": "1"}
LEFT_ALONE = 3
#: The drivers' files of AMD's and NVIDIA's GPUs.
_GPU_FILES = ("/dev/kfd", "/dev/dri/", "/dev/nvidia")
_prctl = ctypes.CDLL(None).prctl

RunWorker = Callable[[int, int], int]


class Nursery:
    """The nursery's loop: starts, ends and buries workers.

    Args:
        line: to the launcher.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._prepared = False
        # A worker in this process, given the descriptors of its channel and board; None to start an interpreter.
        self._run: RunWorker | None = None
        self._code = LEFT_ALONE
        self._children: set[int] = set()

    def prepare(self) -> None:
        """Import torch, unless that is done; end at once where that fails."""
        if not self._prepared:
            try:
                self._run = import_worker()
            except Exception as problem:  # noqa: BLE001 - whatever it is, the next nursery would meet it as well
                traceback.print_exc()
                sys.stderr.write(f"{in_a_line(problem)}\n")
                leave_at_once(wire.NO_TORCH)
            self._prepared = True

    def serve(self) -> int:
        """Do what the launcher asks for until it is gone; the exit code, which is what it said before that.

        The end of its process is waited for: of several tasks Slurm and torchrun report the one that fails first.
        """
        woken, waker = socket.socketpair()
        woken.setblocking(False)
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)  # only a handler makes the wake-up come
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        there = True
        try:
            while there:
                ready = {fd for fd, _ in poll.poll()}
                if woken.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    self._bury()
                if self._line.fileno() in ready:
                    packet = wire.receive(self._line)
                    there = packet is not None
                    if packet is not None:
                        self._answer(*packet)
        except BrokenPipeError:
            pass  # it is gone
        for pid in self._children:
            _kill(pid)
        for pid in self._children:
            os.waitpid(pid, 0)
        return self._code

    def _answer(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        if "prepare" in message:
            self.prepare()
        elif "backend" in message:
            self.prepare()
            wire.send(self._line, {"unavailable": backend_class(message["backend"]).unavailable()})
        elif "start" in message:
            self.prepare()
            try:
                self._start(message["start"], message["environment"], fds)
            finally:
                for fd in fds:
                    os.close(fd)
        elif "kill" in message:
            pid = message["kill"]
            if pid in self._children:
                _kill(pid)
            wire.send(self._line, {"killing": pid})
        elif "leave" in message:
            self._code = message["leave"]

    def _start(self, rank: int, environment: Mapping[str, str], fds: Sequence[int]) -> None:
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError as problem:  # the limit of processes, or no memory
            wire.send(self._line, {"failed": str(problem)})
            return
        if pid == 0:
            self._become_worker(nursery, rank, environment, fds)
        self._children.add(pid)
        wire.send(self._line, {"started": pid})

    def _become_worker(self, nursery: int, rank: int, environment: Mapping[str, str], fds: Sequence[int]) -> NoReturn:
        code = 1
        try:
            die_with(nursery)
            # A session of its own: killing the group takes what a worker started (compilers, for one).
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            self._line.close()
            channel, board, log = fds
            null = os.open(os.devnull, os.O_RDONLY)
            for source, standard in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, standard)
            os.environ.update(environment)
            no_core_dumps()
            _prctl(_PR_SET_NAME, f"ccl rank {rank}".encode(), 0, 0, 0)
            if self._run is None:
                os.set_inheritable(channel, True)
                os.set_inheritable(board, True)
                command = python(WORKER_MODULE, str(channel), str(board))
                os.execv(command[0], command)  # noqa: S606 - a fixed command, and no shell is wanted
            _reseed()
            code = self._run(channel, board)
        except BaseException:  # noqa: BLE001 - the nursery's own loop must never run in a worker
            traceback.print_exc()
        finally:
            leave_at_once(code)

    def _bury(self) -> None:
        """Tell of every worker that has ended, and end what it started."""
        for pid in sorted(self._children):
            # Its number is its own until it is waited for, so the group is still this worker's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill(pid)
            _, status = os.waitpid(pid, 0)
            self._children.discard(pid)
            wire.send(self._line, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once when that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def no_core_dumps() -> None:
    """Have no crash of this process write its memory to a file; its stacks are in its log.

    After a fault of a GPU ROCm would write out the GPU's memory as well, into the working directory, before the process
    ends (rocr's amd_core_dump.cpp): gigabytes and minutes for each crash of a candidate.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def leave_at_once(code: int) -> NoReturn:
    """End without the interpreter's clean-up: nothing is worth waiting for a process group that has no peers left."""
    with contextlib.suppress(Exception):  # a log on a full disk
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def import_worker() -> RunWorker | None:
    """Import what workers need; what runs one in a fork of this process, None when forking is not safe."""
    before = {name: os.environ.get(name) for name in _WHILE_IMPORTING}
    os.environ.update(_WHILE_IMPORTING)
    gc.disable()  # of what is imported nothing is to be collected, and looking takes a fifteenth of the time
    import torch

    from ccl_dispatch.tuner.measure import worker

    gc.enable()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    threads = len(os.listdir("/proc/self/task"))
    # Whatever has started CUDA or HIP past torch, or has only asked torch whether there is a GPU: torch does not call
    # itself initialized then, and HIP does not work in a fork.
    files = _gpu_files()
    if threads > 1 or files or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found = f"{threads} threads" if threads > 1 else " ".join(["a GPU in use", *files])
        sys.stderr.write(f"after importing torch this process has {found}: workers get their own interpreters\n")
        return None
    gc.collect()
    gc.freeze()  # collecting in a worker would write to, and so copy, every page of what was imported
    return worker.run


def _gpu_files() -> list[str]:
    """The files of GPUs that this process holds open."""
    held = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted({path for path in held if path.startswith(_GPU_FILES)})


def _reseed() -> None:
    """Draw numpy's state anew. Python draws its own after a fork, and torch's is the same in all processes."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _kill(pid: int) -> None:
    """End a child and what it started; before it has its own session there is no such group yet."""
    for end in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to handle
    line = socket.socket(fileno=int(arguments[0]))
    line.set_inheritable(False)
    nursery = Nursery(line)
    if len(arguments) > 1:
        die_with(int(arguments[1]))
        nursery.prepare()
    else:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return nursery.serve()


if __name__ == "__main__":
    leave_at_once(main(sys.argv[1:]))
