"""`show`: a table for the eye."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from ccl_dispatch.runtime.digest import document_of
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Band, CellTable, Table
from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.cli.options import add_json, print_json

EXAMPLE = "ccl-dispatch show runs/cpu/table.yaml"

_GREEN, _GREY, _RESET = "\x1b[32m", "\x1b[90m", "\x1b[0m"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    table = load_table(options.table)
    if options.json:
        print_json(document_of(table))
    else:
        print("\n".join(lines(table, colour=sys.stdout.isatty())))
    return 0


def lines(table: Table, *, colour: bool) -> Iterator[str]:
    """Header, then per cell one line for each band, what is excluded, and what is overridden."""
    platform = table.platform
    where = ", ".join(text for text in (platform.device, platform.architecture) if text) or "unknown platform"
    yield f"{table.name}: {' or '.join(table.candidates)} instead of {table.baseline}, {table.provenance} on {where}"
    if table.provenance != "measured":
        yield f"NOTE: these figures are {table.provenance}, not measured by this tool; no machine matches this table"
    yield (
        f"a candidate must gain {table.policy.min_gain:.1%} with {table.policy.confidence:.0%} confidence; "
        f"calls timed {table.policy.timing.replace('_', ' ')}"
    )
    for cell in table.cells:
        yield ""
        regret = "" if cell.regret_estimate is None else f"   estimated regret {cell.regret_estimate:.2%}"
        yield f"{cell.cell.name}{regret}"
        yield from _band_lines(table, cell, colour=colour)
        for tie in cell.ties:
            yield f"  tie: {tie.backend} at {_span(tie.low, tie.high)}"
        for item in cell.exclusions:
            yield f"  excluded: {item.backend} at {_span(item.low, item.high)}: {item.reason}, {item.detail}"
        for entry in cell.overrides:
            yield f"  exactly {short_size(entry.size)} (shape {list(entry.shape)}): {entry.use}, {_gain(entry.gain)}"
    yield ""
    yield f"outside these sizes and cells: {table.baseline}"


def _band_lines(table: Table, cell: CellTable, *, colour: bool) -> Iterator[str]:
    start = cell.measured_from
    width = max(len(name) for name in (table.baseline, *table.candidates))
    for band in cell.bands:
        use = f"{band.use:<{width}}"
        if colour:
            use = f"{_GREY if band.use == table.baseline else _GREEN}{use}{_RESET}"
        yield f"  {short_size(start):>12} .. {short_size(band.up_to):<12} {use}  {_evidence(band)}"
        start = band.up_to + 1


def _evidence(band: Band) -> str:
    counted = f"{band.points} points, {band.samples} samples"
    if band.gain is None or band.interval is None:
        return f"{band.why}; {counted}"
    low, high = band.interval
    return f"{band.why}: {_gain(band.gain)} against {band.against} [{_gain(low)}, {_gain(high)}], {counted}"


def _gain(gain: float) -> str:
    return f"{1 + gain:.2f}x" if gain >= 1 else f"{gain:+.1%}"


def _span(low: int, high: int) -> str:
    return short_size(low) if low == high else f"{short_size(low)} to {short_size(high)}"
