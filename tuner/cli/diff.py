"""`diff`: two tables by what they decide."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from ccl_dispatch.runtime.errors import TableError, UsageError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted, full_size, gain_texts, short_size
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.cli.terminal import is_coloured, painted
from ccl_dispatch.tuner.emit.compare import Change, Comparison, Evidence, compare
from ccl_dispatch.tuner.sizes import span_text, start_text

EXAMPLE = "ccl-dispatch diff shipped.yaml new.yaml"
NO = "the tables decide some calls otherwise"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("a", metavar="A", help="the table that is used now")
    parser.add_argument("b", metavar="B", help="the table that would be used instead")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print which calls change backend; 1 when some do, 0 when all are decided alike, 2 without two tables."""
    try:
        a, b = load_table(options.a), load_table(options.b)
    except TableError as problem:
        # 1 says that decisions differ; whoever asks by exit code must not take a missing file for that.
        raise UsageError(str(problem)) from problem
    comparison = compare(a, b)
    if options.json:
        print_json({"a": _head(options.a, a), "b": _head(options.b, b), **comparison.to_json()})
    else:
        print("\n".join(lines(options.a, a, options.b, b, comparison, colour=is_coloured())))
    return 1 if comparison.changes else 0


def _head(path: str, table: Table) -> dict[str, str]:
    return {"file": path, "name": table.name, "digest": table.digest}


def lines(
    path_a: str, a: Table, path_b: str, b: Table, comparison: Comparison, *, colour: bool = False
) -> Iterator[str]:
    """The comparison for a reader: first the answer, then the calls that change, then what else is different."""
    yield f"A  {path_a}: {a.name}, {a.provenance}, {a.digest[:19]}"
    yield f"B  {path_b}: {b.name}, {b.provenance}, {b.digest[:19]}"
    yield ""
    cells = len({change.cell for change in comparison.changes if change.cell})
    if comparison.changes:
        changed, measured = comparison.octaves
        yield (
            f"B decides otherwise in {cells} of {len({cell.cell for cell in (*a.cells, *b.cells)})} cells, over "
            f"{changed:.1f} of {measured:.1f} octaves that either table measured"
        )
    elif comparison.same_digest:
        yield "the same table: every call is decided alike, on the same evidence"
    else:
        yield "every call is decided alike; the evidence differs"
    for cell, changes in groupby(comparison.changes, key=lambda change: change.cell):
        yield ""
        yield cell.name if cell else "every cell that is in neither table"
        # An exact size that is decided alike parts what is one change to a reader.
        told = [(change, tuple(_told(change, colour=colour))) for change in changes]
        for (uses, below), alike in groupby(told, key=lambda item: (f"{item[0].before} -> {item[0].after}", item[1])):
            runs = [change for change, _ in alike]
            yield f"  {_sizes(runs[0].low, runs[-1].high):<24} {uses}{_but(runs)}"
            yield from below
    if comparison.differences or comparison.only_a or comparison.only_b:
        yield ""
    for difference in comparison.differences:
        yield f"{difference.key}: {difference.a or 'unknown'} -> {difference.b or 'unknown'}"
    for cell in comparison.only_a:
        yield f"only in A: {cell.name}"
    for cell in comparison.only_b:
        yield f"only in B: {cell.name}"


def _sizes(low: int, high: int | None) -> str:
    if high == low:
        return f"exactly {short_size(low)}"
    if high is None:
        return "all sizes" if low == 1 else f"{start_text(low)} and above"
    return f"{start_text(low)} .. {short_size(high)}"


def _but(runs: Sequence[Change]) -> str:
    """The sizes between neighbouring runs, which no table decides otherwise."""
    gaps = [(first.high + 1, second.low - 1) for first, second in pairwise(runs) if first.high is not None]
    return f", but not {' or '.join(_sizes(low, high) for low, high in gaps)}" if gaps else ""


def _told(change: Change, *, colour: bool) -> Iterator[str]:
    if change.crossover is not None:
        yield f"    where a crossover may lie ({span_text(*change.crossover)}): the two are about equal here"
    if change.exclusion is not None:
        border = change.exclusion
        between = f"somewhere between {full_size(border.low)} and {full_size(border.high)}"
        where = f"from {between} on: where that begins" if border.upwards else f"up to {between}: where that ends"
        yield f"    {border.table.upper()} excludes {border.backend} {where} is not known more exactly"
    for label, found in (("A", change.by_a), ("B", change.by_b)):
        if not found:
            yield f"    by {label}: not measured there"
        for item in found:
            where = f"{start_text(item.low)} .. {short_size(item.high)}: " if len(found) > 1 else ""
            yield f"    by {label}: {where}{_evidence(item, change, colour=colour)}"


def _inverse(gain: float) -> float:
    """The gain of the other one. Rounded, as it may be the second time: the figure is to be the table's again."""
    return round(1 / (1 + gain) - 1, 12)


def _evidence(item: Evidence, change: Change, *, colour: bool) -> str:
    if item.gain is None:
        return f"{change.before} and {change.after} were not compared ({item.reason})"
    # A cost is told as what the calls will take longer, T(after)/T(before) - 1, and so are its bounds.
    gains = item.gain > 0
    values = (item.gain, *(item.interval or ()))
    figure, *bounds = gain_texts(*(values if gains else [_inverse(value) for value in values]))
    text = painted(
        f"{'gains' if gains else 'costs'} {figure.lstrip('+')}", ("green" if gains else "red") if colour else ""
    )
    where = (
        "" if item.why == "override" else f" over its band {start_text(item.band_low)} .. {short_size(item.band_high)}"
    )
    if not bounds:
        return f"{text}{where}, without an interval ({item.reason}, {counted(item.samples, 'sample')})"
    low, high = bounds if gains else reversed(bounds)
    if not low.startswith("-"):
        low, high = low.lstrip("+"), high.lstrip("+")
    return f"{text}{where}, between {low} and {high} ({item.reason}, {counted(item.samples, 'sample')})"
