"""The table format for editors and for readers: a JSON Schema and a page, both from the words that the runtime reads.

A JSON Schema says what each key may hold. What it can't say (bands rise, the digest fits, no band uses what is
excluded) is checked by `runtime.schema` alone; so every valid table fits the schema, and not the other way round.
"""

from __future__ import annotations

from ccl_dispatch.runtime.cells import MAX_ITEMS, MAX_RANKS
from ccl_dispatch.runtime.digest import UNKNOWN
from ccl_dispatch.runtime.schema import MAX_CANDIDATES
from ccl_dispatch.runtime.table import (
    BAND_REASONS,
    EXCLUSION_REASONS,
    SCHEMA,
    SIZE_UNIT,
    Band,
    CellTable,
    Crossover,
    Exclusion,
    Override,
    Platform,
    Policy,
    Tie,
)
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MAX_SIZE, MODES, PROVENANCES, TIMINGS, Cell
from ccl_dispatch.tuner.schemas.json_schema import (
    DIALECT,
    Json,
    count,
    mapping,
    number,
    one_of,
    page,
    part,
    several,
    text,
)

_PAGE_HEAD = f"""\
# The table format

Schema `{SCHEMA}`. Written by `ccl-dispatch schema --page` from the words that the runtime reads; for editors there is
[table-v1.schema.json](table-v1.schema.json) (`ccl-dispatch schema`). All sizes are per-rank input bytes. A key that is
not listed here is an error, and so is a missing one that is not marked as optional.

An editor with the YAML language server (in VS Code: the extension YAML of Red Hat) shows these words and marks mistakes
while typing, with this in its settings. It can't know the digest: `ccl-dispatch validate` checks everything.

```json
{{"yaml.schemas": {{"docs/table-v1.schema.json": "tables/*.yaml"}}}}
```
"""


def table_schema() -> Json:
    """The JSON Schema (draft 2020-12) of a table."""
    return {
        "$schema": DIALECT,
        "title": f"Dispatch table of ccl-dispatch, {SCHEMA}",
        **mapping("Which backend a collective uses, by per-rank input bytes.", _top()),
        "$defs": {name: mapping(*own) for name, own in _parts().items()},
    }


def _top() -> dict[str, Json]:
    return {
        "schema": {"const": SCHEMA, "description": "The version of this format."},
        "name": text("What the table is called, in most cases after its config."),
        "generated_by": text("The program that wrote the file. Not part of the digest."),
        "provenance": one_of(
            PROVENANCES, "How the figures came to be. Only `measured` tables are ever chosen for a machine unasked."
        ),
        "size_unit": {"const": SIZE_UNIT, "description": "The unit of every size in the file."},
        "baseline": text("The backend that is used when in doubt: outside what was measured, and in ties."),
        "candidates": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "maxItems": MAX_CANDIDATES,
            "uniqueItems": True,
            "description": "The backends that may replace the baseline.",
        },
        "platform": part("platform", "What the table is valid for."),
        "policy": part("policy", "What a candidate had to prove."),
        "cells": {
            "type": "array",
            "items": {"$ref": "#/$defs/cell"},
            "description": "One entry per collective, mode, dim, dtype and world size.",
        },
        "evidence": {
            "type": "object",
            "description": "For readers: study, trials, samples, config digest, files. No decision depends on it.",
        },
        "digest": {
            "type": "string",
            "pattern": "^sha256:[0-9a-f]{64}$",
            "description": "Over the values of all keys but `digest` and `generated_by`, whatever their order and "
            "layout. A table that was edited does not fit its digest and is refused.",
        },
    }


def _parts() -> dict[str, tuple[str, dict[str, Json], tuple[str, ...]]]:
    """Name of each mapping to its description, its keys, and those of them that may be left out."""
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    cell = {
        "collective": one_of(COLLECTIVES, "The collective."),
        "mode": one_of(MODES, "How the call runs; `graph_copy_in` is captured with the input copied into a pool."),
        "dim": one_of(DIMS, "Which dimension is gathered."),
        "dtype": one_of(ITEMSIZE, "The element type, as torch calls it."),
        "world_size": count("The number of ranks.", 1, MAX_RANKS),
        "measured_from": _size("The smallest size that was measured; below it the baseline is used."),
        "measured_to": _size("The largest size that was measured; above it the baseline is used."),
        "bands": _several(
            "band", "Runs of sizes with one backend each, rising; the last ends at `measured_to`.", minItems=1
        ),
        "crossovers": _several("crossover", "Where one band ends and the next begins, and how sure that is."),
        "ties": _several("tie", "Where a candidate is proven to be no more than `min_gain` away from the baseline."),
        "exclusions": _several("exclusion", "Where a backend may not be used, and why."),
        "overrides": _several(
            "override", "Single sizes of the workload whose own measurement disagrees with the band."
        ),
        "regret_estimate": {
            "type": ["number", "null"],
            "minimum": 0,
            "description": "How much slower these choices may be than the best backend: mean of T(chosen)/T(best) - 1.",
        },
    }
    band = {
        "up_to": _size("The last size of the band; the first band begins at `measured_from`."),
        "use": text("The backend that is used."),
        "why": one_of(
            BAND_REASONS,
            "`faster`: proven to gain `min_gain` as a whole, and half of it at its ends; `tie`: no candidate is; "
            "`excluded`: every candidate is excluded; "
            "`likely`: ahead without proof, only where `min_gain` is 0.",
        ),
        "against": text("The backend that it was compared with."),
        "gain": _gain("T(against)/T(use) - 1 over the points of the band: 0.25 is in 1/1.25 of the time."),
        "interval": _interval(),
        "points": count("Measured sizes in the band."),
        "samples": count("Paired samples at these sizes."),
    }
    crossover = {
        "at": _size("The last size of the band below."),
        "low": _size("The measured size below, at which the lower band's backend is used."),
        "high": _size("The measured size above, at which the upper band's backend is used."),
        "below": text("The backend of the band below."),
        "above": text("The backend of the band above."),
    }
    tie = {"backend": text("The candidate."), **_span("tied")}
    exclusion = {
        "backend": text("The backend that may not be used."),
        "reason": one_of(EXCLUSION_REASONS, "What happened."),
        **_span("excluded"),
        "detail": {"type": "string", "description": "In the words of whoever found it."},
    }
    override = {
        "size": _size("Exactly this size."),
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "description": "The shape of one rank's input that the workload has at this size.",
        },
        "use": band["use"],
        "against": band["against"],
        "gain": _gain("T(against)/T(use) - 1 at this size."),
        "interval": _interval(),
        "samples": count("Paired samples at this size."),
    }
    platform = {
        "device_type": text(f"`cuda` or `cpu`, as torch calls it, or `{UNKNOWN}`."),
        "architecture": text("`gfx942`, `sm_90`, `x86_64`."),
        "device": text("The device's name."),
        "device_count": {
            "anyOf": [{"type": "integer", "minimum": 1}, {"const": UNKNOWN}],
            "description": "Devices of the machine.",
        },
        "link": text("How the devices are linked."),
        "versions": {**texts, "description": "Versions of what a latency depends on."},
        "settings": {**texts, "description": "The environment variables of these libraries that were set."},
    }
    policy = {
        "min_gain": number("The least T(baseline)/T(candidate) - 1 that a candidate must prove.", minimum=0),
        "confidence": number("With which confidence.", minimum=0, maximum=1),
        "timing": one_of(TIMINGS, "Whether each call was timed by itself or in a run of calls."),
    }
    parts = {
        "platform": (Platform._fields, "What the table is valid for.", platform, ()),
        "policy": (Policy._fields, "What a candidate had to prove.", policy, ()),
        "cell": ((*Cell._fields, *CellTable._fields[1:]), "One curve along size, tuned on its own.", cell, ()),
        "band": (Band._fields, "A run of sizes with one backend.", band, ("against", "gain", "interval")),
        "crossover": (Crossover._fields, "The border of two bands.", crossover, ()),
        "tie": (Tie._fields, "Sizes at which the choice does not matter.", tie, ()),
        "exclusion": (Exclusion._fields, "Sizes at which a backend may not be used.", exclusion, ()),
        "override": (Override._fields, "One size with a choice of its own.", override, ()),
    }
    for name, (fields, _, keys, _) in parts.items():
        # The reader takes exactly the fields of these tuples: a new field without its words here is a mistake.
        if (*keys,) != fields:
            raise AssertionError(f"the schema of {name} has the keys {(*keys,)}, the runtime reads {fields}")
    return {name: (about, keys, optional) for name, (_, about, keys, optional) in parts.items()}


def _size(about: str) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": MAX_SIZE, "description": about}


def _gain(about: str) -> Json:
    return number(about, exclusiveMinimum=-1)


def _interval() -> Json:
    return {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": -1},
        "minItems": 2,
        "maxItems": 2,
        "description": "The gain's lower and upper bound, each at the policy's confidence.",
    }


def _span(what: str) -> dict[str, Json]:
    return {
        "low": _size(f"The smallest measured size that is {what}."),
        "high": _size(f"The largest measured size that is {what}."),
    }


def _several(name: str, about: str, **bounds: int) -> Json:
    return several(name, about, **bounds, maxItems=MAX_ITEMS)


def table_page() -> str:
    """The same as a page for readers, in Markdown."""
    schema = table_schema()
    return page(_PAGE_HEAD, "The file", schema, schema["$defs"])
