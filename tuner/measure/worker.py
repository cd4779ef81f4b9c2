"""A worker: one rank, one process, started once per sweep by `launch/nursery.py`.

It sets itself up from the first message, then measures the points that it is sent. Whatever it raises goes back to the
parent as text. Importing this module brings in torch and sets up no device: the nursery does it once for all workers.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from ccl_dispatch.tuner.backends.base import Backend, BackendContext
from ccl_dispatch.tuner.backends.registry import backend_class
from ccl_dispatch.tuner.device.base import Device
from ccl_dispatch.tuner.launch.nursery import leave_at_once
from ccl_dispatch.tuner.measure.arena import Arena
from ccl_dispatch.tuner.measure.board import Board, BoardTeam
from ccl_dispatch.tuner.measure.check import Pattern
from ccl_dispatch.tuner.measure.fault import explain_end
from ccl_dispatch.tuner.measure.messages import NOT_MADE_ELSEWHERE, Failure, PointRequest, WorkerSetup
from ccl_dispatch.tuner.measure.point import PointRunner
from ccl_dispatch.tuner.shared_memory.segment import Segment

_LOOPBACK = "127.0.0.1"
_PATIENCE_SECONDS = 60


def connect(channel: Connection, setup: WorkerSetup) -> None:
    """Join the other workers in one gloo process group over a TCPStore of rank 0, on the loopback interface."""
    # Host names often resolve to an address that the container doesn't have; all ranks are on this host.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    timeout = datetime.timedelta(seconds=setup.settings.timeout + _PATIENCE_SECONDS)
    ranks = max(setup.world_sizes)
    if setup.rank == 0:
        # The store takes over a port that is bound already: nobody else can get it in between.
        listener = socket.socket()
        listener.bind((_LOOPBACK, 0))
        listener.listen(ranks)
        port = listener.getsockname()[1]
        store = dist.TCPStore(
            _LOOPBACK,
            port,
            ranks,
            is_master=True,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        channel.send(port)
    else:
        store = dist.TCPStore(
            _LOOPBACK, channel.recv(), ranks, is_master=False, timeout=timeout, wait_for_workers=False
        )
    dist.init_process_group("gloo", store=store, rank=setup.rank, world_size=ranks, timeout=timeout)


def make_runners(setup: WorkerSetup, board: Board, device: Device) -> dict[int, PointRunner]:
    """For every world size that this rank belongs to: its sub-groups, its backends, its runner.

    The largest world size comes first. Then all members of a group have made the same communicators before, and a
    library that numbers them, for the keys under which ranks find each other's memory, numbers them alike. AITER does,
    and torch's symmetric memory. For the same reason all of them are made before anything is measured.
    """
    settings = setup.settings
    classes = {}
    for name in settings.backends:
        board.enter(setup.rank, settings.backends, name)  # what is imported may crash as well
        classes[name] = backend_class(name, settings.extra_backends)
    board.enter(setup.rank, settings.backends, "")
    mine = [world_size for world_size in setup.world_sizes if setup.rank < world_size]
    # As large on every rank, whichever world sizes it takes part in: some share theirs.
    arena = Arena(device, setup.largest, setup.world_sizes, cold=settings.cold)
    pattern = Pattern(setup.largest, settings.seed, device)
    timeout = datetime.timedelta(seconds=settings.timeout + _PATIENCE_SECONDS)
    kinds = dict.fromkeys(each.group_kind for each in classes.values())
    # Collective over all ranks, members or not.
    groups = {
        world_size: {kind: dist.new_group(list(range(world_size)), timeout, kind) for kind in kinds}
        for world_size in setup.world_sizes
    }
    runners = {}
    for world_size in sorted(mine, reverse=True):
        # Longer than the parent waits: it is the parent that ends a hang, knowing who hangs.
        team = BoardTeam(board, setup.rank, world_size, settings.backends, settings.timeout + _PATIENCE_SECONDS)
        backends: dict[str, Backend] = {}
        inputs: dict[str, torch.Tensor | None] = {}
        refused: dict[str, str] = {}
        for name, each in classes.items():
            team.enter(name)
            options = setup.options.get(name, {})
            context = BackendContext(groups[world_size][each.group_kind], setup.rank, world_size, device, options)
            made = _make(each, context, must=name == settings.baseline)
            # All ranks have it or none.
            if team.decide([float(isinstance(made, str))], lambda rows: any(row[0] for row in rows)):
                refused[name] = made if isinstance(made, str) else NOT_MADE_ELSEWHERE
            elif not isinstance(made, str):
                backends[name] = made
                inputs[name] = made.input_memory(arena.input_bytes) if settings.registered else None
            team.enter("")
        runners[world_size] = PointRunner(team, backends, pattern, settings, arena, inputs, refused)
    return runners


def _make(kind: type[Backend], context: BackendContext, *, must: bool) -> Backend | str:
    """The backend, or why this rank can't have it."""
    try:
        return kind(context)
    except Exception as problem:
        if must:
            raise
        traceback.print_exc()
        return f"it can't be set up at world size {context.world_size}: {type(problem).__name__}: {problem}"


def serve(channel: Connection, runners: Mapping[int, PointRunner]) -> None:
    """Answer requests until the parent says stop (None) or is gone."""
    while True:
        try:
            request: PointRequest | None = channel.recv()
        except (EOFError, OSError):
            return
        if request is None:
            return
        channel.send(runners[request.point.cell.world_size].measure(request))


def run(channel_fd: int, board_fd: int) -> int:
    """Be a worker, given the descriptors of the channel to the parent and of the board; the exit code."""
    channel = Connection(channel_fd)
    setup: WorkerSetup = channel.recv()
    explain_end()
    torch.set_num_threads(1)  # ranks stand for devices: one does not take another's core
    try:
        board = Board(Segment.attach(board_fd), setup.world_sizes)
        device = setup.settings.placement.device(setup.rank)
        connect(channel, setup)
        runners = make_runners(setup, board, device)
        channel.send("ready")
        serve(channel, runners)
    except Exception as problem:  # noqa: BLE001 - all of it is told to the parent, which judges
        at = time.monotonic()
        traceback.print_exc()
        # CUDA's errors go on for several lines; they are in the log.
        text = str(problem).strip().partition("\n")[0]
        channel.send(Failure(f"{type(problem).__name__}: {text}", at))
        return 1
    return 0


if __name__ == "__main__":  # where the nursery may not fork
    leave_at_once(run(int(sys.argv[1]), int(sys.argv[2])))
