"""What no table can answer: the baseline and one warning; in strict mode an error."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from made_tables import BASELINE, make_cell, make_table

from ccl_dispatch.runtime import mistakes
from ccl_dispatch.runtime.dispatch import Dispatcher
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.vocabulary import Cell

CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)
TABLE = make_table((make_cell(CELL, 16, [1024], ["aiter"]),))

# What is asked, and what is told of it.
MISTAKES: dict[str, tuple[Callable[[Callable[..., Dispatcher]], str], str]] = {
    "collective": (lambda ask: ask("allgather", 4).select(64), "no collective 'allgather'. Did you mean 'all_gather'?"),
    "world size": (lambda ask: ask("all_gather", "4").select(64), "world_size is '4', a str: expected a whole number"),
    "dtype": (lambda ask: ask("all_gather", 4).select(64, "bf16"), "no dtype 'bf16'. Did you mean 'bfloat16'?"),
    "bound dtype": (lambda ask: ask("all_gather", 4).bind("fp16")(64), "no dtype 'fp16'. Did you mean 'float16'?"),
    "case": (lambda ask: ask("all_gather", 4).select(64, "BFloat16"), "'BFloat16'. Did you mean 'bfloat16'?"),
    "mode": (lambda ask: ask("all_gather", 4).select(64, mode="eagre"), "no mode 'eagre'. Did you mean 'eager'?"),
    "bound mode": (lambda ask: ask("all_gather", 4).bind(mode="grph")(64), "no mode 'grph'. Did you mean 'graph'?"),
    "dim": (lambda ask: ask("all_gather", 4).select(64, dim="lst"), "no dim 'lst'. Did you mean 'last'?"),
    "size": (lambda ask: ask("all_gather", 4).select(64.5), "size is 64.5, a float: expected a whole number"),  # type: ignore[arg-type]
    "bound size": (lambda ask: ask("all_gather", 4).bind()(65.5), "size is 65.5, a float: expected a whole number"),  # type: ignore[arg-type]
    "text as size": (lambda ask: ask("all_gather", 4).bind()("64"), "size is '64', a str: expected a whole number"),  # type: ignore[arg-type]
    "list as size": (lambda ask: ask("all_gather", 4).select([64]), "size is [64], a list: expected a whole number"),  # type: ignore[arg-type]
    "size in no cell": (lambda ask: ask("all_gather", 4).select("63", "float32"), "size is '63', a str"),  # type: ignore[arg-type]
    "bound size in no cell": (lambda ask: ask("all_gather", 4).bind("float32")("62"), "size is '62', a str"),  # type: ignore[arg-type]
    "no word at all": (lambda ask: ask("all_gather", 4).bind(mode=["eager"])(64), "no mode ['eager']"),  # type: ignore[arg-type]
    "no number": (lambda ask: ask("all_gather", 4).bind()(float("nan")), "size is nan, a float"),  # type: ignore[arg-type]
}


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(mistakes, "_told", set())
    monkeypatch.delenv("CCL_DISPATCH", raising=False)


@pytest.mark.parametrize(("ask", "words"), MISTAKES.values(), ids=list(MISTAKES))
def test_the_baseline_answers_and_it_is_told_once(
    ask: Callable[[Callable[..., Dispatcher]], str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is asked, there is one warning, of the runtime's own logger, with what was found."""
    with caplog.at_level(logging.WARNING):
        assert [ask(TABLE.dispatcher) for _ in range(3)] == [BASELINE] * 3
    assert [record.name for record in caplog.records] == ["ccl_dispatch"]
    assert words in caplog.text
    assert "Such calls use the baseline" in caplog.text


@pytest.mark.parametrize(("ask", "words"), MISTAKES.values(), ids=list(MISTAKES))
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_strict_raises(
    ask: Callable[[Callable[..., Dispatcher]], str], words: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time, with the same words."""
    if by == "environment":
        monkeypatch.setenv("CCL_DISPATCH", "strict")

    def dispatcher(collective: str, world_size: int) -> Dispatcher:
        return TABLE.dispatcher(collective, world_size, strict=by == "argument")

    for _ in range(2):
        with pytest.raises(UsageError) as problem:
            ask(dispatcher)
        assert words in str(problem.value)


def test_what_is_merely_not_in_the_table_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """Another collective, dtype, mode, dim, world size or size that exists gives the baseline without a word."""
    with caplog.at_level(logging.WARNING):
        assert TABLE.dispatcher("all_reduce", 4, strict=True).select(64) == BASELINE
        assert TABLE.dispatcher("all_gather", 5, strict=True).select(64) == BASELINE
        here = TABLE.dispatcher("all_gather", 4, strict=True)
        for dtype in ("float32", torch.float32, torch.complex64):
            assert here.select(64, dtype) == here.bind(dtype)(64) == BASELINE
        assert here.select(64, mode="graph", dim="last") == here.bind(mode="graph")(64) == BASELINE
        assert here.select(-1) == here.select(1 << 40) == BASELINE
    assert not caplog.records


@pytest.mark.parametrize("first", [64, 64.0])
def test_a_whole_number_is_itself_in_whatever_type(first: float) -> None:
    """64.0 is 64, whichever of the two is asked first: an answer never hangs on what was asked before."""
    use = TABLE.dispatcher("all_gather", 4).bind()
    select = TABLE.dispatcher("all_gather", 4).select
    for size in (first, 64, 64.0):
        assert use(size) == select(size) == "aiter"  # type: ignore[arg-type]


def test_a_process_that_asks_anything_is_told_no_more_than_a_hundred(caplog: pytest.LogCaptureFixture) -> None:
    """What is kept of mistakes is bounded."""
    use = TABLE.dispatcher("all_gather", 4).bind()
    with caplog.at_level(logging.WARNING):
        for step in range(300):
            use(step + 0.5)  # type: ignore[arg-type]
    assert len(caplog.records) == len(mistakes._told) == 100


def test_a_world_size_is_a_whole_number_in_whatever_type(caplog: pytest.LogCaptureFixture) -> None:
    """4.0 ranks are 4, without a word; 4.5 are none, and the baseline answers as the warning says."""
    assert Dispatcher(TABLE, "all_gather", 4.0).select(64) == "aiter"  # type: ignore[arg-type]
    assert not caplog.records
    assert Dispatcher(TABLE, "all_gather", 4.5).select(64) == BASELINE  # type: ignore[arg-type]
    assert "world_size is 4.5" in caplog.text
