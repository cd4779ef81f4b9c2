"""`explain`: one call, with the reasons."""

from __future__ import annotations

import argparse

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.units import parse_size
from ccl_dispatch.runtime.vocabulary import COLLECTIVES, DIMS, ITEMSIZE, MODES, dtype_name
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.sizes import shape_size

EXAMPLE = "ccl-dispatch explain TABLE --shape 4,32320 --dtype bfloat16 --world-size 8 --mode graph"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--shape", metavar="4,32320", help="the shape of one rank's input")
    size.add_argument("--size", metavar="64KiB", help="per-rank input bytes")
    parser.add_argument("--dtype", required=True, metavar="NAME", help="as torch calls it")
    parser.add_argument("--world-size", required=True, type=int, metavar="N")
    parser.add_argument("--mode", default=MODES[0], choices=MODES)
    parser.add_argument("--dim", default=DIMS[0], choices=DIMS)
    parser.add_argument("--collective", default=COLLECTIVES[0], choices=COLLECTIVES)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the explanation."""
    dtype = dtype_name(options.dtype)
    if dtype not in ITEMSIZE:
        raise UsageError(f"--dtype {options.dtype}: no such dtype. {nearest(dtype, ITEMSIZE)}")
    if options.world_size < 1:
        raise UsageError(f"--world-size {options.world_size}: expected at least 1")
    shape = None
    try:
        if options.shape is not None:
            shape = tuple(int(extent) for extent in options.shape.strip("[]()").replace("x", ",").split(","))
            size = shape_size(shape, dtype)
        else:
            size = parse_size(int(options.size) if options.size.isdigit() else options.size)
    except ValueError as problem:
        raise UsageError(f"--shape or --size: {problem}. Expected such as --shape 4,32320 or --size '64 KiB'") from None
    table = load_table(options.table)
    explanation = table.explain(
        options.collective, options.world_size, size, dtype=dtype, mode=options.mode, dim=options.dim, shape=shape
    )
    if options.json:
        print_json(explanation.to_json())
    else:
        print("\n".join(explanation.lines()))
    return 0
