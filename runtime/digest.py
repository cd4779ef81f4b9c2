"""A table as the plain document that its file holds, and the digest over what that document means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ccl_dispatch.runtime.table import SCHEMA, SIZE_UNIT, Band, CellTable, Platform, Table

try:
    # What hashlib falls back to, and what `random` uses: hashlib itself loads OpenSSL, a tenth of the whole import.
    from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from hashlib import sha256

UNKNOWN = "unknown"

# What says nothing about the choices: the digest itself, and which version of the program wrote the file.
_NOT_DIGESTED = ("digest", "generated_by")


def digest_of(document: Mapping[str, Any]) -> str:
    """`sha256:<hex>` over the values of a table's plain document, without `digest` and `generated_by`.

    The order of keys, layout and comments do not count; every value does. 1 and 1.0 are one value.
    """
    meaning = {key: value for key, value in document.items() if key not in _NOT_DIGESTED}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    # A float that is a whole number is written with one of these, and most tables have none of them.
    if ".0," in text or ".0}" in text or ".0]" in text or "e+" in text:
        text = json.dumps(_canonical(meaning), sort_keys=True, separators=(",", ":"))
    return f"sha256:{sha256_of(text.encode('ascii'))}"


def sha256_of(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return str(sha256(data).hexdigest())


def _canonical(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    # Most values are words and whole numbers, which stay: they are not worth a call each.
    if kind is dict:
        return {key: child if type(child) in _AS_THEY_ARE else _canonical(child) for key, child in value.items()}
    if kind is list:
        return [child if type(child) in _AS_THEY_ARE else _canonical(child) for child in value]
    return value


_AS_THEY_ARE = frozenset((str, int, bool, type(None)))


def document_of(table: Table) -> dict[str, Any]:
    """The table as plain dicts, lists and scalars, with the keys in the order in which they are written."""
    return {
        "schema": SCHEMA,
        "name": table.name,
        "generated_by": table.generated_by,
        "provenance": table.provenance,
        "size_unit": SIZE_UNIT,
        "baseline": table.baseline,
        "candidates": list(table.candidates),
        "platform": _platform(table.platform),
        "policy": table.policy._asdict(),
        "cells": [_cell(cell) for cell in table.cells],
        "evidence": dict(table.evidence),
        "digest": table.digest,
    }


def _platform(platform: Platform) -> dict[str, Any]:
    document = {
        key: value or UNKNOWN for key, value in platform._asdict().items() if key not in ("versions", "settings")
    }
    document["versions"] = {key: value or UNKNOWN for key, value in platform.versions.items()}
    document["settings"] = dict(platform.settings)
    return document


def _cell(cell: CellTable) -> dict[str, Any]:
    return {
        **cell.cell._asdict(),
        "measured_from": cell.measured_from,
        "measured_to": cell.measured_to,
        "bands": [_band(band) for band in cell.bands],
        "crossovers": [crossover._asdict() for crossover in cell.crossovers],
        "ties": [tie._asdict() for tie in cell.ties],
        "exclusions": [exclusion._asdict() for exclusion in cell.exclusions],
        "overrides": [
            {**override._asdict(), "shape": list(override.shape), "interval": list(override.interval)}
            for override in cell.overrides
        ],
        "regret_estimate": cell.regret_estimate,
    }


def _band(band: Band) -> dict[str, Any]:
    document = {key: value for key, value in band._asdict().items() if value is not None}
    if band.interval is not None:
        document["interval"] = list(band.interval)
    return document
