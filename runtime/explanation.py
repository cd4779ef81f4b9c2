"""One decision with its reasons: the cell, the band, the evidence, and what would change the answer."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, NamedTuple

from ccl_dispatch.runtime.dispatch import compile_cell
from ccl_dispatch.runtime.table import Band, CellTable, Crossover, Exclusion, Override, Table
from ccl_dispatch.runtime.units import counted, full_size, gain_text, gain_texts, percent, short_size
from ccl_dispatch.runtime.vocabulary import Cell, dtype_name


class Explanation(NamedTuple):
    """Why a call uses `use`. Sizes are per-rank input bytes.

    Attributes:
        use: the backend that the dispatcher names.
        reason: one sentence: what the choice rests on.
        cell: the cell that the call belongs to, whether the table has it or not.
        measured: the sizes that the table measured in this cell, None when it has no such cell.
        band_from: the smallest size of `band`.
        band: the band that the size lies in, None outside the measured range.
        override: the exact size's own choice, which goes before the band's.
        crossover: the crossover whose interval the size lies in: there the choice matters little.
        exclusions: backends that may not be used at this size, and why.
        changes: what would change the answer, as sentences.
        min_gain: what the table's policy asks of a candidate.
    """

    use: str
    reason: str
    size: int
    shape: tuple[int, ...] | None
    cell: Cell
    baseline: str
    measured: tuple[int, int] | None
    band_from: int | None
    band: Band | None
    override: Override | None
    crossover: Crossover | None
    exclusions: tuple[Exclusion, ...]
    changes: tuple[str, ...]
    table: str
    provenance: str
    digest: str
    min_gain: float

    def lines(self) -> list[str]:
        """The explanation for a reader."""
        shape = f" (shape {','.join(str(extent) for extent in self.shape)})" if self.shape else ""
        lines = [
            f"{self.use}: {self.reason}",
            f"call: {self.cell.name}, {full_size(self.size)} per rank{shape}",
        ]
        if self.measured is not None:
            lines.append(f"measured: {short_size(self.measured[0])} to {short_size(self.measured[1])}")
        if self.band is not None and self.band_from is not None and self.measured is not None:
            # A band begins one byte after the last one's end, and reads as that: one edge, one text.
            edge = self.band_from - (self.band_from > self.measured[0])
            lines.append(
                f"band: {short_size(edge)} to {short_size(self.band.up_to)}, {_evidence(self.band, self.min_gain)}"
            )
        if self.override is not None:
            lines.append(f"override: exactly {full_size(self.override.size)}, {_proof(self.override)}")
        if self.crossover is not None:
            lines.append(
                f"near a crossover: {self.crossover.below} below, {self.crossover.above} above, somewhere between "
                f"{short_size(self.crossover.low)} and {short_size(self.crossover.high)}"
            )
        lines.extend(map(_excluded, self.exclusions))
        lines.append(f"table: {self.table} ({self.provenance}), {self.digest}")
        lines.append(f"would change it: {'; '.join(self.changes)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The explanation as JSON data."""
        document: dict[str, Any] = {
            key: value._asdict() if hasattr(value, "_asdict") else value for key, value in self._asdict().items()
        }
        document["exclusions"] = [item._asdict() for item in self.exclusions]
        return document


def _excluded(item: Exclusion) -> str:
    """A run of sizes has the detail of its first one."""
    if item.low == item.high:
        return f"excluded: {item.backend} ({item.reason}) {item.detail}".rstrip()
    run = f"{short_size(item.low)} to {short_size(item.high)}"
    seen = f"; at {full_size(item.low)}: {item.detail}" if item.detail else ""
    return f"excluded: {item.backend} from {run} ({item.reason}){seen}"


def explain(
    table: Table,
    collective: str,
    world_size: int,
    size: int,
    *,
    dtype: object = "bfloat16",
    mode: str = "eager",
    dim: str = "first",
    shape: tuple[int, ...] | None = None,
) -> Explanation:
    """Why `table` answers what it answers for a call of `size` per-rank input bytes; `shape` is only repeated."""
    wanted = Cell(collective, mode, dim, dtype_name(dtype), world_size)
    found = next((cell for cell in table.cells if cell.cell == wanted), None)
    use = table.dispatcher(collective, world_size).select(size, dtype, mode, dim)
    band_from, band = _band(found, size) if found else (None, None)
    override = next((item for item in found.overrides if item.size == size), None) if found else None
    return Explanation(
        use=use,
        reason=_reason(table, wanted, found, size, band, override),
        size=size,
        shape=shape,
        cell=wanted,
        baseline=table.baseline,
        measured=(found.measured_from, found.measured_to) if found else None,
        band_from=band_from,
        band=band,
        override=override,
        crossover=next((item for item in found.crossovers if item.low <= size <= item.high), None) if found else None,
        exclusions=tuple(item for item in found.exclusions if item.low <= size <= item.high) if found else (),
        changes=tuple(_changes(table, wanted, found, size, band, override, use)),
        table=table.name,
        provenance=table.provenance,
        digest=table.digest,
        min_gain=table.policy.min_gain,
    )


def _band(cell: CellTable, size: int) -> tuple[int | None, Band | None]:
    start = cell.measured_from
    if size >= start:
        for band in cell.bands:
            if size <= band.up_to:
                return start, band
            start = band.up_to + 1
    return None, None


def _evidence(band: Band, min_gain: float) -> str:
    words = [f"{band.use} ({band.reason(min_gain)})"]
    if band.gain is not None and band.against is not None:
        words.append(f"{_gain(band)} against {band.against}")
    if band.interval is not None:
        words.append(f"interval {' to '.join(gain_texts(*band.interval, band.gain or 0.0)[:2])}")
    words.append(f"{counted(band.points, 'point')}, {counted(band.samples, 'sample')}")
    return ", ".join(words)


def _proof(override: Override) -> str:
    gain, low, high = gain_texts(override.gain, *override.interval)
    samples = counted(override.samples, "sample")
    return f"{override.use} {gain} against {override.against}, interval {low} to {high}, {samples}"


def _gain(item: Band | Override) -> str:
    """Its gain, on the scale on which its interval is told."""
    return gain_texts(item.gain or 0.0, *(item.interval or ()))[0]


def _reason(
    table: Table, wanted: Cell, found: CellTable | None, size: int, band: Band | None, override: Override | None
) -> str:
    if found is None:
        return f"the table has no cell {wanted.name}, so the baseline is used"
    if band is None:
        side = "below" if size < found.measured_from else "above"
        return f"{full_size(size)} lies {side} what was measured, so the baseline is used"
    if override is not None:
        return f"measured at exactly this size: {_gain(override)} against {override.against}"
    if band.why == "faster":
        return f"in a band that is proven faster as a whole: {_gain(band)} against {band.against}"
    if band.why == "likely":
        return f"ahead here by its samples, without proof: {_gain(band)} against {band.against}"
    if band.why == "tie":
        return f"no candidate is proven to gain {percent(table.policy.min_gain)} here, so the baseline is used"
    return "every candidate is excluded here, so the baseline is used"


def _changes(
    table: Table,
    wanted: Cell,
    found: CellTable | None,
    size: int,
    band: Band | None,
    override: Override | None,
    use: str,
) -> list[str]:
    if found is None:
        return _other_cells(table, wanted)
    edges, uses = compile_cell(found, table.baseline)
    place = bisect_left(edges, size)
    changes = []
    if override is not None and band is not None and band.use != override.use:
        changes.append(f"any other size of this band: {band.use}")
    if place > 0:
        edge = edges[place - 1]
        where = f"at {full_size(edge)} and below" if edge >= found.measured_from else f"below {full_size(edge + 1)}"
        changes.append(f"{where}: {_what(table, found, uses[place - 1], edge)}")
    if place < len(edges):
        changes.append(f"above {full_size(edges[place])}: {_what(table, found, uses[place + 1], edges[place] + 1)}")
    changes = changes or ["no size: the whole cell uses the baseline"]
    if override is None and band is not None and band.why == "tie" and band.against is not None:
        # The band has the baseline's gain over it.
        shown = "" if band.gain is None else f", its samples show {gain_text(1 / (1 + band.gain) - 1)}"
        changes.append(f"{band.against} proven to gain {percent(table.policy.min_gain)} here{shown}")
    return changes + _like_calls(table, wanted, size, use)


def _like_calls(table: Table, wanted: Cell, size: int, use: str) -> list[str]:
    """The calls of this size that differ from the wanted one in one thing alone and use another backend."""
    changes = []
    for field in Cell._fields:
        others: dict[str, list[str]] = {}
        for cell in table.cells:
            value = getattr(cell.cell, field)
            if cell.cell != wanted and cell.cell._replace(**{field: getattr(wanted, field)}) == wanted:
                edges, uses = compile_cell(cell, table.baseline)
                others.setdefault(uses[bisect_left(edges, size)], []).append(str(value))
        changes += [f"{field} {' or '.join(values)}: {name}" for name, values in others.items() if name != use]
    return changes


def _what(table: Table, cell: CellTable, use: str, size: int) -> str:
    if cell.measured_from <= size <= cell.measured_to:
        return use
    return f"not measured, baseline {table.baseline}"


def _other_cells(table: Table, wanted: Cell) -> list[str]:
    """For each part of the wanted cell what the table has instead, while the rest stays as it is."""
    changes = []
    for field in Cell._fields:
        others = {
            getattr(cell.cell, field)
            for cell in table.cells
            if cell.cell._replace(**{field: getattr(wanted, field)}) == wanted
        }
        if others:
            changes.append(f"{field} {' or '.join(str(value) for value in sorted(others))}: measured")
    if not changes:
        changes.append(
            f"none of the {counted(len(table.cells), 'cell')} of this table differs from it in one thing only"
        )
    return changes
