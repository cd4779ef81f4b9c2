"""What is said about time: nonsense is told, and no rank leaves the agreement over it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
from made_tables import make_cell, make_table

from ccl_dispatch.runtime import install
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.switch import read_switch
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal


@pytest.mark.parametrize("found", ["half an hour", "0", "-1", "inf", "nan", "3601", "1" * 400])
def test_a_limit_that_is_none_is_told(found: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no number of seconds to wait for is taken as 30, with a bounded warning."""
    assert read_switch({"CCL_DISPATCH_TIMEOUT": found}).timeout == 30
    assert "expected seconds up to 3600; taken as 30" in caplog.text
    assert len(caplog.records[0].getMessage()) < 160


@pytest.mark.parametrize("timeout", [math.inf, math.nan, -1, "soon"])
def test_a_rank_whose_limit_is_nonsense_takes_part(timeout: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A rank that was given what is no number of seconds waits as the environment says, and ends where the other does:
    it raises nothing while the agreement goes on without it.
    """
    cell = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 16, [1024], ["aiter"])
    here = this_platform("cpu", {})
    table = make_table((cell,))._replace(candidates=("aiter",), provenance="measured", platform=here)
    store = dist.HashStore()

    def rank(number: int) -> str:
        group = SimpleNamespace(store=store, rank=number, world_size=2)
        communicator = SimpleNamespace(world_size=2, device="cpu", should_custom_ag=lambda inp: True)
        limit = timeout if number == 0 else 20.0
        return install(communicator, seal(table), group, timeout=limit, environ={}).state

    with ThreadPoolExecutor(2) as ranks:
        assert list(ranks.map(rank, range(2))) == ["table", "table"]
    assert "install's timeout is " in caplog.text


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """A block of YAML ends its text with a line's end."""
    switch = read_switch({"CCL_DISPATCH": "record\n", "CCL_DISPATCH_RECORD": "/calls\n", "CCL_DISPATCH_TIMEOUT": "5\n"})
    assert (switch.state, switch.folder, switch.timeout) == ("record", "/calls", 5.0)
