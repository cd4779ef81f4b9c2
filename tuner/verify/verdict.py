"""What a verification comes to, cell by cell, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.sizes import span_text
from ccl_dispatch.tuner.verify.decisions import Choice, Cost
from ccl_dispatch.tuner.verify.drift import Shift

RIGHT, DRIFTED, WRONG, UNSURE = "still right", "drifted", "now wrong", "not sure"
# Only a proven change makes the answer a no; where there is no answer, measuring has failed to give one.
EXIT_CODES = {WRONG: 1, DRIFTED: 1, UNSURE: 3, RIGHT: 0}


@dataclass(frozen=True)
class Refusal:
    """Sizes from `low` to `high` at which a backend that the table uses can't be used any more, and why."""

    backend: str
    reason: str
    detail: str
    low: int
    high: int


@dataclass(frozen=True)
class CellVerdict:
    """One cell.

    Attributes:
        verdict: `still right`, `drifted`, `now wrong` or `not sure`.
        why: what the verdict rests on, in sentences; empty when all is as it was.
        cost: of keeping the table's choices; None when it could not be measured.
        wrong: choices that are proven to be slower than another backend by more than the tie band.
        refusals: where a backend that is used went wrong.
        shifts: proven changes against the reference.
        seen: the least change of the whole cell (a share: 0.1 is 10 % longer) that would have been seen in nine of ten
            runs; None without a reference.
        points, visits: sizes measured and visits of them.
    """

    cell: Cell
    verdict: str
    why: tuple[str, ...]
    cost: Cost | None
    wrong: tuple[Choice, ...]
    refusals: tuple[Refusal, ...]
    shifts: tuple[Shift, ...]
    seen: float | None
    points: int
    visits: int

    def to_json(self) -> dict[str, Any]:
        """As JSON data; log-ratios become shares (0.15 is 15 % longer)."""
        return {
            "cell": self.cell.name,
            "verdict": self.verdict,
            "why": list(self.why),
            "cost": None if self.cost is None else asdict(self.cost),
            "wrong": [
                {
                    "size": choice.place.size,
                    "use": choice.use,
                    "against": choice.against,
                    "slower": math.expm1(choice.lead),
                    "bounds": [math.expm1(choice.low), math.expm1(choice.high)],
                    "visits": choice.visits,
                }
                for choice in self.wrong
            ],
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "shifts": [
                {
                    "candidate": shift.candidate,
                    "low": shift.low,
                    "high": shift.high,
                    "change": math.expm1(shift.change),
                    "bounds": [math.expm1(bound) for bound in shift.bounds],
                    "baseline_change": _finite(math.expm1(shift.baseline_change)),
                    "candidate_change": _finite(math.expm1(shift.candidate_change)),
                }
                for shift in self.shifts
            ],
            "seen": self.seen,
            "points": self.points,
            "visits": self.visits,
        }


@dataclass(frozen=True)
class Verification:
    """A whole run.

    Attributes:
        table, digest: the file and what it says it is.
        differs: keys of the platform that are not the table's, as lines.
        config, reference: where how to measure and what to compare with came from.
        left_out: cells that could not be verified here, with the reason.
        random_sizes: per cell the sizes that were chosen at random with `seed`.
        set_aside: rounds that other work on the machine disturbed; measured, and not used unless nothing else is there.
        stopped_by: `settled`, or `seconds`.
    """

    table: str
    digest: str
    provenance: str
    differs: tuple[str, ...]
    config: str
    reference: str
    cells: tuple[CellVerdict, ...]
    left_out: tuple[tuple[Cell, str], ...]
    notes: tuple[str, ...]
    random_sizes: Mapping[Cell, tuple[int, ...]]
    seed: int
    worker_sets: int
    rounds: int
    set_aside: int
    seconds: float
    stopped_by: str

    @property
    def verdict(self) -> str:
        """The worst of the cells'."""
        found = {cell.verdict for cell in self.cells}
        return next((word for word in (WRONG, DRIFTED, UNSURE) if word in found), RIGHT)

    @property
    def exit_code(self) -> int:
        """0 still right; 1 drifted or wrong; 3 not sure."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "table": self.table,
            "digest": self.digest,
            "provenance": self.provenance,
            "verdict": self.verdict,
            "platform_differs": list(self.differs),
            "config": self.config,
            "reference": self.reference,
            "cells": [cell.to_json() for cell in self.cells],
            "left_out": [{"cell": cell.name, "reason": reason} for cell, reason in self.left_out],
            "notes": list(self.notes),
            "seed": self.seed,
            "random_sizes": {cell.name: list(sizes) for cell, sizes in self.random_sizes.items()},
            "worker_sets": self.worker_sets,
            "rounds": self.rounds,
            "rounds_set_aside": self.set_aside,
            "seconds": round(self.seconds, 3),
            "stopped_by": self.stopped_by,
        }

    def lines(self) -> Iterator[str]:
        """For people: what was compared, one line per cell with its reasons, and the verdict last."""
        yield f"{self.table} ({self.provenance}, {self.digest[:19]}), measured as {self.config}"
        yield f"reference: {self.reference}"
        if self.differs:
            yield "the platform is not the table's:"
            yield from (f"  {line}" for line in self.differs)
        yield from (f"note: {note}" for note in self.notes)
        random_sizes = "; ".join(
            f"{cell.name} {', '.join(map(short_size, sizes))}" for cell, sizes in self.random_sizes.items() if sizes
        )
        yield f"random sizes (--seed {self.seed}): {random_sizes or 'none'}"
        yield ""
        width = max((len(cell.cell.name) for cell in self.cells), default=0)
        for cell in self.cells:
            yield f"{cell.cell.name:<{width}}  {cell.verdict:<11}  {_cost_text(cell)}{_seen_text(cell)}"
            yield from (f"    {reason}" for reason in cell.why)
        for left_out, reason in self.left_out:
            yield f"{left_out.name}: not verified: {reason}"
        yield ""
        yield self.last_line()

    def last_line(self) -> str:
        """The verdict in one line."""
        counts = {word: sum(cell.verdict == word for cell in self.cells) for word in EXIT_CODES}
        told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        effort = f"{counted(self.worker_sets, 'set')} of workers, {counted(self.rounds, 'round')}, {self.seconds:.0f} s"
        aside = f", {counted(self.set_aside, 'round')} set aside because the machine was busy" if self.set_aside else ""
        return f"{self.verdict}: of {counted(len(self.cells), 'cell')} {told} ({effort}{aside})"


def shift_text(shift: Shift) -> str:
    """A proven change in a sentence."""
    low, high = sorted(math.exp(bound) for bound in shift.bounds)
    alone = ", ".join(
        f"{name} {math.expm1(value):+.0%}"
        for name, value in (("the baseline", shift.baseline_change), (shift.candidate, shift.candidate_change))
        if math.isfinite(value)
    )
    across = f", as in {len(shift.cells)} cells together" if len(shift.cells) > 1 else ""
    return (
        f"against the baseline, {shift.candidate} takes {math.exp(shift.change):.3g} times [{low:.3g}, {high:.3g}] as "
        f"long as in the reference, at {span_text(shift.low, shift.high)}{across} (time of each alone: {alone})"
    )


def choice_text(choice: Choice) -> str:
    """A wrong choice in a sentence."""
    return (
        f"at {short_size(choice.place.size)} {choice.use} is {math.expm1(choice.lead):.1%} slower than "
        f"{choice.against} [{math.expm1(choice.low):.1%}, {math.expm1(choice.high):.1%}]"
    )


def refusal_text(refusal: Refusal) -> str:
    """A backend that went wrong in a sentence."""
    where = span_text(refusal.low, refusal.high)
    return f"{refusal.backend} can't be used at {where} any more: {refusal.reason}, {refusal.detail}"


def worst_first(choices: Sequence[Choice], most: int = 3) -> list[Choice]:
    """The choices that cost the most, few enough to read."""
    return sorted(choices, key=lambda choice: -choice.low)[:most]


def _cost_text(cell: CellVerdict) -> str:
    if cell.cost is None:
        return "no candidate could be timed" if cell.visits else "the time was up before its turn"
    return f"keeping it costs {cell.cost.mean:.2%} [{cell.cost.low:.2%}, {cell.cost.high:.2%}]"


def _seen_text(cell: CellVerdict) -> str:
    return "" if cell.seen is None else f", changes from {cell.seen:.0%} on would be seen"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
