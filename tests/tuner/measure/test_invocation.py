"""What a region runs and times, for calls and for replays."""

from __future__ import annotations

import pytest

from ccl_dispatch.tuner.device import HostDevice
from ccl_dispatch.tuner.device.base import Call
from ccl_dispatch.tuner.measure.invocation import Eager, Replayed
from ccl_dispatch.tuner.measure.team import VirtualTeam


class Ticking(HostDevice):
    """A device whose marks read the team's clock; emptying the caches is written down."""

    def __init__(self, team: VirtualTeam, journal: list[str]) -> None:
        super().__init__(graphs=True)
        self._team = team
        self._journal = journal

    def mark(self) -> float:
        return self._team.clock()

    def flush(self) -> None:
        self._journal.append("flush")


class Graph:
    """Takes its time when it is replayed."""

    def __init__(self, team: VirtualTeam, journal: list[str], name: str, seconds: float) -> None:
        self._call = _call(team, journal, name, seconds)

    def replay(self) -> None:
        self._call()


def _call(team: VirtualTeam, journal: list[str], name: str, seconds: float) -> Call:
    def call() -> None:
        journal.append(name)
        team.advance(seconds)

    return call


def test_eager_calls_take_turns_with_their_buffers() -> None:
    """Regions rotate through the bound calls and go on where the last one ended; a single run takes the first."""
    team = VirtualTeam()
    journal: list[str] = []
    bound = [_call(team, journal, name, 1e-3) for name in "abc"]
    eager = Eager(Ticking(team, journal), bound, region_seconds=0.0)
    assert eager.region(team, 4) == pytest.approx(4e-3)
    assert eager.region(team, 1) == pytest.approx(1e-3)
    eager.run()
    assert journal == ["a", "b", "c", "a", "b", "a"]
    assert eager.executions(4) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_caches_are_emptied_before_a_region_and_not_timed(stream: bool) -> None:
    """A flush comes before the first call of a region, isolated or back to back, and costs the result nothing."""
    team = VirtualTeam()
    journal: list[str] = []
    eager = Eager(
        Ticking(team, journal), [_call(team, journal, "a", 1e-3)], region_seconds=0.0, stream=stream, flush=True
    )
    assert eager.region(team, 2) == pytest.approx(2e-3)
    assert journal == ["flush", "a", "a"]


def test_replays_are_timed_behind_an_aligning_one() -> None:
    """One aligning call, then the replays between two marks; its calls are counted, its time is not."""
    team = VirtualTeam()
    journal: list[str] = []
    graph, align = Graph(team, journal, "G", 8e-3), Graph(team, journal, "one", 1e-3)
    replayed = Replayed(Ticking(team, journal), graph, align, 8)
    assert replayed.region(team, 3) == pytest.approx(24e-3)
    assert journal == ["one", "G", "G", "G"]
    assert replayed.executions(3) == 3 * 8 + 1
    replayed.run()
    assert journal[-1] == "G"


def test_a_cold_replay_is_on_its_own() -> None:
    """With caches to be emptied each replay has a flush and an aligning call before it, outside of the marks."""
    team = VirtualTeam()
    journal: list[str] = []
    graph, align = Graph(team, journal, "G", 8e-3), Graph(team, journal, "one", 1e-3)
    replayed = Replayed(Ticking(team, journal), graph, align, 8, flush=True)
    assert replayed.region(team, 2) == pytest.approx(16e-3)
    assert journal == ["flush", "one", "G", "flush", "one", "G"]
    assert replayed.executions(2) == 2 * 8 + 2


def test_regions_are_as_long_as_the_device_needs() -> None:
    """Runs per region follow from the least length between two marks."""
    team = VirtualTeam()
    graph = Graph(team, [], "G", 0.0)
    replayed = Replayed(HostDevice(graphs=True), graph, graph, 8)
    assert replayed.runs(HostDevice.mark_seconds / 4.5) == 5
    assert replayed.runs(1.0) == 1
