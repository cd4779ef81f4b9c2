"""A config's workload from what serving processes recorded: their files merged, the most frequent calls first.

Every rank of a group records the same calls, so that a kind of call counts with its calls over its world size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ccl_dispatch.runtime.document import Node, Reader, check_schema, parse
from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.runtime.recording import SCHEMA, SUFFIX
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES
from ccl_dispatch.tuner.config.model import SweepConfig, WorkloadShape

KEYS = ("recorded", "top")
# Each shape is measured exactly, so there are only so many; the rest is too seldom to matter.
DEFAULT_TOP = 32
MAX_TOP = 1000
_CALL_KEYS = ("collective", "mode", "dim", "dtype", "world_size", "shape", "calls")


def read_recorded(node: Node, config: SweepConfig) -> tuple[WorkloadShape, ...]:
    """The calls of a file or of a folder of files that are in the cells and sizes that `config` tunes.

    Args:
        node: the mapping `{recorded: PATH, top: 32}`; a relative path is looked for beside the config, then in the
            working directory. `top` is how many kinds of calls are taken.
        config: what is tuned.

    Raises:
        ConfigError: nothing is there, a file is no record, or none of its calls is in what is tuned.
    """
    reader = Reader(node, KEYS, ConfigError)
    place = reader.need("recorded")
    top = reader.get("top")
    most = DEFAULT_TOP if top is None else reader.integer(top, minimum=1, maximum=MAX_TOP)
    paths = _files(reader, place)
    weights: dict[WorkloadShape, float] = {}
    calls = 0
    for path in paths:
        for collective, entry, count in _read_file(path):
            calls += count
            fits = (
                collective == config.collective
                and entry.dim in config.dims
                and entry.dtype in config.dtypes
                and entry.mode in config.modes
                and entry.world_size in config.world_sizes
                and config.sizes.minimum <= entry.size <= config.sizes.maximum
            )
            if fits:
                weights[entry] = weights.get(entry, 0.0) + count / (entry.world_size or 1)
    if not weights:
        raise reader.fail(
            place,
            f"{counted(len(paths), 'file')} with {counted(calls, 'call')}, none of which is in the cells and sizes of "
            "this config",
            "Compare its dtypes, modes, world_sizes and sizes with what was recorded",
        )
    chosen = sorted(weights, key=lambda entry: (-weights[entry], entry.dtype, entry.shape, str(entry)))[:most]
    heaviest = weights[chosen[0]]
    return tuple(
        replace(entry, weight=weight) for entry in chosen if (weight := round(weights[entry] / heaviest, 6)) > 0
    )


def _files(reader: Reader, node: Node) -> list[Path]:
    name = reader.text(node)
    tried = list(dict.fromkeys(folder / name for folder in (Path(node.source).parent, Path())))
    for path in tried:
        if path.is_file():
            return [path]
        if path.is_dir():
            found = sorted(path.glob(f"*{SUFFIX}"))
            if found:
                return found
            raise reader.fail(node, f"{path} has no file that ends with {SUFFIX}", "Serve with CCL_DISPATCH=record")
    raise reader.fail(node, f"there is no file or folder {' nor '.join(str(path) for path in tried)}")


def _read_file(path: Path) -> list[tuple[str, WorkloadShape, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"can't be read: {problem}", source=str(path)) from None
    root = parse(text, str(path), ConfigError)
    check_schema(root, SCHEMA, ConfigError, "Use the version of ccl-dispatch that recorded it, or record with this one")
    top = Reader(root, ("schema", "not_kept", "calls"), ConfigError)
    top.need("schema")
    return [_call(Reader(item, _CALL_KEYS, ConfigError)) for item in top.items(top.need("calls"))]


def _call(reader: Reader) -> tuple[str, WorkloadShape, int]:
    dtype = reader.text(reader.need("dtype"))
    shape = tuple(reader.integer(item, minimum=1) for item in reader.items(reader.need("shape")))
    # A dtype that this version has no size for can't be tuned; its calls are left out by never fitting.
    known = dtype in ITEMSIZE and shape
    entry = WorkloadShape(
        shape=shape,
        dtype=dtype if known else next(iter(ITEMSIZE)),
        world_size=reader.integer(reader.need("world_size"), minimum=1),
        mode=reader.choice(reader.need("mode"), MODES),
        dim=reader.choice(reader.need("dim"), DIMS),
    )
    collective = reader.choice(reader.need("collective"), COLLECTIVES) if known else ""
    return collective, entry, reader.integer(reader.need("calls"), minimum=1)
