"""What the readers of logs share: what is asked of them, what they give, lines without what launchers add."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ccl_dispatch.tuner.measurements.rows import ExcludedRow, Row

PLACEMENTS = ("out_of_place", "in_place")

# What `srun --label` (`3: `), Open MPI's `--tag-output` (`[1,0]<stdout>:`), torchrun's `--tee` (`[default0]:`) and log
# collectors (a timestamp) write before each line; several may stand one behind the other.
_PREFIX = re.compile(
    r"\s*(?:\d+:(?=\s|#|$)|\[\d+,\d+\]<std(?:out|err)>:|\[default\d+\]:|\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d)?(?=\s))"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class LogHints:
    """What the user says where a log does not.

    Attributes:
        backend: the name of the one backend that an nccl-tests log is about; empty takes it from the log.
        collective: the collective, for a log that does not name the program that printed it.
        world_size: the number of ranks, 0 when the log says it.
        placement: which columns of an nccl-tests log are taken, of `PLACEMENTS`.
        platform: the machine, for files that don't say it or say it each in its own words.
    """

    backend: str = ""
    collective: str = ""
    world_size: int = 0
    placement: str = PLACEMENTS[0]
    platform: str = ""


@dataclass(frozen=True)
class LogReading:
    """What one file gave.

    Attributes:
        rows: the measurements, sizes in per-rank input bytes, in file order.
        notes: what was read and how: the unit of the sizes, what the latencies are.
        problems: line (1-based) and what is wrong there, for each line or table that was left out.
        timing: how calls were timed, of `vocabulary.TIMINGS`; empty when the file does not say.
        exclusions: what may not be used where, in file order.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()
    timing: str = ""
    exclusions: tuple[ExcludedRow, ...] = ()


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1, without colours and without what a launcher put before it."""
    for number, line in enumerate(text.split("\n"), start=1):
        bare = _ESCAPES.sub("", line).rstrip()
        while match := _PREFIX.match(bare):
            bare = bare[match.end() :]
        yield number, bare


def latency_us(text: str) -> float:
    """A latency as a log prints it.

    Raises:
        ValueError: it is no number of microseconds above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"time {text[:60]!r}, expected a number of microseconds above 0")
    return value
