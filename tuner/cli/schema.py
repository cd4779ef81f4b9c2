"""`schema`: the table format, for editors and for readers."""

from __future__ import annotations

import argparse

from ccl_dispatch.tuner.cli.options import print_json
from ccl_dispatch.tuner.table_schema import table_page, table_schema

EXAMPLE = "ccl-dispatch schema > table-v1.schema.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--page", action="store_true", help="as a Markdown page instead of a JSON Schema")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.page:
        print(table_page(), end="")
    else:
        print_json(table_schema())
    return 0
