"""What a decision costs in a serving process, beside what it stands in for, in one run.

    python benchmarks/lookup.py

Everything is timed in turns, round after round, and the least of the rounds counts, so that a machine that changes
speed or has other work changes all of them alike. Ends with exit code 1 when a ratio misses what is wanted of it.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from runtime_import import machine

from ccl_dispatch.runtime import capacity
from ccl_dispatch.runtime.predicate import Modes, make_predicate
from ccl_dispatch.runtime.table import Band, CellTable, Platform, Policy, Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal

ROUNDS, CALLS = 25, 20_000
DTYPE, MODE, RANKS = "bfloat16", "eager", 8
LONGEST = 1 << 24

# Ratio: what is wanted at most. Names are those of `measure`.
WANTED = {
    ("bind", "dict.get"): 2.5,
    ("bind, 64 bands", "dict.get"): 2.5,
    ("select", "dict.get"): 6.0,
    ("select, 200 cells, 64 bands", "dict.get"): 6.0,
    ("installed, baseline below", "plain check"): 0.75,
    ("installed, baseline between bands", "plain check"): 0.75,
    ("installed, other dtype", "plain check"): 0.75,
    ("installed, AITER", "plain check"): 1.25,
    ("installed, AITER between bands", "plain check"): 1.25,
}
# The same question of a table of one cell and one band, and of 200 cells of 64 bands each.
FLAT = 1.5


def is_weak_contiguous(inp: torch.Tensor) -> bool:
    """Contiguous, or the whole rest of its storage."""
    return inp.is_contiguous() or (
        inp.untyped_storage().nbytes() - inp.storage_offset() * inp.element_size() == inp.numel() * inp.element_size()
    )


class PlainCheck:
    """The arithmetic of a capacity check as AITER's communicator has it, operation by operation."""

    def __init__(self) -> None:
        self.disabled, self._IS_CAPTURING, self.fully_connected = False, False, True
        self.world_size, self.max_size = RANKS, 1 << 30
        self.device = "cpu"

    def should_custom_ag(self, inp: torch.Tensor) -> bool:
        """Whether `inp` fits, not whether it is faster."""
        if self.disabled:
            return False
        size = inp.numel() * inp.element_size()
        if size % 16 != 0:
            return False
        if not is_weak_contiguous(inp):
            return False
        if self.world_size == 2 or self.fully_connected:
            return size <= (self.max_size / (self.world_size * 2))
        return False


class Bounds(NamedTuple):
    """A band as a linear scan reads it."""

    low: int
    high: int
    use: str


def scan(bands: tuple[Bounds, ...], size: int) -> str:
    """The band of `size`, from the first on."""
    for band in bands:
        if band.low <= size <= band.high:
            return band.use
    return "rccl"


def table_of(cells: int, bands: int) -> Table:
    """A table for timing alone: its figures are made up."""
    edges = [4096 + LONGEST * step // bands // 16 * 16 for step in range(1, bands + 1)]
    runs = tuple(
        Band(edge, ("aiter", "rccl")[step % 2], "faster" if step % 2 == 0 else "tie", None, None, None, 3, 30)
        for step, edge in enumerate(edges)
    )
    runs = tuple(band._replace(against="rccl", gain=0.5) if band.use == "aiter" else band for band in runs)
    names = [Cell("all_gather", MODE, "first", DTYPE, RANKS)]
    names += [Cell("all_gather", MODE, "first", "float16", RANKS + step) for step in range(1, cells)]
    found = tuple(CellTable(name, 1024, runs[-1].up_to, runs, (), (), (), (), None) for name in names)
    platform = Platform("cpu", "made up", "made up", 8, "", {}, {})
    policy = Policy(0.03, 0.95, "isolated")
    return seal(Table("made-up", "benchmark", "replayed", "rccl", ("aiter",), platform, policy, found, {}, "", ""))


def installed(table: Table, *, inlined: bool) -> Callable[[Any], bool]:
    """The predicate that `install` would put in the place of the plain check."""
    check = PlainCheck().should_custom_ag
    known = capacity.AITER_CHECKS
    if inlined:
        digest = capacity.code_digest
        own = f"{digest(PlainCheck.should_custom_ag)}/{digest(is_weak_contiguous)}"
        capacity.AITER_CHECKS = frozenset((own,))
    try:
        return make_predicate(check.__self__, check, table, "aiter", RANKS, Modes("graph"))[0]  # type: ignore[attr-defined]
    finally:
        capacity.AITER_CHECKS = known


def questions() -> dict[str, tuple[Any, ...]]:
    """By name, a callable and its arguments."""
    one, many = table_of(1, 1), table_of(200, 64)
    small, middle = torch.zeros(8, dtype=torch.bfloat16), torch.zeros(4, 32320, dtype=torch.bfloat16)
    size = middle.nbytes
    few = (Bounds(0, 4096, "rccl"), Bounds(4097, 65536, "aiter"), Bounds(65537, 1 << 26, "rccl"))
    edges = tuple(range(0, 64 << 12, 1 << 12))
    known = dict.fromkeys(range(0, 1 << 20, 4096), "aiter") | {size: "aiter"}
    dispatcher, wide = one.dispatcher("all_gather", RANKS), many.dispatcher("all_gather", RANKS)
    lookup = wide.bind(DTYPE, MODE)
    # The nearest sizes of the wide table that are the baseline's and the candidate's, inside of its many bands.
    steps = range(size, LONGEST, 4096)
    hole, held = (
        torch.zeros(next(step for step in steps if lookup(step) == use) // 2, dtype=torch.bfloat16)
        for use in ("rccl", "aiter")
    )
    predicate, crowded = installed(one, inlined=True), installed(many, inlined=True)
    if (predicate(small), predicate(middle), crowded(hole), crowded(held)) != (False, True, False, True):
        raise RuntimeError("the tables of this benchmark do not say what their names say")
    return {
        "dict.get": (known.get, size),
        "bisect": (bisect_left, edges, size),
        "linear scan of 3 bands": (scan, few, size),
        "bind": (dispatcher.bind(DTYPE, MODE), size),
        "bind, 64 bands": (lookup, size),
        "select": (dispatcher.select, size, torch.bfloat16, MODE),
        "select, 200 cells, 64 bands": (wide.select, size, torch.bfloat16, MODE),
        "plain check": (PlainCheck().should_custom_ag, middle),
        "installed, baseline below": (predicate, small),
        "installed, baseline between bands": (crowded, hole),
        "installed, other dtype": (predicate, middle.float()),
        "installed, AITER": (predicate, middle),
        "installed, AITER between bands": (crowded, held),
        "installed, AITER, check unknown": (installed(one, inlined=False), middle),
    }


def measure(asked: Mapping[str, tuple[Any, ...]]) -> dict[str, float]:
    """Nanoseconds per call, the loop itself taken off."""
    best = dict.fromkeys(asked, float("inf"))
    empty = float("inf")
    for _ in range(ROUNDS):
        empty = min(empty, _loop())
        for name, (function, *arguments) in asked.items():
            best[name] = min(best[name], _ASK[len(arguments)](function, *arguments))
    return {name: (seconds - empty) / CALLS * 1e9 for name, seconds in best.items()}


def _loop() -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        pass
    return time.perf_counter() - start


def _ask_one(function: Callable[[Any], Any], first: Any) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function(first)
    return time.perf_counter() - start


def _ask_two(function: Callable[[Any, Any], Any], first: Any, second: Any) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function(first, second)
    return time.perf_counter() - start


def _ask_three(function: Callable[[Any, Any, Any], Any], first: Any, second: Any, third: Any) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function(first, second, third)
    return time.perf_counter() - start


_ASK: dict[int, Callable[..., float]] = {1: _ask_one, 2: _ask_two, 3: _ask_three}


def grows(predicate: Callable[[Any], bool]) -> int:
    """Bytes that are held after a hundred thousand decisions of a thousand sizes more than before."""
    tensors = [torch.zeros(8 * step, dtype=torch.bfloat16) for step in range(1, 1001)]
    for tensor in tensors:
        predicate(tensor)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        for tensor in tensors:
            predicate(tensor)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held


def main() -> int:
    """Measure, print, judge."""
    print(f"machine: {machine()}, torch {torch.__version__}")
    asked = questions()
    found = measure(asked)
    for name, nanoseconds in found.items():
        print(f"  {name:36s} {nanoseconds:7.1f} ns")
    missed = False
    for (name, peer), most in WANTED.items():
        ratio = found[name] / found[peer]
        missed |= ratio > most
        print(f"{name} / {peer}: {ratio:.2f} (at most {most:g}){' MISSED' if ratio > most else ''}")
    for name, peer in (
        ("select, 200 cells, 64 bands", "select"),
        ("installed, AITER between bands", "installed, AITER"),
    ):
        ratio = found[name] / found[peer]
        missed |= ratio > FLAT
        print(f"flat: {name} / {peer}: {ratio:.2f} (at most {FLAT:g}){' MISSED' if ratio > FLAT else ''}")
    held = grows(asked["installed, AITER between bands"][0])
    missed |= held > 4096
    print(f"held after 100,000 decisions: {held} bytes more than before")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
