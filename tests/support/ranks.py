"""Run one function on several ranks, each a real process in a real gloo group."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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


# Where the stand-in for AITER can be imported from as `aiter`.
STANDIN = str(Path(__file__).parent / "standin")


def run_ranks(
    code: str,
    world_size: int,
    *arguments: str,
    timeout: float = 60.0,
    environment: Callable[[int], Mapping[str, str]] = lambda rank: {},
    standin: bool = False,
) -> list[str]:
    """What each rank printed after it ran `code`, which finds `rank`, `world_size`, `torch` and `dist` defined.

    Args:
        environment: variables of each rank beside this process's.
        standin: let `import aiter` find the stand-in.

    Raises:
        AssertionError: a rank failed, or took longer than `timeout` seconds; with what it wrote to standard error.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = [*([STANDIN] if standin else []), str(Path(__file__).parent), *sys.path]
    common = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", _PRELUDE + code + _END]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(world_size), str(port), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**common, **environment(rank)},
        )
        for rank in range(world_size)
    ]
    deadline = time.monotonic() + timeout
    try:
        outputs = [process.communicate(timeout=max(0.1, deadline - time.monotonic())) for process in processes]
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"the ranks took longer than {timeout} s") from late
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for rank, (process, (_, errors)) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, f"rank {rank}: {errors}"
    return [output for output, _ in outputs]
