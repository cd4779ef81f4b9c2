"""What a study says beside its samples to people who open it in optuna-dashboard, or as a data frame.

Nothing here is read back. What a trial says in its parameters is for samplers: an index of a size, not the size.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage

from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.tuner.samples import PointResult
from ccl_dispatch.tuner.statistics import Interval
from ccl_dispatch.tuner.study.meta import StudyMeta

# Where optuna-dashboard keeps the note of a study (its `_note.py`, 0.13 to 0.21): a version, and the text in pieces of
# at most 2,045 characters. Written here by hand, since the dashboard is no dependency of measuring.
_NOTE_VERSION = "dashboard:note_ver"
_NOTE_TEXT = "dashboard:note_str:0"
_NOTE_LENGTH = 2045


def describe_study(study: optuna.Study, storage: BaseStorage, meta: StudyMeta) -> None:
    """Name the objective, and leave a note on what the study is. Called once, when it is made."""
    with warnings.catch_warnings():
        # Naming metrics is what Optuna calls experimental; should it go, a name is all that is lost.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"log(T {meta.baseline} / T of the best candidate)"])
    number = storage.get_study_id_from_name(study.study_name)
    storage.set_study_system_attr(number, _NOTE_TEXT, study_note(meta)[:_NOTE_LENGTH])
    storage.set_study_system_attr(number, _NOTE_VERSION, 1)


def study_note(meta: StudyMeta) -> str:
    """The note, in Markdown."""
    platform = meta.platform
    where = f"{platform.device_count or '?'} x {platform.device or 'unknown'} ({platform.architecture or '?'})"
    gains = ", ".join(f"`{gain_key(name)}`" for name in meta.candidates)
    return f"""\
# {meta.name}: {" or ".join(meta.candidates)} instead of {meta.baseline}

Made by ccl-dispatch, {meta.provenance} on {where}. A candidate must gain {meta.policy.min_gain:.1%} with
{meta.policy.confidence:.0%} confidence.

A trial is one visit of a point, which is one size in one cell. Its value is the log-ratio
log(T {meta.baseline} / T of the best candidate): above 0 the candidate is faster. Trials do not get better with time,
they go where the table is in doubt. A pruned trial is a point at which no candidate could be timed.

In the plots choose {gains} (per cent faster than {meta.baseline}): in the history as y axis, in the slice plot as
objective over `size_index`. `size_bytes` is the per-rank input. `finding` says in words what a point showed, `result`
holds all its samples. `repeats` is how many repetitions were asked for; a visit may end earlier. `ccl-dispatch build`
makes the table of the study, `ccl-dispatch report` a page with its curves.
"""


def trial_attributes(meta: StudyMeta, result: PointResult, verdicts: Mapping[str, Interval]) -> dict[str, Any]:
    """What a point's trial says of it. Few, since each is a write of its own."""
    gains = {gain_key(name): round(100 * math.expm1(found.median), 2) for name, found in verdicts.items()}
    count = max((len(values) for values in result.latencies_us.values()), default=0)
    text = f"{result.cell.name} at {short_size(result.size)}: {finding(result, verdicts, meta.baseline)}"
    return {"size_bytes": result.size, **gains, "finding": f"{text}; {count} repetitions, {result.stopped_by}"}


def gain_key(candidate: str) -> str:
    """The attribute that has T(baseline)/T(candidate) - 1 at a point, in per cent."""
    return f"gain_percent_{candidate}"


def finding(result: PointResult, verdicts: Mapping[str, Interval], baseline: str) -> str:
    """What a point showed: the best candidate against the baseline, and which backends could not be timed."""
    parts = []
    best = max(verdicts, key=lambda name: verdicts[name].median, default="")
    if best:
        median = verdicts[best].median
        word = "faster" if median >= 0 else "slower"
        parts.append(f"{best} {math.exp(abs(median)):.2f}x {word} than {baseline}")
    parts += [f"{item.backend} excluded: {item.reason}" for item in result.exclusions]
    return "; ".join(parts) or "nothing timed"
