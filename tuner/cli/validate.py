"""`validate`: is a table whole and sound?"""

from __future__ import annotations

import argparse

from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.emit.shipping import shipping_problems

EXAMPLE = "ccl-dispatch validate tables/*.yaml"
NO = "a table is not valid, or not to be shipped"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="table files")
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="also: canonical, measured, of a known platform and named after it, with its samples beside it",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Check every table; 1 when one of them is not valid."""
    findings = []
    for name in options.tables:
        try:
            table = load_table(name)
        except TableError as problem:
            findings.append({"table": name, "valid": False, "problem": str(problem)})
            continue
        problems = shipping_problems(name) if options.shipped else []
        if problems:
            told = f"{name}: valid, but not to be shipped" + "".join(f"\n  {problem}" for problem in problems)
            findings.append({"table": name, "valid": False, "problem": told})
        else:
            findings.append({"table": name, "valid": True, "digest": table.digest, "cells": len(table.cells)})
    if options.json:
        print_json(findings)
    else:
        for finding in findings:
            print(f"{finding['table']}: valid, {finding['digest']}" if finding["valid"] else finding["problem"])
    return 0 if all(finding["valid"] for finding in findings) else 1
