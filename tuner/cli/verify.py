"""`verify`: is a table still right on this machine?"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import optuna

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.cli.export import rows_of
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.cli.places import check_apart, check_writable
from ccl_dispatch.tuner.cli.sweep import config_path
from ccl_dispatch.tuner.config import load_config
from ccl_dispatch.tuner.kinds import MEASUREMENTS, TABLE
from ccl_dispatch.tuner.measurements import write_measurements
from ccl_dispatch.tuner.progress import choose_progress
from ccl_dispatch.tuner.verify.keep import keep_reference
from ccl_dispatch.tuner.verify.run import verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions
from ccl_dispatch.tuner.verify.update import update_path, update_table
from ccl_dispatch.tuner.verify.verdict import DRIFTED, WRONG

EXAMPLE = "ccl-dispatch verify runs/cpu/table.yaml --seconds 60"
NO = "a cell drifted or is wrong (3: measuring failed, or time did not suffice to be sure)"
_DEFAULTS = VerifyOptions()


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE", help="the table to verify; it is never changed unless --out names it")
    parser.add_argument("--config", metavar="CONFIG", help="how to measure: a config, or a shipped one's name")
    parser.add_argument("--storage", metavar="URL", help="the table's samples (default: study.journal beside it)")
    parser.add_argument("--study", metavar="NAME", help="which study, when the storage has several")
    parser.add_argument(
        "--reference", metavar="FILE.json", help="earlier visits to compare with (default: TABLE.reference.json)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="add this run's visits to the reference, unless something is wrong"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_DEFAULTS.seconds,
        metavar="S",
        help="of wall time at most (default: %(default)g)",
    )
    parser.add_argument(
        "--seen",
        type=float,
        default=_DEFAULTS.seen,
        metavar="SHARE",
        help="go on until changes of this share would be seen, where there is time (default: %(default)g)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the random sizes and the order (default: the time)")
    parser.add_argument("--csv", metavar="FILE.csv", help="write all that was measured as a measurement CSV")
    parser.add_argument("--update", action="store_true", help="tune anew what drifted or is wrong, into another table")
    parser.add_argument("--out", metavar="TABLE.yaml", help="where --update writes (default: TABLE.updated.yaml)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the verdict; 0 still right, 1 drifted or wrong, 3 not sure (2 and 3 as for every verb besides)."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # So that NaN, with which every comparison fails, is refused as well.
    if not (0 < options.seconds < math.inf and 0 < options.seen < math.inf):
        raise UsageError(
            f"--seconds {options.seconds:g} --seen {options.seen:g}: expected numbers above 0, and not without end"
        )
    path = Path(options.table)
    out = Path(options.out) if options.out else update_path(path)
    csv = Path(options.csv) if options.csv else None
    check_apart({"TABLE": path, "--csv": csv, "--out": out if options.update and out != path else None})
    if options.update:
        check_writable(out, "--out", TABLE)
    elif options.out:
        raise UsageError("--out names what --update writes; give --update as well")
    if csv is not None:
        check_writable(csv, "--csv", MEASUREMENTS)
    config = None if options.config is None else load_config(config_path(options.config))
    wanted = VerifyOptions(
        config=config,
        storage=options.storage,
        study=options.study,
        reference=None if options.reference is None else Path(options.reference),
        seconds=options.seconds,
        seen=options.seen,
        seed=int(time.time()) if options.seed is None else options.seed,
    )
    logs = path.parent / "logs"
    verified = verify_table(path, wanted, logs, (lambda _: None) if options.quiet else _say)
    verification = verified.verification
    told = []
    if options.keep:
        told.append(keep_reference(verified, wanted.reference))
    if options.csv:
        rows = rows_of(verified.results, verified.setup.platform.device, verification.provenance)
        write_measurements(rows, options.csv)
    update = update_table(verified, out, logs, choose_progress(quiet=options.quiet)) if options.update else None
    if options.json:
        more = {} if update is None else {"update": update.to_json()}
        print_json({**verification.to_json(), **({"kept": told[0]} if told else {}), **more})
    else:
        lines = [*verification.lines()]
        print("\n".join([*lines[:-1], *told, *([] if update is None else update.lines()), lines[-1]]))
    return 1 if verification.verdict in (WRONG, DRIFTED) else verification.exit_code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
