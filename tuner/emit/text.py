"""A table as its file: one canonical text, made to be read in a review, and written in one step."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import OutputError
from ccl_dispatch.runtime.schema import read_table
from ccl_dispatch.runtime.table import Band, CellTable, Platform, Table
from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.files import write_in_one_step

SIGNIFICANT_DIGITS = 4

_HEADER = """\
# Dispatch table of ccl-dispatch: which backend a collective uses, by per-rank input bytes.
# Written by `ccl-dispatch`, not by hand: an edited file no longer agrees with its digest and is refused.
#   ccl-dispatch show THIS_FILE        every cell in one line
#   ccl-dispatch explain THIS_FILE     one call and the reasons (see --help)
#   ccl-dispatch validate THIS_FILE    is it valid, and whole
# A band says what is used up to `up_to`, and `gain` how much faster that is than `against` (0.25: in 1/1.25 of its
# time). Outside measured_from..measured_to, and in cells that are not listed, the baseline is used.
"""

# Plain words that no YAML reader, of version 1.1 or 1.2, takes for anything but text.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*")
_NOT_TEXT = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"))
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Lists of these stand one entry per line, each with its size as people write it behind.
_SIZE_OF_ROW = {"bands": "up_to", "crossovers": "at", "ties": "low", "exclusions": "low", "overrides": "size"}


def seal(table: Table) -> Table:
    """The table in canonical form: measured figures rounded, parts sorted, texts storable, digest filled in.

    Rounding is to four significant digits and comes before the digest, so that the digest is that of the file.
    """
    platform = table.platform
    sealed = table._replace(
        name=_clean(table.name),
        generated_by=_clean(table.generated_by),
        platform=Platform(
            device_type=_known(platform.device_type),
            architecture=_known(platform.architecture),
            device=_known(platform.device),
            device_count=platform.device_count,
            link=_known(platform.link),
            versions={_clean(key): _known(platform.versions[key]) for key in sorted(platform.versions)},
            settings={_clean(key): _clean(platform.settings[key]) for key in sorted(platform.settings)},
        ),
        cells=tuple(sorted(_seal_cell(cell) for cell in table.cells)),
        evidence=_plain(table.evidence),
        digest="",
    )
    return sealed._replace(digest=digest_of(document_of(sealed)))


def _seal_cell(cell: CellTable) -> CellTable:
    return cell._replace(
        bands=tuple(_seal_band(band) for band in cell.bands),
        crossovers=tuple(sorted(cell.crossovers)),
        ties=tuple(sorted(cell.ties, key=lambda tie: (tie.low, tie.high, tie.backend))),
        exclusions=tuple(
            sorted(
                (exclusion._replace(detail=_clean(exclusion.detail)) for exclusion in cell.exclusions),
                key=lambda exclusion: (exclusion.low, exclusion.high, *exclusion),
            )
        ),
        overrides=tuple(
            sorted(
                override._replace(
                    shape=tuple(override.shape), gain=_round_gain(override.gain), interval=_bounds(override.interval)
                )
                for override in cell.overrides
            )
        ),
        regret_estimate=None if cell.regret_estimate is None else _round(cell.regret_estimate),
    )


def _seal_band(band: Band) -> Band:
    return band._replace(
        gain=None if band.gain is None else _round_gain(band.gain),
        interval=None if band.interval is None else _bounds(band.interval),
    )


def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _round_gain(value: float) -> float:
    # -0.99999 would round to -1, which is no ratio of times.
    return value if value <= -1 else max(_round(value), -0.9999)


def _bounds(interval: tuple[float, float]) -> tuple[float, float]:
    return _round_gain(interval[0]), _round_gain(interval[1])


def _clean(text: str) -> str:
    # Environment variables may hold bytes that are no text; no file could give them back.
    return text.encode("utf-8", "replace").decode("utf-8")


def _known(text: str) -> str:
    return "" if text == "unknown" else _clean(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_clean(str(key)): _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return _round(value) if math.isfinite(value) else None
    return _clean(str(value))


def render(table: Table) -> str:
    """The text of a sealed table; `runtime.schema.read_table` gives the table back."""
    lines: list[str] = [_HEADER]
    for key, value in document_of(table).items():
        if key == "cells" and value:
            lines.append("cells:\n")
            for cell in value:
                lines.append("\n")
                _render_cell(lines, cell)
            lines.append("\n")
        else:
            _render_entry(lines, "", key, value)
    return "".join(lines)


def _render_cell(lines: list[str], cell: Mapping[str, Any]) -> None:
    indent = "  - "
    for key, value in cell.items():
        rows = _SIZE_OF_ROW.get(key)
        if rows and value:
            lines.append(f"{indent}{key}:\n")
            lines.extend(f"      - {_flow(row)}  # {short_size(row[rows])}\n" for row in value)
        else:
            size = f"  # {short_size(value)}" if key.startswith("measured_") else ""
            lines.append(f"{indent}{key}: {_flow(value)}{size}\n")
        indent = "    "


def _render_entry(lines: list[str], indent: str, key: str, value: Any) -> None:
    if isinstance(value, dict) and value:
        lines.append(f"{indent}{_scalar(key)}:\n")
        for name, child in value.items():
            _render_entry(lines, indent + "  ", name, child)
    elif isinstance(value, list) and any(isinstance(child, (dict, list)) for child in value):
        lines.append(f"{indent}{_scalar(key)}:\n")
        lines.extend(f"{indent}  - {_flow(child)}\n" for child in value)
    else:
        lines.append(f"{indent}{_scalar(key)}: {_flow(value)}\n")


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(child) for child in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        # A reader of YAML 1.1 takes 1e-05 for text, and 1.0e-05 for a number.
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return str(value)
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _escape(char)) for char in value) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def write_table(table: Table, path: str | os.PathLike[str]) -> Table:
    """Seal the table and write it to `path` in one step: a reader sees the old file or the new one, never a part.

    Returns:
        The table as the file gives it back.

    Raises:
        TableError: the table contradicts itself and could not be read again; nothing is written.
        OutputError: the file can't be written; what was at `path` is untouched.
    """
    target = os.fspath(path)
    text = render(seal(table))
    checked = read_table(text, target)
    try:
        write_in_one_step(target, text)
    except OSError as problem:
        raise OutputError(
            f"{target}: the table can't be written: {problem.strerror or problem}. What was there before is "
            "untouched, and the samples are safe in the study's storage: make room or name another file, then use "
            "`ccl-dispatch build`"
        ) from problem
    return checked
