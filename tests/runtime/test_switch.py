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
from ccl_dispatch.runtime.switch import Switch, asks_strict, read_switch
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal


def test_what_is_not_set_is_as_documented(caplog: pytest.LogCaptureFixture) -> None:
    """On, no edited table, half a minute, a folder of its own; and so where a variable is set to blanks."""
    names = ("CCL_DISPATCH", "CCL_DISPATCH_EDITED", "CCL_DISPATCH_TIMEOUT", "CCL_DISPATCH_RECORD")
    for environment in ({}, dict.fromkeys(names, " ")):
        assert read_switch(environment) == Switch("on", "refuse", 30.0, "ccl-dispatch-record")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("state", "edited", "expected", "served"),
    [
        ("on", "warn", ("on", "warn"), "warn"),
        ("STRICT", "Warn", ("strict", "warn"), "refuse"),
        ("record", "refuse", ("record", "refuse"), "refuse"),
        ("off", "yes", ("off", "refuse"), "refuse"),
        ("yes", "warn", ("off", "warn"), "warn"),
    ],
)
def test_a_word_that_is_none_means_what_changes_least(
    state: str,
    edited: str,
    expected: tuple[str, str],
    served: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Off, and refuse, with one warning that lists the words; upper case is the same; strict serves no edited table."""
    switch = read_switch({"CCL_DISPATCH": state, "CCL_DISPATCH_EDITED": edited})
    assert (switch.state, switch.edited) == expected
    assert switch.served_edited == served
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == ("yes" in (state, edited))
    assert all(f"is 'yes', expected one of {'off, on' if state == 'yes' else 'refuse, warn'}" in line for line in told)
    monkeypatch.setenv("CCL_DISPATCH", state)
    assert asks_strict() == (expected[0] == "strict")


@pytest.mark.parametrize("found", ["3600", "0.001", " 5 "])
def test_any_number_of_seconds_up_to_an_hour_is_taken(found: str, caplog: pytest.LogCaptureFixture) -> None:
    """The ends included, and nothing is told of it."""
    assert read_switch({"CCL_DISPATCH_TIMEOUT": found}).timeout == float(found)
    assert caplog.text == ""


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
