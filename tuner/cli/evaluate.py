"""`evaluate`: a table against measurements that it has not seen."""

from __future__ import annotations

import argparse

from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.tuner.cli.options import add_json, add_where, print_json, where
from ccl_dispatch.tuner.measurements.csv_file import read_measurements
from ccl_dispatch.tuner.measurements.evaluate import evaluate

EXAMPLE = "ccl-dispatch evaluate table.yaml measured-later.csv"
NO = "the table uses a backend where the measurements exclude it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE", help="the table to judge")
    parser.add_argument("measurements", metavar="MEASUREMENTS.csv", help="what it has not seen, as `export` writes it")
    add_where(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print mean and worst slowdown of the table, of always the baseline, and of always a candidate.

    Exit code 1 when the table uses what the measurements exclude.
    """
    evaluation = evaluate(load_table(options.table), read_measurements(options.measurements, where(options)))
    if options.json:
        print_json(evaluation.to_json())
    else:
        print("\n".join(evaluation.lines()))
    return 1 if evaluation.misuses else 0
