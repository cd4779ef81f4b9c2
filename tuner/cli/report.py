"""`report`: a study and its table as one page, or as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import optuna

from ccl_dispatch.runtime.errors import OutputError, UsageError
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.cli.options import add_storage
from ccl_dispatch.tuner.cli.places import check_writable, no_empty_folders
from ccl_dispatch.tuner.cli.terminal import tell_who_watches
from ccl_dispatch.tuner.files import write_in_one_step
from ccl_dispatch.tuner.study import SweepStudy, open_storage

EXAMPLE = "ccl-dispatch report --storage runs/cpu/study.journal --out report.html"

_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg")


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_storage(parser)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the page, or the folder of the pictures; one new folder is made"
    )
    parser.add_argument(
        "--format", default="html", choices=("html", "png", "svg"), help="one page, or one picture per figure"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page or the pictures; the storage is only read."""
    # Before anything is read: whoever lacks matplotlib is told so at once.
    from ccl_dispatch.tuner.report.figures import picture, titled
    from ccl_dispatch.tuner.report.model import make_report
    from ccl_dispatch.tuner.report.page import page

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = Path(options.out)
    if options.format == "html" and out.suffix.lower() in _PICTURES:
        raise UsageError(
            f"--out {out} has the name of a picture, and without --format a report is one HTML page. Give --format png "
            "or svg, which makes a picture of each figure, with --out for their folder; or --out report.html"
        )
    folder = out.parent if options.format == "html" else out
    with no_empty_folders(folder):
        if options.format == "html":
            check_writable(out, "--out")
        else:
            _check_folder(out, options.format)
        with open_storage(options.storage, write=False) as storage:
            study = SweepStudy.load(storage, options.study)
            report = make_report(study.meta, study.table_results())
    tell_who_watches(f"drawing the curves of {counted(len(report.cells), 'cell')}")
    try:
        if options.format == "html":
            write_in_one_step(str(out), page(report))
            what = f"{counted(len(report.cells), 'cell')} ({report.table.provenance})"
            print(f"{out}: {what}, {out.stat().st_size / 1e6:.1f} MB")
            return 0
        count = 0
        for name, figure in titled(report):
            (out / f"{name}.{options.format}").write_bytes(picture(figure, options.format))
            count += 1
    except OSError as problem:
        raise OutputError(f"{out} can't be written: {problem.strerror or problem}. Give another --out") from problem
    print(f"{out}: {count} pictures")
    return 0


def _check_folder(out: Path, kind: str) -> None:
    """Make the folder of the pictures.

    Raises:
        UsageError: it is a file, or can't be made or written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(
            f"{out} is a file: --format {kind} makes a picture of each figure, and --out is the folder that they go "
            "into. Give another --out, or leave --format out for one page"
        )
    # One of the pictures; each cell has one of its own as well.
    check_writable(out / f"overview.{kind}", "--out")
