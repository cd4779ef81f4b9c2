"""`verify`: is a table still right on this machine?"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from ccl_dispatch.runtime.errors import CclDispatchError, OutputError, UsageError
from ccl_dispatch.tuner.cli.export import rows_of
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.cli.places import check_apart, check_writable, closed_log, make_folder, no_empty_folders
from ccl_dispatch.tuner.cli.sweep import config_path
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.files import try_to_write
from ccl_dispatch.tuner.kinds import MEASUREMENTS, TABLE
from ccl_dispatch.tuner.measurements.csv_file import write_measurements
from ccl_dispatch.tuner.progress import choose_progress
from ccl_dispatch.tuner.verify.keep import keep_reference
from ccl_dispatch.tuner.verify.reference import reference_path
from ccl_dispatch.tuner.verify.run import Verified, verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions
from ccl_dispatch.tuner.verify.update import Update, update_path, update_table
from ccl_dispatch.tuner.verify.verdict import DRIFTED, WRONG, Verification

EXAMPLE = "ccl-dispatch verify runs/cpu/table.yaml --seconds 60"
NO = (
    "a cell drifted or is wrong (3: measuring failed, time did not suffice to be sure, or the table is right and what "
    "--csv, --keep or --update was to do failed)"
)
_DEFAULTS = VerifyOptions()


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("table", metavar="TABLE", help="the table to verify; it is never changed unless --out names it")
    parser.add_argument("--config", metavar="CONFIG", help="how to measure: a config, or a shipped one's name")
    parser.add_argument("--storage", metavar="URL", help="the table's samples (default: study.journal beside it)")
    parser.add_argument("--study", metavar="NAME", help="which study, when the storage has several")
    parser.add_argument(
        "--reference",
        metavar="FILE.json",
        help="earlier visits to compare with (default: TABLE.reference.json); --keep makes it where there is none",
    )
    parser.add_argument(
        "--keep", action="store_true", help="add this run's visits to the reference, where all is still right"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_DEFAULTS.seconds,
        metavar="SECONDS",
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
    parser.add_argument(
        "--logs",
        metavar="FOLDER",
        help="where workers log (default: the logs/ of a sweep beside the table, else a temporary folder, which stays "
        "if something was logged)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)


@dataclass(frozen=True)
class _Files:
    """What is written besides the verdict (samples, visits that are kept, the updated table); None for what is not."""

    csv: Path | None
    kept: Path | None
    out: Path | None

    def folders(self) -> tuple[Path, ...]:
        """Where they go."""
        return tuple(file.parent for file in (self.csv, self.kept, self.out) if file is not None)

    def check(self) -> None:
        """See that they can be written.

        Raises:
            UsageError: one of them can't.
        """
        named = ((self.out, "--out", TABLE), (self.csv, "--csv", MEASUREMENTS), (self.kept, "--reference", ""))
        for file, option, kind in named:
            if file is not None:
                check_writable(file, option, kind)


@dataclass
class _Besides:
    """What was done besides the verdict, and what failed of it, in sentences."""

    kept: str | None = None
    update: Update | None = None
    failed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def may_fail(self) -> Iterator[None]:
        """What fails within is told after the verdict, which it must not cost, nor what else is to be done."""
        try:
            yield
        except (CclDispatchError, OSError) as problem:
            self.failed.append(str(problem))


def run(options: argparse.Namespace) -> int:
    """Print the verdict; 0 still right, 1 drifted or wrong, 3 not sure (2 and 3 as for every verb besides).

    Where the table is still right and something that was asked for besides failed, 3 as well.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # So that NaN, with which every comparison fails, is refused as well.
    if not (0 < options.seconds < math.inf and 0 < options.seen < math.inf):
        raise UsageError(
            f"--seconds {options.seconds:g} --seen {options.seen:g}: expected numbers above 0, and not without end"
        )
    path = Path(options.table)
    out = Path(options.out) if options.out else update_path(path)
    csv = Path(options.csv) if options.csv else None
    reference = None if options.reference is None else Path(options.reference)
    if options.out and not options.update:
        raise UsageError("--out names what --update writes; give --update as well")
    config = None if options.config is None else load_config(config_path(options.config))
    # A table that was replayed is refused without a config.
    replayed = config is not None and config.replay is not None
    wanted = VerifyOptions(
        config=config,
        storage=options.storage,
        study=options.study,
        reference=reference,
        keep=options.keep,
        seconds=options.seconds,
        seen=options.seen,
        seed=int(time.time()) if options.seed is None else options.seed,
    )
    check_apart(
        {
            "TABLE": path,
            "--csv": csv,
            "--out": out if options.update and out != path else None,
            "--reference": reference,
        }
    )
    files = _Files(csv, (reference or reference_path(path)) if options.keep else None, out if options.update else None)
    # What a run that is refused has made, it takes away again.
    with no_empty_folders(*files.folders()), _log_folder(options.logs, path, replayed=replayed) as logs:
        # Before minutes of measuring rather than after.
        files.check()
        verified = verify_table(path, wanted, logs, (lambda _: None) if options.quiet else _say)
        besides = _Besides()
        try:
            _do_besides(verified, files, logs, besides, quiet=options.quiet)
        finally:
            # Also when an update is interrupted: minutes of measuring have their answer by now.
            _print_verdict(verified.verification, besides, as_json=options.json)
    verification = verified.verification
    if verification.verdict in (WRONG, DRIFTED):
        return 1
    return OutputError.exit_code if besides.failed else verification.exit_code


def _do_besides(verified: Verified, files: _Files, logs: Path, besides: _Besides, *, quiet: bool) -> None:
    """Write what was measured, keep it, tune anew: each, whether or not the one before could be done."""
    if files.csv is not None:
        with besides.may_fail():
            rows = rows_of(verified.results, verified.setup.platform.device, verified.verification.provenance)
            write_measurements(rows, str(files.csv))
    if files.kept is not None:
        with besides.may_fail():
            besides.kept = keep_reference(verified, files.kept)
    if files.out is not None:
        with besides.may_fail():
            besides.update = update_table(verified, files.out, logs, choose_progress(quiet=quiet))


def _print_verdict(verification: Verification, besides: _Besides, *, as_json: bool) -> None:
    kept, update = besides.kept, besides.update
    if as_json:
        done = {"kept": kept, "update": None if update is None else update.to_json()}
        done = {name: value for name, value in done.items() if value is not None}
        print_json({**verification.to_json(), **done, "failed": besides.failed})
    else:
        lines = [*verification.lines()]
        told = [] if kept is None else [kept]
        print("\n".join([*lines[:-1], *told, *([] if update is None else update.lines()), lines[-1]]), flush=True)
    for problem in besides.failed:
        print(f"ccl-dispatch verify: {problem}", file=sys.stderr)


@contextlib.contextmanager
def _log_folder(wanted: str | None, table: Path, *, replayed: bool) -> Iterator[Path]:
    """Where workers log.

    Without a folder that was asked for it is the one beside the table that a sweep has made, if it can be written to.
    Else, as in the folder of shipped tables or of another user, it is one of this run alone: it stays, and is named,
    where something was logged.
    """
    beside = table.parent / "logs"
    if wanted is not None:
        make_folder(Path(wanted), "--logs")
        if not _takes_logs(Path(wanted)):
            raise UsageError(f"logs can't be written in {wanted}, or not to those that are there. Give another --logs")
        yield Path(wanted)
    elif replayed or _takes_logs(beside):
        yield beside
    else:
        try:
            own = Path(tempfile.mkdtemp(prefix="ccl-dispatch-verify-"))
        except OSError as problem:
            raise UsageError(f"there is no folder for the workers' logs: {problem}. Give --logs FOLDER") from problem
        try:
            yield own
        finally:
            if any(log.stat().st_size for log in own.iterdir()):
                print(f"the workers' logs are in {own}", file=sys.stderr)
            else:
                shutil.rmtree(own, ignore_errors=True)


def _takes_logs(folder: Path) -> bool:
    """Whether workers can log there, also into the logs of others that are there already."""
    if not folder.is_dir() or closed_log(folder) is not None:
        return False
    try:
        try_to_write(str(folder / "nursery.log"))
    except OSError:
        return False
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
