"""The events of a sweep (`sweep --events`) for programs and for readers: a JSON Schema and a page.

Each event is a line of its own. The schema is of one event; which keys it has depends on its `event`.
"""

from __future__ import annotations

from ccl_dispatch.runtime.table import EXCLUSION_REASONS
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES
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

# Here, where nothing needs numpy, so that the format can be asked for where the runtime alone is installed.
SCHEMA = "ccl-dispatch/event/v1"

_PAGE_HEAD = f"""\
# The events of a sweep

`ccl-dispatch sweep CONFIG --events FILE` appends one JSON object per line to FILE while it runs
([JSON Lines](https://jsonlines.org)); with `--events -` they are all that goes to standard output. The schema is
`{SCHEMA}`. New keys and kinds may come under it, so a reader passes over what it does not know. Written by
`ccl-dispatch schema --of events --page`; programs have [events.schema.json](events.schema.json)
(`ccl-dispatch schema --of events`). All sizes are per-rank input bytes.

The order is `started`, `plan`; for each point `asked`, `point`, any `fault` and `exclusion`, `outlook`; then `stopped`,
`table`, `ended`. `ended` is the last event of a run and says how it ended, also after Ctrl-C, SIGTERM, SIGHUP or a
failure: a run without it was killed, or its reader was. The command that continues an interrupted sweep is another
`run`, and its events are appended to the same file.

Each line is written at once. When its reader has gone or the disk is full, the sweep says so once and goes on without.
A reader that stops reading and keeps its pipe open holds the sweep up.
"""

STOPS = ("searched", "regret", "seconds", "executions")
ENDS = ("done", "interrupted", "failed")


def event_schema() -> Json:
    """The JSON Schema (draft 2020-12) of one event."""
    parts = _events()
    return {
        "$schema": DIALECT,
        "title": f"Event of a sweep of ccl-dispatch, {SCHEMA}",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in parts],
        "$defs": {
            **{name: mapping(about, {**_head(name), **keys}) for name, (about, keys) in parts.items()},
            **{name: mapping(about, keys) for name, (about, keys) in _inner().items()},
        },
    }


def event_page() -> str:
    """The same as a page for readers, in Markdown."""
    top = mapping("What every event has.", _head(""))
    return page(_PAGE_HEAD, "every event", top, {name: mapping(*own) for name, own in (_events() | _inner()).items()})


def _head(name: str) -> dict[str, Json]:
    kind = {"const": name} if name else {"type": "string"}
    return {
        "schema": {"const": SCHEMA, "description": "The version of this format."},
        "event": {**kind, "description": "Which kind of event this is."},
        "seq": count("The number of the event in its run, from 0."),
        "time": {
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
            "description": "When it happened, in UTC.",
        },
        "seconds": _amount("Since the run began, by a clock that nobody sets."),
        "study": text("The study's name, which is the config's."),
        "run": text("This run of the command: eight hexadecimal digits by chance."),
        "node": text("The host's name."),
    }


def _events() -> dict[str, tuple[str, dict[str, Json]]]:
    """Kind of each event to its description and the keys of its own."""
    where = {
        "trial": count("The number of the point's trial in the study."),
        "cell": text("The cell, as one word."),
        "size": count("Its size.", 1),
    }
    return {
        "started": (
            "The command runs; it looks at the storage and the machine next.",
            {
                "version": text("Of ccl-dispatch."),
                "pid": count("The process.", 1),
                "config": text("The config's file."),
                "config_digest": text("Of what decides the meaning of samples."),
                "provenance": one_of(("measured", "replayed"), "Whether a machine is measured or a file replayed."),
                "storage": text("Where samples go, without a password."),
                "out": text("Where the table goes."),
            },
        ),
        "plan": (
            "What may be measured. Workers are started after it.",
            {
                "baseline": text("The backend that is used when in doubt."),
                "candidates": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Those that may replace it.",
                },
                "cells": several("cell", "The cells with their sizes."),
                "budget": part("budget", "What ends the sweep."),
                "known_points": count("Visits that earlier runs have made."),
            },
        ),
        "asked": ("A point is measured from now on.", where),
        "point": (
            "A point was measured, and its samples are stored.",
            {
                **where,
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "description": "The workload's shape that has this size; empty for a size of the grid.",
                },
                "stopped_by": text("What ended its repetitions: `settled`, `samples`, `seconds`, `excluded`."),
                "samples": count("Repetitions, each of which ran every backend."),
                "executions": _by_backend("integer", "How often each backend's collective ran, warm-up included."),
                "point_seconds": _amount("Seconds that the point took (virtual when replayed)."),
                "collective_seconds": _amount("Those of them in collectives and their barriers."),
                "median_us": _by_backend("number", "Median latency of each backend in microseconds."),
                "gains": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/gain"},
                    "description": "By candidate that was timed.",
                },
            },
        ),
        "fault": (
            "Something went wrong while the point was measured, and was got over; told with the point.",
            {
                **where,
                "backend": {"type": "string", "description": "What the rank was running; empty when it ran none."},
                "reason": text("`crashed`, `hung`, `raised`, `wrong_output`."),
                "rank": count("The rank that failed."),
                "detail": {"type": "string", "description": "What happened, in one line."},
                "log": {"type": "string", "description": "The end of what the rank wrote to its log at this point."},
                "blamed": {
                    "type": "string",
                    "description": "The candidate that was excluded for it; empty when it went away on a retry.",
                },
            },
        ),
        "exclusion": (
            "A backend may not be used at a point.",
            {
                **where,
                "backend": text("The backend."),
                "reason": one_of(EXCLUSION_REASONS, "As in the table."),
                "detail": {"type": "string", "description": "In the words of whoever found it."},
            },
        ),
        "outlook": (
            "How far the search is after a point.",
            {
                "points": count("Visits in the study; a size that is visited again counts again."),
                "first_look": count("Points that the first look at all cells still needs."),
                "regret": _maybe("What more measuring may still win, before this point; null in the first look."),
                "about_seconds": _maybe(
                    "Until that meets the regret budget at the pace of late, or until the first "
                    "look is over; null where it is not known."
                ),
                "at_most_seconds": _maybe("Until a budget of seconds or executions is spent; null without one."),
                "halving_seconds": _maybe("In which what is left to win halved of late; null where that is not clear."),
            },
        ),
        "stopped": (
            "Nothing more is measured; the table comes next.",
            {
                "by": one_of(STOPS, "`searched`: nothing is worth measuring; else the budget that was met."),
                "points": count("Visits in the study; a size that is visited again counts again."),
                "regret": _maybe("What more measuring might still win; null where the first look was not over."),
            },
        ),
        "table": (
            "The table is written.",
            {
                "path": text("Its file."),
                "digest": text("Its digest."),
                "cells": several("decision", "What it decides."),
            },
        ),
        "ended": (
            "The last event of a run.",
            {
                "how": one_of(ENDS, "`done`: with a table. After `interrupted` the same command continues."),
                "message": {"type": "string", "description": "What failed; empty otherwise."},
                "summary": {
                    "type": ["object", "null"],
                    "description": "What `sweep --json` prints; null without a table.",
                },
            },
        ),
    }


def _inner() -> dict[str, tuple[str, dict[str, Json]]]:
    return {
        "cell": (
            "One curve along size.",
            {
                "cell": text("As one word."),
                "collective": one_of(COLLECTIVES, "The collective."),
                "mode": one_of(MODES, "How the call runs."),
                "dim": one_of(DIMS, "Which dimension is gathered."),
                "dtype": one_of(ITEMSIZE, "The element type."),
                "world_size": count("The number of ranks.", 1),
                "sizes": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "description": "The sizes that may be measured, rising.",
                },
            },
        ),
        "budget": (
            "Null where there is no limit.",
            {
                "regret": _maybe("What may be left to win."),
                "seconds": _maybe("Of measuring."),
                "executions": _maybe("Runs of collectives."),
            },
        ),
        "gain": (
            "T(baseline)/T(candidate) - 1 at a point.",
            {
                "gain": number("By the median.", exclusiveMinimum=-1),
                "low": _maybe("Its lower bound at the policy's confidence; null where samples are too few for one."),
                "high": _maybe("Its upper bound; likewise."),
            },
        ),
        "decision": (
            "One cell of the table.",
            {
                "cell": text("As one word."),
                "measured_from": count("The smallest size that was measured.", 1),
                "bands": several("band", "From small sizes to large ones."),
                "regret_estimate": _maybe("What choosing so may lose; null where nothing could be compared."),
            },
        ),
        "band": (
            "A run of sizes with one backend.",
            {
                "up_to": count("Its last size.", 1),
                "use": text("The backend."),
                "gain": _maybe("Over the backend that it was compared with; null where there is none."),
            },
        ),
    }


def _amount(about: str) -> Json:
    return number(about, minimum=0)


def _maybe(about: str) -> Json:
    return {"type": ["number", "null"], "description": about}


def _by_backend(kind: str, about: str) -> Json:
    return {"type": "object", "additionalProperties": {"type": kind, "minimum": 0}, "description": about}
