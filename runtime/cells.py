"""One cell of a table: its bands and what stands beside them, read strictly and checked against each other."""

from __future__ import annotations

import math
from itertools import pairwise

from ccl_dispatch.runtime.document import ABSENT, Node, Reader
from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.table import (
    BAND_REASONS,
    EXCLUSION_REASONS,
    Band,
    CellTable,
    Crossover,
    Exclusion,
    Override,
    Tie,
)
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MAX_SIZE, MODES, Cell

# Far above what any sweep gives; it keeps the checks that compare every item with every band from running for minutes.
MAX_ITEMS = 1000
MAX_RANKS = 2**31 - 1

_CELL_KEYS = dict.fromkeys((*Cell._fields, *CellTable._fields[1:]))
_BAND_KEYS = dict.fromkeys(Band._fields)


def read_cell(node: Node, backends: tuple[str, ...], baseline: str, min_gain: float) -> CellTable:
    """The cell at `node`; `backends` are the names that the table declares, `baseline` among them.

    `min_gain` is the policy's: where it asks for a gain, no band may name a candidate that is only likely.

    Raises:
        TableError: a value is wrong, or two of them contradict each other.
    """
    reader = Reader(node, _CELL_KEYS, TableError)
    start = reader.integer_at("measured_from", 1, MAX_SIZE)
    end = reader.integer_at("measured_to", start, MAX_SIZE)
    bands = _bands(reader, backends, baseline, min_gain, start, end)
    exclusions = tuple(_exclusion(child, backends) for child in _list(reader, "exclusions"))
    _check_exclusions(reader, bands, exclusions, start, baseline)
    return CellTable(
        cell=Cell(
            collective=reader.choice_at("collective", COLLECTIVES),
            mode=reader.choice_at("mode", MODES),
            dim=reader.choice_at("dim", DIMS),
            dtype=reader.choice_at("dtype", ITEMSIZE),
            world_size=reader.integer_at("world_size", 1, MAX_RANKS),
        ),
        measured_from=start,
        measured_to=end,
        bands=bands,
        crossovers=tuple(_crossover(child, bands) for child in _list(reader, "crossovers")),
        ties=tuple(_tie(child, backends) for child in _list(reader, "ties")),
        exclusions=exclusions,
        overrides=_overrides(reader, backends, [item for item in exclusions if item.backend != baseline], start, end),
        regret_estimate=(
            None if reader.value_at("regret_estimate") is None else reader.number_at("regret_estimate", minimum=0)
        ),
    )


def _list(reader: Reader, key: str) -> list[Node]:
    nodes = reader.items_at(key)
    if len(nodes) > MAX_ITEMS:
        raise reader.fail(reader.need(key), f"{len(nodes)} entries, at most {MAX_ITEMS} are read")
    return nodes


def _bands(
    reader: Reader, backends: tuple[str, ...], baseline: str, min_gain: float, start: int, end: int
) -> tuple[Band, ...]:
    nodes = _list(reader, "bands")
    if not nodes:
        raise reader.fail(reader.need("bands"), "no bands", "Give at least one, up to measured_to")
    bands: list[Band] = []
    for node in nodes:
        inner = Reader(node, _BAND_KEYS, TableError)
        band = _band(inner, backends, baseline, min_gain)
        if bands and band.up_to <= bands[-1].up_to:
            at = inner.need("up_to")
            raise inner.fail(at, f"found {band.up_to}, expected more than the band before, {bands[-1].up_to}")
        if band.up_to < start:
            at = inner.need("up_to")
            raise inner.fail(at, f"found {band.up_to}, expected at least measured_from, {start}")
        if bands and (band.use, band.why) == (bands[-1].use, bands[-1].why):
            raise inner.fail(node, f"the band before is also {band.use} ({band.why})", "Make one band of the two")
        bands.append(band)
    if bands[-1].up_to != end:
        at = Reader(nodes[-1], _BAND_KEYS, TableError).need("up_to")
        raise reader.fail(at, f"found {bands[-1].up_to}, expected the last band to end at measured_to, {end}")
    return tuple(bands)


def _band(reader: Reader, backends: tuple[str, ...], baseline: str, min_gain: float) -> Band:
    use = reader.choice_at("use", backends)
    why = reader.choice_at("why", BAND_REASONS)
    # A gain may be known before its interval is: with a handful of samples the interval is endless.
    proof = why in ("faster", "likely")
    band = Band(
        up_to=reader.integer_at("up_to", 1, MAX_SIZE),
        use=use,
        why=why,
        against=reader.choice_at("against", backends) if proof or reader.value_at("against") is not ABSENT else None,
        gain=_gain_at(reader) if proof or reader.value_at("gain") is not ABSENT else None,
        interval=None if reader.value_at("interval") is ABSENT else _interval_at(reader),
        points=reader.integer_at("points", 0),
        samples=reader.integer_at("samples", 0),
    )
    if band.against == use:
        raise reader.fail(reader.need("against"), f"{use!r} is compared with itself", "Name the other backend")
    if why == "likely" and min_gain > 0:
        raise reader.fail(
            reader.need("why"), f"found likely, but the policy asks for a proven gain of {min_gain}", "Use the baseline"
        )
    if why in ("tie", "excluded") and use != baseline:
        raise reader.fail(
            reader.need("use"), f"found {use!r} for why: {why}, expected the baseline {baseline!r}", "Use the baseline"
        )
    return band


def _gain_at(reader: Reader) -> float:
    gain = reader.number_at("gain")
    return gain if gain > -1 else _gain(reader, reader.need("gain"))


def _gain(reader: Reader, node: Node) -> float:
    gain = reader.number(node)
    if gain <= -1:
        raise reader.fail(node, f"found {gain}, expected more than -1: it is a ratio of times less one")
    return gain


def _interval_at(reader: Reader) -> tuple[float, float]:
    bounds = reader.value_at("interval")
    if type(bounds) is list and len(bounds) == 2:
        low, high = bounds
        if type(low) is type(high) is float and -1 < low <= high < math.inf:
            return low, high
    node = reader.need("interval")
    nodes = reader.items(node)
    if len(nodes) != 2:
        raise reader.fail(node, f"found {len(nodes)} numbers, expected the two bounds of an interval")
    low, high = _gain(reader, nodes[0]), _gain(reader, nodes[1])
    if low > high:
        raise reader.fail(node, f"found [{low}, {high}], expected the lower bound first")
    return low, high


def _span(reader: Reader) -> tuple[int, int]:
    low = reader.integer_at("low", 1, MAX_SIZE)
    return low, reader.integer_at("high", low, MAX_SIZE)


def _crossover(node: Node, bands: tuple[Band, ...]) -> Crossover:
    reader = Reader(node, Crossover._fields, TableError)
    low, high = _span(reader)
    at = reader.integer_at("at", low, high)
    below, above = reader.text(reader.need("below")), reader.text(reader.need("above"))
    for first, second in pairwise(bands):
        if low <= first.up_to <= high and (first.use, second.use) == (below, above) and below != above:
            return Crossover(at, low, high, below, above)
    raise reader.fail(node, f"no two bands go from {below!r} to {above!r} between {low} and {high}", "Compare `bands`")


def _tie(node: Node, backends: tuple[str, ...]) -> Tie:
    reader = Reader(node, Tie._fields, TableError)
    return Tie(reader.choice_at("backend", backends), *_span(reader))


def _exclusion(node: Node, backends: tuple[str, ...]) -> Exclusion:
    reader = Reader(node, Exclusion._fields, TableError)
    backend = reader.choice_at("backend", backends)
    detail = reader.need("detail")
    if not isinstance(detail.value, str):
        raise reader.fail(detail, "expected text", "Put it in quotes")
    return Exclusion(backend, reader.choice_at("reason", EXCLUSION_REASONS), *_span(reader), detail=detail.value)


def _check_exclusions(
    reader: Reader, bands: tuple[Band, ...], exclusions: tuple[Exclusion, ...], start: int, baseline: str
) -> None:
    """Refuse a band that uses a candidate at a size at which the same cell says that it may not be used.

    The baseline stays in use where it is excluded as well: there it could not be timed, and there is nothing else.
    """
    for index, exclusion in enumerate(exclusions):
        if exclusion.backend == baseline:
            continue
        first = start
        for band in bands:
            if band.use == exclusion.backend and first <= exclusion.high and exclusion.low <= band.up_to:
                raise reader.fail(
                    reader.need("exclusions").value[index],
                    f"{exclusion.backend!r} is excluded here ({exclusion.reason}), "
                    f"but the band from {first} to {band.up_to} uses it",
                    "Rebuild the table with `ccl-dispatch build`",
                )
            first = band.up_to + 1


def _overrides(
    reader: Reader, backends: tuple[str, ...], exclusions: list[Exclusion], start: int, end: int
) -> tuple[Override, ...]:
    overrides: dict[int, Override] = {}
    for node in _list(reader, "overrides"):
        inner = Reader(node, Override._fields, TableError)
        at = inner.need("size")
        size = inner.integer(at, start, end)
        if size in overrides:
            raise inner.fail(at, f"size {size} is overridden twice", "Keep one of the two")
        use = inner.choice_at("use", backends)
        against = inner.choice_at("against", backends)
        if use == against:
            raise inner.fail(inner.need("against"), f"{use!r} is compared with itself", "Name the other backend")
        for exclusion in exclusions:
            if exclusion.backend == use and exclusion.low <= size <= exclusion.high:
                raise inner.fail(inner.need("use"), f"{use!r} is excluded at {size} ({exclusion.reason})")
        overrides[size] = Override(
            size=size,
            shape=tuple(inner.integer(child, 0, MAX_SIZE) for child in inner.items(inner.need("shape"))),
            use=use,
            against=against,
            gain=_gain_at(inner),
            interval=_interval_at(inner),
            samples=inner.integer_at("samples", 0),
        )
    return tuple(overrides.values())
