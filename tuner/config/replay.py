"""The `replay` part of a config: which file stands in for the machine, and which cells and sizes it can serve."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ccl_dispatch.runtime.document import Node, Reader, describe
from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.units import full_size
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.config.model import ReplayConfig, SlowNode
from ccl_dispatch.tuner.config.sections import size_of
from ccl_dispatch.tuner.measurements.csv_file import MAX_REPORTED, Measurements, parse_measurements
from ccl_dispatch.tuner.sizes import ALIGNMENT

KEYS = ("file", "where", "noise", "outliers", "seed", "pace", "slow")
SLOW_KEYS = ("by", "from")
MAX_PACE = 1000


@dataclass(frozen=True)
class ReplaySource:
    """What `replay` says, still without ranges, and the measurements in its file.

    `served` adds the ranges, which depend on the rest of the config.
    """

    node: Node
    said: ReplayConfig
    measurements: Measurements

    def served(
        self,
        collective: str,
        baseline: str,
        candidates: Sequence[str],
        minimum: int | None,
        maximum: int | None,
    ) -> ReplayConfig:
        """The cells in which `baseline` and a candidate are measured at common sizes from `minimum` to `maximum`.

        Sizes at which the file excludes a candidate belong to its cell, as those do at which it was measured.

        Raises:
            ConfigError: there is none.
        """
        ranges: dict[Cell, tuple[int, int]] = {}
        seen: list[str] = []
        measured = self.measurements.by_cell()
        excluded = self._excluded(candidates)
        compared = False
        for cell in sorted({*measured, *excluded}):
            curves = measured.get(cell, {})
            spans = {
                name: (min(sizes), max(sizes)) for name, sizes in curves.items() if name in {baseline, *candidates}
            }
            seen += [
                f"{cell.name}: {name} from {full_size(low)} to {full_size(high)}" for name, (low, high) in spans.items()
            ]
            base = spans.pop(baseline, None)
            if cell.collective != collective or cell.world_size < 2:
                continue
            common = [(max(base[0], low), min(base[1], high)) for low, high in spans.values()] if base else []
            common = [(low, high) for low, high in common if low <= high]
            pairs = bool(common)
            common += [(size, size) for size in excluded.get(cell, ())]
            if not common:
                continue
            low = max(min(low for low, _ in common), minimum or 0)
            high = max(high for _, high in common)
            high = high if maximum is None else min(high, maximum)
            if -(-low // ALIGNMENT) * ALIGNMENT <= high:
                ranges[cell] = (low, high)
                compared |= pairs
        if not compared:
            more = [f"and {len(seen) - MAX_REPORTED} more"] if len(seen) > MAX_REPORTED else []
            raise ConfigError(
                f"{self.said.file} has no {collective} cell with the baseline {baseline!r} and a candidate at common "
                "sizes within `sizes`",
                source=self.node.source,
                line=self.node.line,
                key=self.node.key,
                fix=f"It has {'; '.join([*seen[:MAX_REPORTED], *more])}",
            )
        return replace(self.said, ranges=ranges)

    def _excluded(self, candidates: Sequence[str]) -> dict[Cell, set[int]]:
        """The sizes at which the file excludes one of them, by cell."""
        sizes: dict[Cell, set[int]] = {}
        for row in self.measurements.exclusions:
            if row.backend in candidates:
                sizes.setdefault(row.cell, set()).add(row.size)
        return sizes


def read_replay(node: Node) -> ReplaySource:
    """The `replay` mapping at `node`, with its file read.

    Raises:
        ConfigError: a key or value is wrong, or the file is not there.
        MeasurementFileError: the file holds something wrong, or nothing that matches `where`.
    """
    reader = Reader(node, KEYS, ConfigError)
    where_node, noise, outliers, seed, pace, slow = (reader.get(key) for key in KEYS[1:])
    where = {} if where_node is None else _where(where_node)
    share = 0.0 if outliers is None else reader.number(outliers, minimum=0)
    if outliers is not None and share >= 1:
        raise reader.fail(outliers, f"found {share}, expected a share below 1")
    file, data = _read_file(reader, reader.need("file"))
    measurements = parse_measurements(data, file, where)
    if not measurements.rows:
        raise reader.fail(reader.need("file"), f"{file} excludes and has no latency: there is nothing to replay")
    said = ReplayConfig(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        where=where,
        noise=0.0 if noise is None else reader.number(noise, minimum=0, maximum=10),
        outliers=share,
        seed=0 if seed is None else reader.integer(seed, minimum=0),
        ranges={},
        pace=0.0 if pace is None else reader.number(pace, minimum=0, maximum=MAX_PACE),
        slow={} if slow is None else _slow(slow),
    )
    return ReplaySource(node, said, measurements)


def _where(node: Node) -> dict[str, str]:
    reader = Reader(node, tuple(node.value) if isinstance(node.value, dict) else ("a column",), ConfigError)
    where = {}
    for column, child in reader.node.value.items():
        if child.value is None or isinstance(child.value, (dict, list)):
            raise reader.fail(child, f"found {describe(child)}, expected the one value that rows must have")
        where[column] = str(child.value).lower() if isinstance(child.value, bool) else str(child.value)
    return where


def _slow(node: Node) -> dict[str, SlowNode]:
    """`{NAME: {by: 0.05, from: 1 MiB}}`: nodes by name, as `sweep --node` calls them."""
    reader = Reader(node, tuple(node.value) if isinstance(node.value, dict) else ("a node",), ConfigError)
    slow = {}
    for name, child in reader.node.value.items():
        one = Reader(child, SLOW_KEYS, ConfigError)
        start = one.get("from")
        by = one.number(one.need("by"), minimum=0, maximum=10)
        slow[name] = SlowNode(by, 0 if start is None else size_of(one, start))
    return slow


def _read_file(reader: Reader, node: Node) -> tuple[str, bytes]:
    name = reader.text(node)
    tried = list(dict.fromkeys(str(folder / name) for folder in (Path(node.source).parent, Path())))
    path = next((path for path in tried if Path(path).is_file()), None)
    if path is None:
        raise reader.fail(
            node,
            f"there is no file {' nor '.join(tried)}",
            "A relative path is looked for beside the config, then in the working directory",
        )
    try:
        return path, Path(path).read_bytes()
    except OSError as problem:
        raise reader.fail(node, f"{path} can't be read: {problem.strerror or problem}") from None
