"""The config format as a JSON Schema and a page, from the words, defaults and bounds that the reader of configs has.

As with tables every valid config fits the schema, and not the other way round: whether a backend is there, whether a
shape is tuned, what a replayed file holds, is checked by `config.parsing`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ccl_dispatch.runtime.probe import SETTING
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, TIMINGS
from ccl_dispatch.tuner.backends.registry import BACKENDS
from ccl_dispatch.tuner.config import recorded, replay
from ccl_dispatch.tuner.config.model import (
    BudgetConfig,
    MachineConfig,
    MeasureConfig,
    PolicyConfig,
    SizeRange,
    WorkloadShape,
)
from ccl_dispatch.tuner.config.parsing import KEYS, MAX_NAME, MAX_PER_OCTAVE, MAX_SEED
from ccl_dispatch.tuner.config.sections import (
    CACHES,
    MAX_COUNT,
    MAX_DIMENSION,
    MAX_GRAPH_CALLS,
    MAX_RETRIES,
    MAX_VARIABLES,
)
from ccl_dispatch.tuner.device.placement import DEVICE_TYPES
from ccl_dispatch.tuner.schemas.json_schema import DIALECT, Json, count, mapping, number, one_of, page, part, text

_PAGE_HEAD = """\
# The config format

Strict YAML, read by `ccl-dispatch sweep`. Written by `ccl-dispatch schema --of config --page`. A size is a number of
bytes, or text such as `64 KiB`. Needed are `baseline` and `candidates`, and without a `replay` also `collective`,
`world_sizes`, `dtypes` and `sizes` with its ends.

An editor with the YAML language server (in VS Code: the extension YAML of Red Hat) shows these words and marks mistakes
while typing. It reads [config.schema.json](config.schema.json), which `ccl-dispatch schema --of config` prints too.
Either a config's first line names the file, as it lies from there:

```yaml
# yaml-language-server: $schema=../docs/config.schema.json
```

or the editor's settings do, for all configs at once:

```json
{"yaml.schemas": {"docs/config.schema.json": "configs/*.yaml"}}
```
"""


def config_schema() -> Json:
    """The JSON Schema (draft 2020-12) of a sweep config."""
    keys = _top()
    _agree("a config", tuple(keys), KEYS)
    needed = ("baseline", "candidates")
    # A replay brings what the rest would say, and names of its own.
    measured = ("collective", "world_sizes", "dtypes", "sizes")
    names = {"enum": [*BACKENDS]}
    return {
        "$schema": DIALECT,
        "title": "Sweep config of ccl-dispatch",
        **mapping(
            "What is compared, where, how it is measured, and when it is enough.",
            keys,
            tuple(key for key in keys if key not in needed),
        ),
        "if": {"not": {"required": ["replay"]}},
        "then": {"required": [*measured], "properties": {"baseline": names, "candidates": {"items": names}}},
        "$defs": {name: mapping(*own) for name, own in _parts().items()},
    }


def _top() -> dict[str, Json]:
    cells = "each combination of world size, dtype, mode and dim is a cell"
    return {
        "name": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME,
            "pattern": "^[^./][^/]*$",
            "description": "Names the study, the folder in `runs/` and the table; the file's own name when left out.",
        },
        "collective": one_of(COLLECTIVES, "What is tuned."),
        "baseline": text("The backend that is always legal and is used when in doubt."),
        "candidates": _list({"type": "string"}, "The backends that may replace it where they are proven faster."),
        "device": one_of(DEVICE_TYPES, "Where tensors lie; what the backends need when left out."),
        "share_devices": _flag("Let several ranks share one GPU: right in every bit, and no verdict on speed."),
        "machine": part("machine", "The machine that the config is for; a sweep refuses to start on another one."),
        "environment": {
            "type": "object",
            "maxProperties": MAX_VARIABLES,
            "propertyNames": {"pattern": SETTING},
            "additionalProperties": {"type": ["string", "integer"]},
            "description": "Variables that the ranks get, as the engine's processes have them; part of the table.",
        },
        "world_sizes": _list({"type": "integer", "minimum": 2}, f"Numbers of ranks; {cells}."),
        "dtypes": _list({"enum": [*ITEMSIZE]}, "Element types, as torch calls them."),
        "modes": _list({"enum": [*MODES]}, "How calls run.", ["eager"]),
        "dims": _list({"enum": [*DIMS]}, "Which dimension is gathered.", ["first"]),
        "timing": one_of(TIMINGS, "Each call begins at a barrier, or calls run in a stream.") | {"default": TIMINGS[0]},
        "sizes": part("sizes", "Which sizes are tuned, in per-rank input bytes."),
        "workload": {
            "anyOf": [{"$ref": "#/$defs/recorded"}, {"type": "array", "items": {"$ref": "#/$defs/shape"}}],
            "description": "Shapes that are known to be called, measured exactly: listed, or as serving recorded them.",
        },
        "measure": part("measure", "How a point is measured."),
        "policy": part("policy", "What a candidate must prove."),
        "budget": part("budget", "What ends the sweep, whichever comes first; what is left out sets no limit."),
        "backends": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
            "description": "Settings of backends, by name.",
        },
        "replay": part("replay", "A measurement file that stands in for the machine."),
        "seed": count("Of the order of measuring.", 0, MAX_SEED) | {"default": 0},
    }


def _parts() -> dict[str, tuple[str, dict[str, Json], tuple[str, ...]]]:
    measure: dict[str, Json] = {
        "min_samples": count("Repetitions of a visit at least.", 1, MAX_COUNT),
        "max_samples": count("Repetitions of a visit at most.", 1, MAX_COUNT),
        "min_seconds": number("Repetitions go on at least that long.", minimum=0),
        "max_seconds": number("Repetitions end after that long, settled or not.", exclusiveMinimum=0),
        "warmup": count("Calls per backend before the first repetition.", 0, MAX_COUNT),
        "timeout": number("Seconds after which a point counts as hung.", exclusiveMinimum=0),
        "cache": one_of(
            CACHES, "Rotate buffers, or use the same ones; cold on a GPU and warm on the host if left out."
        ),
        "graph_calls": count("Calls in one captured graph.", 1, MAX_GRAPH_CALLS),
        "host_graphs": _flag("Let lists of host calls stand in for graphs, to try out what captures."),
        "retries": count(
            "How often a point is measured again, with new workers, after a fault. One more fault of the same "
            "candidate excludes it there.",
            0,
            MAX_RETRIES,
        ),
        "max_faults": count("So many faults of one run that no exclusion explains end the sweep.", 1, MAX_COUNT),
    }
    policy = {
        "min_gain": number(
            "The least T(baseline)/T(candidate) - 1 to prove for a band, which reaches to where half of it is left.",
            minimum=0,
            exclusiveMaximum=1,
        ),
        "confidence": number("With which confidence.", exclusiveMinimum=0.5, exclusiveMaximum=1),
    }
    budget = {
        "regret": number(
            "The sweep ends once measuring more is expected to win less than that of the mean slowdown against the "
            "best backend; 0.005 is 0.5 %. A table's own `regret_estimate` is an upper bound, and larger.",
            exclusiveMinimum=0,
        ),
        "seconds": number(
            "Wall time once workers are ready; of a replay, what its collectives would take. The visit under way is "
            "finished.",
            exclusiveMinimum=0,
        ),
        "executions": count(
            "Runs of a collective, all backends together, warm-up included. Where a visit takes more than was "
            "counted on (`measure.min_seconds` asks for more repetitions; with `back_to_back` a repetition is a stream "
            "of calls, how many the first visit of a cell shows), the last one goes beyond.",
            1,
        ),
    }
    machine = {
        "architecture": {
            "type": "string",
            "pattern": "^(gfx[0-9a-f]{3,5}|sm_[0-9]{2,3})$",
            "description": "Of the GPUs.",
        },
        "devices": count("How many there are.", 1),
        "memory": _size("Bytes of each."),
    }
    shape = {
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": MAX_DIMENSION},
            "minItems": 1,
            "description": "The shape of one rank's input.",
        },
        "dtype": one_of(ITEMSIZE, "Its element type."),
        "weight": number("Its share of the workload, relative to the others'.", exclusiveMinimum=0),
        "world_size": {"type": "integer", "description": "All that are tuned when left out."},
        "mode": one_of(MODES, "All that are tuned when left out."),
        "dim": one_of(DIMS, "All that are tuned when left out."),
    }
    replayed: dict[str, Json] = {
        "file": text("A measurement CSV, beside the config or in the working directory."),
        "where": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "description": "Takes the rows alone whose columns have these values.",
        },
        "noise": number("Standard deviation of the log of each latency.", minimum=0, maximum=10),
        "outliers": number("Share of latencies slowed by a further |N(0, 1)| in log.", minimum=0, exclusiveMaximum=1),
        "seed": count("Of noise, outliers and the choice among repeats."),
        "pace": number(
            "How much real time a replayed second takes; none when left out.",
            minimum=0,
            maximum=replay.MAX_PACE,
        ),
        "slow": {
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/slow"},
            "description": "Nodes, by name, that are made slower than the file: to try `ccl-dispatch fleet` out.",
        },
    }
    slow = {
        "by": number("By which share each latency is longer; 0.05 is 5 %.", minimum=0, maximum=10),
        "from": _size("From which size on; everywhere when left out."),
    }
    record = {
        "recorded": text("A record of calls, as the runtime writes it in serving."),
        "top": count("Only so many shapes, those called most.", 1),
    }
    for kind, keys in (
        (MeasureConfig, measure),
        (PolicyConfig, policy),
        (BudgetConfig, budget),
        (MachineConfig, machine),
        (WorkloadShape, shape),
    ):
        _agree(kind.__name__, tuple(keys), tuple(field.name for field in fields(kind)))
    _agree("replay", tuple(replayed), replay.KEYS)
    _agree("a slow node", tuple(slow), replay.SLOW_KEYS)
    _agree("a recorded workload", tuple(record), recorded.KEYS)
    sizes = {
        "min": _size("The smallest."),
        "max": _size("The largest."),
        "per_octave": count("How many of the grid lie between a size and its double.", 1, MAX_PER_OCTAVE)
        | {"default": SizeRange(1, 1).per_octave},
    }
    return {
        "machine": ("The machine that the config is for.", machine, tuple(machine)),
        "sizes": ("The grid of sizes; a `replay` may leave out its ends.", sizes, tuple(sizes)),
        "shape": ("One shape of the workload.", shape, tuple(key for key in shape if key not in {"shape", "dtype"})),
        "recorded": ("A workload as serving recorded it.", record, ("top",)),
        "measure": ("How a point is measured.", _defaults(measure, MeasureConfig()), tuple(measure)),
        "policy": ("What a candidate must prove.", _defaults(policy, PolicyConfig()), tuple(policy)),
        "budget": ("What ends a sweep.", budget, tuple(budget)),
        "replay": ("A file instead of a machine.", replayed, tuple(key for key in replayed if key != "file")),
        "slow": ("A node of a replay that is made slower.", slow, ("from",)),
    }


def config_page() -> str:
    """The same as a page for readers, in Markdown."""
    schema = config_schema()
    return page(_PAGE_HEAD, "The file", schema, schema["$defs"])


def _agree(what: str, words: tuple[str, ...], read: tuple[str, ...]) -> None:
    # The reader takes exactly these keys: a new one without its words here is a mistake.
    if words != read:
        raise AssertionError(f"the schema of {what} has the keys {words}, configs are read with {read}")


def _defaults(keys: dict[str, Json], values: Any) -> dict[str, Json]:
    known = {key: getattr(values, key) for key in keys}
    return {key: own if known[key] is None else own | {"default": known[key]} for key, own in keys.items()}


def _list(items: Json, about: str, default: list[str] | None = None) -> Json:
    known = {} if default is None else {"default": default}
    return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True, **known, "description": about}


def _flag(about: str) -> Json:
    return {"type": "boolean", "default": False, "description": about}


def _size(about: str) -> Json:
    return {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*[A-Za-z]*\\s*$"},
        ],
        "description": about,
    }
