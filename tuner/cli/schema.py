"""`schema`: the formats of tables, configs and events, and the commands, for editors and for readers."""

from __future__ import annotations

import argparse

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.cli.options import print_json

EXAMPLE = "ccl-dispatch schema > table-v1.schema.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--of", default="table", choices=("table", "config", "events", "commands"), help="what is told")
    parser.add_argument("--page", action="store_true", help="as a Markdown page instead of a JSON Schema")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.of == "commands":
        if not options.page:
            raise UsageError("commands have no JSON Schema. Add --page")
        from ccl_dispatch.tuner.cli.commands import commands_page

        print(commands_page(), end="")
        return 0
    if options.of == "config":
        from ccl_dispatch.tuner.schemas.config import config_page as page
        from ccl_dispatch.tuner.schemas.config import config_schema as schema
    elif options.of == "events":
        from ccl_dispatch.tuner.schemas.events import event_page as page
        from ccl_dispatch.tuner.schemas.events import event_schema as schema
    else:
        from ccl_dispatch.tuner.schemas.table import table_page as page
        from ccl_dispatch.tuner.schemas.table import table_schema as schema
    if options.page:
        print(page(), end="")
    else:
        print_json(schema())
    return 0
