"""`show`: a table for the eye. One line per cell, along which the backends stand between the sizes that part them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import groupby

from ccl_dispatch.runtime.digest import document_of
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Band, CellTable, Table
from ccl_dispatch.runtime.units import counted, gain_text, gain_texts, percent, short_size
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.cli.terminal import Line, columns, is_coloured
from ccl_dispatch.tuner.evidence.disturbed import disturbed_in_words
from ccl_dispatch.tuner.evidence.faults import faults_of
from ccl_dispatch.tuner.evidence.ranks import slow_ranks_of
from ccl_dispatch.tuner.palette import terminal_colour
from ccl_dispatch.tuner.sizes import exact_span, span_text

EXAMPLE = "ccl-dispatch show runs/cpu/table.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE", help="a table file")
    parser.add_argument(
        "--details",
        action="store_true",
        help="one line per band: intervals, samples, ties, exclusions, overrides; faults, with logs",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    table = load_table(options.table)
    if options.json:
        print_json(document_of(table))
        return 0
    colour = is_coloured()
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    width = columns()
    found = details(table, width=width) if options.details else overview(table, width=width, unicode=unicode)
    print("\n".join(line.text(colour=colour) for line in found))
    return 0


def overview(table: Table, *, width: int = 0, unicode: bool = True) -> Iterator[Line]:
    """Header, then one line per cell in at most `width` columns (0: as wide as it must be), the cells' family above."""
    yield from _header(table)
    labels = {cell.cell: f"{cell.cell.dtype} ws{cell.cell.world_size}" for cell in table.cells}
    widest = max(map(len, labels.values()), default=0)
    for (collective, mode, dim), family in groupby(table.cells, key=lambda cell: cell.cell[:3]):
        yield Line()
        yield Line.of(f"{collective}, {mode}, {dim} dim")
        for cell in family:
            yield _cell_line(table, cell, f"  {labels[cell.cell]:<{widest}}  ", width, " ─ " if unicode else " - ")
    yield Line()
    yield Line.of(f"outside these sizes and cells: {table.baseline}")
    if count := sum(group.times for group in faults_of(table)):
        yield Line.of(f"{counted(count, 'fault')} while measuring (--details)", "yellow")
    yield from _slow_lines(table)


def _slow_lines(table: Table) -> Iterator[Line]:
    yield from (Line.of(f"a slow rank: {item.text()}", "yellow") for item in slow_ranks_of(table))
    if disturbed := disturbed_in_words(table):
        yield Line.of(disturbed, "yellow")


def _cell_line(table: Table, cell: CellTable, label: str, width: int, between: str) -> Line:
    """The fullest of several forms that fits: with gains and notes, without notes, without gains, the ends alone."""
    ends = [cell.measured_from, *(band.up_to for band in cell.bands)]
    notes = [] if cell.regret_estimate is None else [f"regret {cell.regret_estimate:.2%}"]
    notes += [
        counted(len(items), name)
        for items, name in ((cell.exclusions, "exclusion"), (cell.overrides, "override"))
        if items
    ]
    end = f"   {', '.join(notes)}" if notes else ""
    line = Line()
    for gains, tail in ((True, end), (True, ""), (False, "")):
        line = Line.of(label).plus(short_size(ends[0]))
        for band, up_to in zip(cell.bands, ends[1:], strict=True):
            use = band.use + (_suffix(band) if gains else "")
            line = line.plus(between).plus(use, _colour(table, band.use)).plus(f"{between}{short_size(up_to)}")
        line = line.plus(tail, "grey")
        if not width or len(line) <= width:
            return line
    forms = [line]
    for more in (f"{len(cell.bands)} bands (--details)", f"{len(cell.bands)} bands"):
        ends_alone = Line.of(label).plus(f"{short_size(ends[0])}{between}").plus(more, "yellow")
        forms.append(ends_alone.plus(f"{between}{short_size(ends[-1])}"))
    return next((form for form in forms if len(form) <= width), min(forms, key=len))


def _suffix(band: Band) -> str:
    if band.why == "excluded":
        return " (excluded)"
    if band.why == "tie" or band.gain is None:
        return ""
    return f" {gain_text(band.gain)}" + (" likely" if band.why == "likely" else "")


def details(table: Table, *, width: int = 0) -> Iterator[Line]:
    """Header, then per cell one line for each band, what is excluded, and what is overridden.

    A band that needs more than `width` columns (0: as wide as it must be) has its interval and effort on a second line.
    """
    yield from _header(table)
    faults = faults_of(table)
    for cell in table.cells:
        yield Line()
        regret = "" if cell.regret_estimate is None else f"   estimated regret {cell.regret_estimate:.2%}"
        yield Line.of(f"{cell.cell.name}{regret}")
        yield from _band_lines(table, cell, width)
        for tie in cell.ties:
            yield Line.of(f"  tie: {tie.backend} at {span_text(tie.low, tie.high)}")
        for item in cell.exclusions:
            yield Line.of(
                f"  excluded: {item.backend} at {exact_span(item.low, item.high)}: {item.reason}, {item.detail}"
            )
        for entry in cell.overrides:
            what = f"  exactly {short_size(entry.size)} (shape {list(entry.shape)}): "
            yield Line.of(what).plus(entry.use, _colour(table, entry.use)).plus(f", {gain_text(entry.gain)}")
        for group in faults:
            if group.cell == cell.cell.name:
                first, *log = group.lines("  fault: ")
                yield Line.of(first, "yellow")
                yield from (Line.of(line, "grey") for line in log)
    yield Line()
    yield Line.of(f"outside these sizes and cells: {table.baseline}")
    yield from _slow_lines(table)


def _header(table: Table) -> Iterator[Line]:
    platform = table.platform
    where = ", ".join(text for text in (platform.device, platform.architecture) if text) or "unknown platform"
    instead = f"{' or '.join(table.candidates)} instead of {table.baseline}"
    yield Line.of(f"{table.name}: {instead}, {table.provenance} on {where}")
    if table.provenance != "measured":
        note = f"NOTE: these figures are {table.provenance}, not measured by this tool; no machine matches this table"
        yield Line.of(note, "yellow")
    yield Line.of(
        f"a candidate must gain {percent(table.policy.min_gain)} with {percent(table.policy.confidence)} confidence; "
        f"calls timed {table.policy.timing.replace('_', ' ')}"
    )


def _colour(table: Table, use: str) -> str:
    return terminal_colour((table.baseline, *table.candidates), use)


def _band_lines(table: Table, cell: CellTable, most: int) -> Iterator[Line]:
    # A band begins one byte after the last one's end, and reads as that: one edge, one text.
    start = cell.measured_from
    width = max(len(name) for name in (table.baseline, *table.candidates))
    for band in cell.bands:
        sizes = f"  {short_size(start):>12} .. {short_size(band.up_to):<12} "
        head = Line.of(sizes).plus(f"{band.use:<{width}}", _colour(table, band.use)).plus("  ")
        claim, between, rest = _evidence(band, table)
        whole = head.plus(f"{claim}{between}{rest}")
        if not most or len(whole) <= most:
            yield whole
        else:
            yield head.plus(claim)
            # Below the claim, or further to the left where names are long.
            yield Line.of(f"{'':{max(min(len(head), most - len(rest)), 4)}}{rest}")
        start = band.up_to


def _evidence(band: Band, table: Table) -> tuple[str, str, str]:
    """What is claimed of a band, what stands between, and what that rests on."""
    why = band.reason(table.policy.min_gain)
    effort = f"{counted(band.points, 'point')}, {counted(band.samples, 'sample')}"
    if band.gain is None or band.interval is None:
        return why, "; ", effort
    gain, low, high = gain_texts(band.gain, *band.interval)
    return f"{why}: {gain} against {band.against}", " ", f"[{low}, {high}], {effort}"
