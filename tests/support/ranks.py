"""Run one piece of code on several ranks, each a real process in a real gloo group."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from forks import Fork, forks

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


# What all ranks need.
_MODULES = ("torch", "torch.distributed")
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
    having = forks((*_MODULES, *preload), tuple(sys.path) if preload else ())
    with ExitStack() as stack:
        files = [[stack.enter_context(TemporaryFile()) for _ in ("stdout", "stderr")] for _ in range(world_size)]
        started = [
            having.start(
                _PRELUDE + code + _END,
                [str(rank), str(world_size), str(port), *arguments],
                output=output.fileno(),
                errors=errors.fileno(),
                environment={**common, **environment(rank)},
                folder=os.getcwd(),
                path=path,
            )
            for rank, (output, errors) in enumerate(files)
        ]
        deadline = time.monotonic() + timeout
        late = [fork for fork in started if not _has_ended(fork, deadline)]
        for fork in late:
            fork.kill()
        outputs = [[_text(file) for file in own] for own in files]
    if late:
        raise AssertionError(f"the ranks took longer than {timeout} s: {outputs}")
    for rank, (fork, (_, errors)) in enumerate(zip(started, outputs, strict=True)):
        assert fork.returncode == 0, f"rank {rank}: {errors}"
    return [output for output, _ in outputs]


def _has_ended(fork: Fork, deadline: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        fork.wait(deadline - time.monotonic())
    return fork.returncode is not None


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
