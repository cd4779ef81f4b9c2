"""The words that table, config, CSV and code share: collectives, modes, dims, dtypes, and the cell they name.

Everything here is plain data. The runtime's types are NamedTuples, not dataclasses: importing `dataclasses` costs about
as much as half of `import yaml`, and these modules are loaded by every serving process.
"""

from __future__ import annotations

from typing import NamedTuple

COLLECTIVES = ("all_gather", "all_reduce", "reduce_scatter")
MODES = ("eager", "graph", "graph_copy_in")
DIMS = ("first", "last")
TIMINGS = ("isolated", "back_to_back")

# Bytes per element, under the names that torch uses without the `torch.` prefix.
ITEMSIZE = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}

# Per-rank input bytes that anything here may be asked about.
MAX_SIZE = 2**63 - 1

# How a table's numbers came to be; only `measured` ones may ever be chosen for a machine without being asked for.
PROVENANCES = ("measured", "replayed", "imported")


class Cell(NamedTuple):
    """One curve that is tuned on its own; sizes along it are per-rank input bytes."""

    collective: str
    mode: str
    dim: str
    dtype: str
    world_size: int

    @property
    def name(self) -> str:
        """The cell as one word, e.g. `all_gather/eager/first/bfloat16/ws4`."""
        return f"{self.collective}/{self.mode}/{self.dim}/{self.dtype}/ws{self.world_size}"


def dtype_name(dtype: object) -> str:
    """`torch.bfloat16`, `"torch.bfloat16"` and `"bfloat16"` all give `"bfloat16"`."""
    return str(dtype).removeprefix("torch.")
