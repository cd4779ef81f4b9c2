"""Run one piece of code on several ranks, each a real process in a real gloo group."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

_PRELUDE = """
import datetime, os, sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
rank, world_size, port = (int(word) for word in sys.argv[1:4])
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
timeout = datetime.timedelta(seconds=40)
store = dist.TCPStore("127.0.0.1", port, world_size, rank == 0, timeout=timeout)
dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timeout)
"""
_END = """
sys.stdout.flush()
dist.barrier()
os._exit(0)
"""


# Whatever a test has set by the time that the first one needs ranks.
_ENVIRONMENT = dict(os.environ)
# Where the stand-in for AITER can be imported from as `aiter`.
STANDIN = str(Path(__file__).parent / "standin")


def run_ranks(
    code: str,
    world_size: int,
    *arguments: str,
    timeout: float = 60.0,
    environment: Callable[[int], Mapping[str, str]] = lambda rank: {},
    standin: bool = False,
    preload: tuple[str, ...] = (),
) -> list[str]:
    """What each rank printed after it ran `code`, which finds `rank`, `world_size`, `torch` and `dist` defined.

    Args:
        environment: variables of each rank beside this process's.
        standin: let `import aiter` find the stand-in.
        preload: modules that are imported once for the ranks of all tests, by what this process's `sys.path` has now.

    Raises:
        AssertionError: a rank failed, or took longer than `timeout` seconds; with what it wrote to standard error.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = [*([STANDIN] if standin else []), str(Path(__file__).parent), *sys.path]
    common = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    forks = _forks(preload, tuple(sys.path) if preload else ())
    with ExitStack() as stack:
        files = [[stack.enter_context(TemporaryFile()) for _ in ("stdout", "stderr")] for _ in range(world_size)]
        pids = []
        for rank, own in enumerate(files):
            request = {
                "code": _PRELUDE + code + _END,
                "arguments": [str(rank), str(world_size), str(port), *arguments],
                "environment": {**common, **environment(rank)},
                "folder": os.getcwd(),
                "path": path,
            }
            pids.append(forks.start(request, [file.fileno() for file in own]))
        codes = forks.codes(pids, time.monotonic() + timeout)
        outputs = [[_text(file) for file in own] for own in files]
    if codes is None:
        raise AssertionError(f"the ranks took longer than {timeout} s: {outputs}")
    for rank, (ended, (_, errors)) in enumerate(zip(codes, outputs, strict=True)):
        assert ended == 0, f"rank {rank}: {errors}"
    return [output for output, _ in outputs]


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Forks:
    """The process of `forking.py`, which ends with this one."""

    def __init__(self, modules: tuple[str, ...], path: tuple[str, ...]) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._ended: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("forking.py")), str(theirs.fileno()), *modules],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**_ENVIRONMENT, **({"PYTHONPATH": os.pathsep.join(path)} if path else {})},
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._line.close()
        self._process.wait()

    def start(self, request: Mapping[str, object], fds: list[int]) -> int:
        """Fork a rank whose standard output and error go to `fds`; its process."""
        socket.send_fds(self._line, [json.dumps(request).encode()], fds)
        while (answer := self._next(time.monotonic() + 60)) is not None:
            if "started" in answer:
                return answer["started"]
        raise AssertionError("the process that forks ranks does not answer")

    def codes(self, pids: list[int], deadline: float) -> list[int] | None:
        """The exit codes of processes, which have ended then; None if some had to be killed at the deadline."""
        late = False
        while not self._ended.keys() >= {*pids}:
            if self._next(time.monotonic() + 10 if late else deadline) is None:
                assert not late, "the process that forks ranks does not answer"
                late = True
                for pid in {*pids} - self._ended.keys():
                    os.kill(pid, signal.SIGKILL)
        return None if late else [self._ended[pid] for pid in pids]

    def _next(self, deadline: float) -> dict[str, int] | None:
        """The next answer, None when none has come by then; endings are noted."""
        if not select.select([self._line], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        packet = self._line.recv(4096)
        assert packet, "the process that forks ranks has ended"
        answer: dict[str, int] = json.loads(packet)
        if "ended" in answer:
            self._ended[answer["ended"]] = answer["code"]
        return answer


@cache
def _forks(modules: tuple[str, ...], path: tuple[str, ...]) -> _Forks:
    return _Forks(modules, path)
