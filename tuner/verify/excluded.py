"""Where the table excludes a candidate: whatever it shows there now, the table is not wrong for leaving it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ccl_dispatch.runtime.table import CellTable
from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.verify.visits import Place, Visit

Excluded = Callable[[Place, str], bool]

# So many sizes are named in a note.
_NAMED = 3


def excluded_by(cells: Sequence[CellTable]) -> Excluded:
    """Whether the table excludes a candidate at a place: where it was measured and not right, and in between.

    How far an exclusion reaches between measured sizes is told by bands, where every candidate is excluded; of one
    among several only the measured sizes are known.
    """
    tables = {entry.cell: entry for entry in cells}

    def excluded(place: Place, name: str) -> bool:
        entry = tables[place.cell]
        if any(item.backend == name and item.low <= place.size <= item.high for item in entry.exclusions):
            return True
        band = next((band for band in entry.bands if place.size <= band.up_to), None)
        own = any(item.size == place.size and item.use == name for item in entry.overrides)
        return band is not None and band.why == "excluded" and not own

    return excluded


def without_excluded(
    visits: Mapping[Place, Sequence[Visit]], candidates: Sequence[str], excluded: Excluded
) -> dict[Place, Sequence[Visit]]:
    """The visits with nothing of candidates where they are excluded."""
    kept: dict[Place, Sequence[Visit]] = {}
    for place, own in visits.items():
        out = {name for name in candidates if excluded(place, name)}
        kept[place] = [
            replace(
                visit,
                levels={name: level for name, level in visit.levels.items() if name not in out},
                ratios={name: ratio for name, ratio in visit.ratios.items() if name not in out},
            )
            for visit in own
        ]
    return kept


def right_again(results: Sequence[PointResult], candidates: Sequence[str], excluded: Excluded) -> Iterator[str]:
    """Notes on candidates that were timed now wherever they were tried at a size at which they are excluded."""
    right: dict[tuple[Cell, str], dict[int, bool]] = {}
    for result in results:
        for name in candidates:
            if excluded(Place(result.cell, result.size), name):
                own = right.setdefault((result.cell, name), {})
                own[result.size] = own.get(result.size, True) and bool(result.latencies_us.get(name))
    for (cell, name), own in sorted(right.items()):
        sizes = [short_size(size) for size in sorted(own) if own[size]]
        more = f" and {counted(len(sizes) - _NAMED, 'more size')}" if len(sizes) > _NAMED else ""
        if sizes:
            yield (
                f"{cell.name}: {name}, which the table excludes there, was right at {', '.join(sizes[:_NAMED])}{more}; "
                "a new sweep would use it where it is faster"
            )
