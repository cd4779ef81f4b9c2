"""Lines of a journal that are not what Optuna wrote: where they are, and what keeps the samples of all others.

A journal numbers trials by counting the lines that make them. Without such a line each later one would say of another
trial what it says, so one that is damaged is replaced by another of its kind; any other is left out.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ccl_dispatch.tuner.study.lines import checked

# Optuna's numbers for what a line does; the name of a study and what it is for are in lines that nothing stands in for.
_MAKES_STUDY, _DESCRIBES_STUDY, _MAKES_TRIAL = 0, 2, 4
# What is above has a key of its own.
_LAST_OF_TRIALS = 9
_OPERATION = re.compile(rb'\{"op_code": ?(\d+),')
# More than that is no slip of a disk.
_MOST = 20


class Damage(NamedTuple):
    """The damaged lines of a journal, and how to get past them.

    Attributes:
        lines: their numbers, from 1.
        whole: how many lines are not damaged.
        reason: what is wrong with the first one.
        script: what `sed` has to do to each of them; empty when that would not help.
    """

    lines: tuple[int, ...]
    whole: int
    reason: str
    script: tuple[str, ...]

    def words(self, journal: Path) -> str:
        """The damage and the remedy in words."""
        first, *others = self.lines
        more = f", as are {len(others)} more ({', '.join(map(str, others[:_MOST]))})" if others else ""
        found = f"{journal}:{first}: this line of the journal is damaged{more}: {self.reason}"
        if not self.script:
            return f"{found}. What it said can't be done without: take the journal back from a copy, or move it away"
        mended = journal.with_name(f"{journal.stem}.mended{journal.suffix}")
        script = " ".join(f"-e {shlex.quote(command)}" for command in self.script)
        return (
            f"{found}. The other {self.whole} are whole, and a copy in which it is left out or replaced keeps their "
            f"samples: sed {script} {shlex.quote(str(journal))} > {shlex.quote(str(mended))}; then give --storage "
            f"{shlex.quote(str(mended))}"
        )


def find_damage(journal: Path, failing: Mapping[int, str] = MappingProxyType({})) -> Damage | None:
    """What is damaged in a journal, None when each line is JSON, has its checksum and what its operation needs.

    Args:
        failing: lines that are known to be damaged, and why.

    Raises:
        OSError: it can't be read.
    """
    numbers: list[int] = []
    damaged: dict[int, bytes] = {}
    reason, whole = "", 0
    lines = journal.read_bytes().removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            _check(checked(json.loads(line), line))
            if number in failing:
                raise ValueError(failing[number])
            whole += 1
        except ValueError as problem:
            reason = reason or _reason(problem)
            numbers.append(number)
            damaged[number] = line
    if not numbers:
        return None
    makes = _making_trials(lines, damaged)
    return Damage(tuple(numbers), whole, reason, () if makes is None else tuple(_script(numbers, makes)))


def _script(numbers: list[int], makes: Mapping[int, str]) -> Iterator[str]:
    for number in numbers:
        yield f"{number}c {makes[number]}" if number in makes else f"{number}d"


def _making_trials(lines: list[bytes], damaged: Mapping[int, bytes]) -> dict[int, str] | None:
    """The damaged lines that made trials, and what to put there; None when leaving out and replacing don't help."""
    if len(damaged) > _MOST:
        return None
    makes: set[int] = set()
    unknown: list[int] = []
    trials = studies = 0
    templates: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        if number in damaged:
            operation = _meant(line)
            if operation in {_MAKES_STUDY, _DESCRIBES_STUDY}:
                return None
            if operation == _MAKES_TRIAL:
                makes.add(number)
                trials += 1
            elif operation is None:
                unknown.append(number)
            continue
        found: dict[str, Any] = json.loads(line)
        operation = found.get("op_code")
        studies += operation == _MAKES_STUDY
        # A trial that no line made: the last ones that can't be read did.
        while found.get("trial_id", -1) >= trials and unknown:
            makes.add(unknown.pop())
            trials += 1
        if found.get("trial_id", -1) >= trials or found.get("study_id", -1) >= studies:
            return None
        if operation == _MAKES_TRIAL:
            trials += 1
            templates.setdefault(found["study_id"], line.decode())
    # Of several studies it is not known which one the trial belonged to.
    if makes and len(templates) != 1:
        return None
    return dict.fromkeys(makes, next(iter(templates.values()), ""))


def _meant(line: bytes) -> int | None:
    """The operation of a damaged line: by its keys, which say more than a number that may be what is damaged."""
    if b'"study_name":' in line:
        return _MAKES_STUDY
    if b'"datetime_start":' in line:
        return _MAKES_TRIAL
    if b'"study_id":' in line and b'"user_attr":' in line:
        return _DESCRIBES_STUDY
    begins = _OPERATION.match(line)
    operation = int(begins.group(1)) if begins else None
    return None if operation == _MAKES_TRIAL and b'"trial_id":' in line else operation


def _check(found: Mapping[str, Any]) -> None:
    operation = found["op_code"]
    needed = "study_name" if operation == _MAKES_STUDY else "study_id" if operation <= _MAKES_TRIAL else "trial_id"
    if operation <= _LAST_OF_TRIALS and needed not in found:
        raise ValueError(f"it has no {needed}")


def _reason(problem: ValueError) -> str:
    if isinstance(problem, json.JSONDecodeError):
        return f"{problem.msg} at its character {problem.pos + 1}"
    return str(problem)
