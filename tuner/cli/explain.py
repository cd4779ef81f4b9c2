"""`explain`: why this machine's table is or is not taken, key by key; and one call, with the reasons."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import NoTableError, PlatformMismatchError, UsageError
from ccl_dispatch.runtime.find import VARIABLE, Considered, search
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.platform import judge
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.switch import EDITED_VARIABLE, RECORD_VARIABLE, TIMEOUT_VARIABLE, Switch, read_switch
from ccl_dispatch.runtime.switch import VARIABLE as SWITCH
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import parse_size
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, dtype_name
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.evidence.faults import faults_of
from ccl_dispatch.tuner.sizes import shape_size

EXAMPLE = "ccl-dispatch explain TABLE --shape 4,32320 --dtype bfloat16 --world-size 8 --mode graph"
# States in which engines use no table, whichever fits: what they do then.
_IDLE = {
    "off": "engines use no table, and decide each call as they do without ccl-dispatch",
    "record": "engines use no table, decide each call as they do without ccl-dispatch, and count it",
}
_OF_A_CALL = ("dtype", "world_size", "mode", "dim", "collective")
NO = "no table is taken on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "table", metavar="TABLE", nargs="?", help="without one: what serving would find here, and why not the rest"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shape", metavar="4,32320", help="the shape of one rank's input")
    size.add_argument("--size", metavar="64KiB", help="per-rank input bytes")
    parser.add_argument("--dtype", metavar="NAME", help="as torch calls it")
    parser.add_argument("--world-size", type=int, metavar="N", help="how many ranks")
    # Without a default, so that one that was given is seen.
    parser.add_argument("--mode", choices=MODES, help=f"how the call runs (default: {MODES[0]})")
    parser.add_argument("--dim", choices=DIMS, help=f"which dimension is gathered (default: {DIMS[0]})")
    parser.add_argument("--collective", choices=COLLECTIVES, help=f"what is called (default: {COLLECTIVES[0]})")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the explanation; 1 when no table is taken, which programs are told as they are without a call."""
    if options.shape is None and options.size is None:
        given = [f"--{name.replace('_', '-')}" for name in _OF_A_CALL if getattr(options, name) is not None]
        if given:
            raise UsageError(
                f"{' and '.join(given)} without a size: expected a call, which is --shape or --size with --dtype and "
                "--world-size, and --mode, --dim and --collective where they are not the defaults. Without any of them "
                "explain says which table is taken here"
            )
        return _taken(options)
    if options.dtype is None or options.world_size is None:
        raise UsageError("a call needs --dtype and --world-size beside --shape or --size")
    options.mode, options.dim = options.mode or MODES[0], options.dim or DIMS[0]
    options.collective = options.collective or COLLECTIVES[0]
    try:
        table = load_table(options.table)
    except (NoTableError, PlatformMismatchError):
        if options.json:
            return _taken(options)
        raise
    return _call(options, table)


def _taken(options: argparse.Namespace) -> int:
    """Why a table is or is not taken on this machine: the named one, or all that serving would look at."""
    switch = read_switch()
    if options.table is None:
        for line in _misspelt(os.environ):
            print(line, file=sys.stderr)
        found = search(edited=switch.served_edited)
        considered, taken = found.considered, found.table
        lines = [f"looked in {', '.join(found.folders)}"] if found.folders else [f"${VARIABLE} names the table"]
        if found.problem is not None and taken is None and len(considered) != 1:
            first, _, rest = str(found.problem).partition("\n")
            lines.append(first.partition(". Looked in")[0])
            lines += [line for line in rest.splitlines() if line and not line.startswith(" ")]
    else:
        table = load_table(options.table)
        verdict = judge(table, this_platform(table.platform.device_type))
        considered = (Considered(options.table, table, verdict, ""),)
        taken = table if verdict.fits else None
        lines = []
    for item in considered:
        lines.append(f"{item.path}: {_word(item, taken, considered, switch)}")
        lines += [f"  {line}" for line in item.verdict.lines()] if item.verdict else [f"  {item.problem}"]
    if options.json:
        print_json(
            {
                "switch": switch.state,
                "taken": taken.source if taken and switch.state not in _IDLE else None,
                "considered": [_json(item) for item in considered],
            }
        )
    else:
        print("\n".join((*_idle(switch), *lines)))
    return 0 if taken is not None and switch.state not in _IDLE else 1


def _misspelt(environment: Iterable[str]) -> Iterator[str]:
    """A line for each variable that begins as ours do and is none: whoever set it takes it for obeyed."""
    ours = (SWITCH, VARIABLE, EDITED_VARIABLE, TIMEOUT_VARIABLE, RECORD_VARIABLE)
    for name in sorted(environment):
        if name.startswith(SWITCH) and name not in ours:
            yield f"${name} is set, and there is no such variable. {nearest(name, ours)}"


def _idle(switch: Switch) -> tuple[str, ...]:
    """The line that says why the environment lets no table be used here; none where it does."""
    return (f"${SWITCH} is {switch.state}: {_IDLE[switch.state]}",) if switch.state in _IDLE else ()


def _word(item: Considered, taken: Table | None, considered: Sequence[Considered], switch: Switch) -> str:
    if item.table is not None and item.table is taken:
        return f"would be taken, were ${SWITCH} not {switch.state}" if switch.state in _IDLE else "taken"
    if item.verdict is None:
        return "not taken, not valid"
    if not item.verdict.fits:
        return "not taken, does not fit"
    if taken is not None:
        return f"fits, but {taken.source} is taken"
    others = [other.path for other in considered if other is not item and other.verdict and other.verdict.fits]
    return f"fits, but so does {' and '.join(others)}"


def _json(item: Considered) -> dict[str, object]:
    found = {} if item.verdict is None else item.verdict._asdict()
    return {
        "path": item.path,
        "fits": bool(item.verdict and item.verdict.fits),
        "problem": item.problem,
        **{name: [list(finding) for finding in findings] for name, findings in found.items()},
    }


def _extent(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _call(options: argparse.Namespace, table: Table) -> int:
    dtype = dtype_name(options.dtype)
    if dtype not in ITEMSIZE:
        raise UsageError(f"--dtype {options.dtype}: no such dtype. {nearest(dtype, ITEMSIZE)}")
    if options.world_size < 1:
        raise UsageError(f"--world-size {options.world_size}: expected at least 1")
    shape = None
    try:
        if options.shape is not None:
            shape = tuple(_extent(part) for part in options.shape.strip("[]()").replace("x", ",").split(","))
            size = parse_size(shape_size(shape, dtype))
        else:
            size = parse_size(options.size)
    except ValueError as problem:
        raise UsageError(f"--shape or --size: {problem}. Expected such as --shape 4,32320 or --size '64 KiB'") from None
    explanation = table.explain(
        options.collective, options.world_size, size, dtype=dtype, mode=options.mode, dim=options.dim, shape=shape
    )
    faults = [
        group
        for group in faults_of(table)
        if group.cell == explanation.cell.name and group.low <= explanation.size <= group.high
    ]
    switch = read_switch()
    if options.json:
        print_json({"switch": switch.state, **explanation.to_json(), "faults": [asdict(group) for group in faults]})
    else:
        told = (line for group in faults for line in group.lines("fault: "))
        *lines, last = explanation.lines()
        idle = (f"{line}; the table says:" for line in _idle(switch))
        print("\n".join((*idle, *lines, _made_for(table), last, *told)))
    return 0


def _made_for(table: Table) -> str:
    """The platform in a line. Not whether it fits here: asking a GPU what it is takes seconds."""
    platform = table.platform
    count = f"{platform.device_count} x " if platform.device_count else ""
    link = f"linked by {platform.link}" if platform.link else ""
    where = ", ".join(text for text in (f"{count}{platform.device or 'unknown'}", platform.architecture, link) if text)
    return f"made for: {where}; without a call, explain says whether it fits this machine"
