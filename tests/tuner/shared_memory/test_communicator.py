"""The shared-memory all-gather beyond what every backend is asked: its limits, its other path, its end."""

from __future__ import annotations

from pathlib import Path

from ranks import run_ranks

LIMITS = """
from ccl_dispatch.tuner.shared_memory import ShmCommunicator
communicator = ShmCommunicator(dist.group.WORLD, max_size=1 << 16)
limit = (1 << 16) // (2 * world_size)
assert not communicator.disabled and communicator.world_size == world_size and communicator.max_size == 1 << 16
fits = torch.full((limit // 4,), float(rank))
assert communicator.should_custom_ag(fits)
assert communicator.all_gather_unreg(fits).view(world_size, -1)[:, 0].tolist() == list(map(float, range(world_size)))
for bad in (torch.zeros(limit // 4 + 4), torch.zeros(3), torch.zeros(0), torch.zeros(64, 64).t()):
    assert not communicator.should_custom_ag(bad)
    try:
        communicator.all_gather_unreg(bad)
    except ValueError:
        pass
    else:
        raise AssertionError(bad.shape)
registered = communicator.empty((8, 16), torch.float16)
for step in range(5):
    registered.fill_(rank + step)
    gathered = communicator.all_gather_reg(registered, dim=-1)
    assert gathered.shape == (8, 16 * world_size)
    assert gathered[3, ::16].tolist() == [float(peer + step) for peer in range(world_size)]
try:
    communicator.all_gather_reg(fits)
except ValueError as problem:
    assert "registered" in str(problem)
else:
    raise AssertionError("an unregistered input was taken")
with communicator.capture():
    assert communicator._IS_CAPTURING
assert not communicator._IS_CAPTURING
communicator.close(); communicator.close()
assert communicator.disabled and not communicator.should_custom_ag(fits)
print("right")
"""

CROWD = """
from ccl_dispatch.tuner.shared_memory import ShmCommunicator
communicator = ShmCommunicator(dist.group.WORLD)
for step in range(300):
    gathered = communicator.all_gather_unreg(torch.full((64,), rank * 1000 + step))
    assert gathered.view(world_size, -1)[:, 5].tolist() == [peer * 1000 + step for peer in range(world_size)]
print("right")
"""

DESERTED = """
from ccl_dispatch.tuner.shared_memory import ShmCommunicator
communicator = ShmCommunicator(dist.group.WORLD, timeout=0.5)
if rank == 0:
    try:
        communicator.all_gather_unreg(torch.zeros(64))
    except TimeoutError:
        print("late", communicator.disabled, bool(communicator.disabled_reason))
"""


def test_takes_what_it_promises_and_refuses_the_rest() -> None:
    """Up to max_size / (2 x world size) it is right; past it, misaligned, empty or strided input is refused."""
    assert run_ranks(LIMITS, 2) == ["right\n"] * 2
    assert run_ranks(LIMITS, 4) == ["right\n"] * 4


def test_more_ranks_than_cores_make_progress() -> None:
    """Eight ranks, four times the cores of a small machine, finish 300 calls in time, each with the right data."""
    assert run_ranks(CROWD, 8, timeout=90) == ["right\n"] * 8


def test_a_rank_that_never_comes_is_noticed() -> None:
    """A call whose peer stays away ends with TimeoutError, and the communicator is disabled from then on."""
    assert run_ranks(DESERTED, 2) == ["late True True\n", ""]


def test_segments_have_no_name_in_any_file_system() -> None:
    """Nothing can be left behind by a killed process, because a segment never has a path."""
    from ccl_dispatch.tuner.shared_memory import Segment

    segment = Segment.create(4096)
    assert "memfd" in str(Path(f"/proc/self/fd/{segment.fd}").readlink())
    peer = Segment.open(segment.address)
    segment.map[100] = 7
    assert peer.map[100] == 7
    segment.close_fd()
    peer.close_fd()
