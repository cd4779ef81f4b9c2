"""`sweep`: the main job."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from pathlib import Path

import optuna

import ccl_dispatch.configs
from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import MeasuringError, OutputError, UsageError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.units import counted, percent
from ccl_dispatch.tuner.cli.exit_codes import exit_code
from ccl_dispatch.tuner.cli.options import print_json, write_json
from ccl_dispatch.tuner.cli.places import check_apart, check_appendable, check_writable, make_folder, no_empty_folders
from ccl_dispatch.tuner.config.parsing import SweepConfig, load_config
from ccl_dispatch.tuner.evidence.faults import faults_in_words
from ccl_dispatch.tuner.fleet.common import DEFAULT_COMMON
from ccl_dispatch.tuner.kinds import SAMPLES, TABLE, what_lies_at
from ccl_dispatch.tuner.launch.given import GivenRanks
from ccl_dispatch.tuner.launch.hosting import host
from ccl_dispatch.tuner.launch.launched import Launched, forget_group, launched
from ccl_dispatch.tuner.progress import Together, choose_progress
from ccl_dispatch.tuner.progress.events import STANDARD_OUTPUT, EventProgress, EventSink
from ccl_dispatch.tuner.study import Node
from ccl_dispatch.tuner.study.databases import without_password
from ccl_dispatch.tuner.study.owner import DEFAULT_GRACE, MIN_GRACE
from ccl_dispatch.tuner.study.patience import DEFAULT_PATIENCE
from ccl_dispatch.tuner.study.storage import check_shared, is_new, journal_path, storage_file
from ccl_dispatch.tuner.sweep import SweepOutcome, run_sweep

EXAMPLE = "ccl-dispatch sweep configs/cpu.yaml --out table.yaml --summary summary.json"
DEFAULT_CONFIG = "cpu"
# Where results go that nobody gave a place.
OWN_FOLDER = Path("runs")
# An estimate from here on is explained: less is what a sweep with little budget leaves.
_MUCH_REGRET = 0.02


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "config",
        nargs="?",
        default=DEFAULT_CONFIG,
        metavar="CONFIG",
        help="a config file, or the name of a shipped one (default: cpu)",
    )
    parser.add_argument("--storage", metavar="URL", help="where samples are kept (default: runs/NAME/study.journal)")
    parser.add_argument(
        "--out",
        metavar="TABLE.yaml",
        help="the table (default: beside the journal that --storage names, else runs/NAME/table.yaml, where only a "
        "table of the same study is replaced)",
    )
    parser.add_argument("--summary", metavar="FILE.json", help="write figures about the sweep")
    parser.add_argument(
        "--events", metavar="FILE", help="append what happens, one JSON object a line; - for standard output"
    )
    parser.add_argument(
        "--node",
        default="",
        metavar="NAME",
        help="what this node is called where several share a storage: its host's name",
    )
    parser.add_argument(
        "--common",
        type=int,
        default=DEFAULT_COMMON,
        metavar="N",
        help="so many points are measured by every node of a shared storage (default: %(default)d; see `fleet`)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=DEFAULT_GRACE,
        metavar="SECONDS",
        help="a node without a sign of life for so long gives its point back (default: %(default)g)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=DEFAULT_PATIENCE,
        metavar="SECONDS",
        help="for so long a shared storage that is gone is waited for (default: %(default)g)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost; start and write nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(options: argparse.Namespace) -> int:
    """Sweep; prints where the table is and what was found. Of ranks that a launcher gave a node the first one does."""
    found = launched(os.environ)
    if found is None:
        return _sweep(options, None, None)
    if found.local_rank > 0:
        host(found)
    forget_group(os.environ)
    if found.local_ranks == 1:
        return _sweep(options, found, None)
    given = GivenRanks(found)
    try:
        code = _sweep(options, found, given)
    except BaseException as problem:
        given.release(exit_code(problem), at_once=isinstance(problem, KeyboardInterrupt))
        raise
    given.release(code, at_once=False)
    return code


def _sweep(options: argparse.Namespace, place: Launched | None, given: GivenRanks | None) -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a storage that is away is told of in our words
    # So that NaN, with which every comparison fails, is refused as well.
    if not (MIN_GRACE <= options.grace < math.inf and 0 <= options.patience < math.inf):
        raise UsageError(
            f"--grace {options.grace:g} --patience {options.patience:g}: expected at least {MIN_GRACE:g} and 0 "
            "seconds, and not without end"
        )
    if options.common < 0:
        raise UsageError(f"--common {options.common}: expected 0, for none, or more points")
    node = Node(options.node, grace=options.grace)
    config = load_config(config_path(options.config))
    if options.dry_run:
        from ccl_dispatch.tuner.forecast import forecast, forecast_lines
        from ccl_dispatch.tuner.plan import make_plan

        plan = make_plan(config)
        if options.json:
            print_json(forecast(plan))
        else:
            print("\n".join(forecast_lines(plan)))
        return 0
    if options.json and options.events == STANDARD_OUTPUT:
        raise UsageError(
            "--json and --events - both want standard output. The last event holds the summary: leave --json out, or "
            "give --events a file"
        )
    folder = OWN_FOLDER / config.name
    storage = str(folder / "study.journal") if options.storage is None else options.storage
    out = _table_of(storage, folder) if options.out is None else Path(options.out)
    logs = out.parent / "logs"
    if place is not None and place.nodes > 1:
        check_shared(storage, place.nodes)
        logs /= f"node{place.node}"
    journal = journal_path(storage)
    check_apart(
        {
            "the config": Path(config.source),
            "its replay.file": None if config.replay is None else Path(config.replay.file),
            "--storage": storage_file(storage),
            "--out": None if options.out is None else out,
            "--summary": Path(options.summary) if options.summary else None,
            "--events": _events_file(options),
        }
    )
    # What a sweep that is refused has made, it takes away again.
    with no_empty_folders(logs, *(() if journal is None else (journal.parent,))):
        # Before hours of measuring rather than after.
        _make_places(config, journal, out, logs, options)
        return _measured(options, config, storage, out, logs, given, node)


def _make_places(config: SweepConfig, journal: Path | None, out: Path, logs: Path, options: argparse.Namespace) -> None:
    """Make the folders that results go to.

    Raises:
        UsageError: some result could not be written where it is to go.
    """
    if OWN_FOLDER in (*out.parents, *(journal.parents if journal else ())):
        make_folder(OWN_FOLDER, "--storage and --out")
    if journal is not None:
        make_folder(journal.parent, "--storage")
    check_writable(out, "--out", TABLE)
    if config.replay is None:
        for place in reversed(logs.relative_to(out.parent).parents):
            make_folder(out.parent / place, "--out")
        check_writable(logs / "nursery.log", "--out")
        check_appendable(logs, "--out")
    if options.summary:
        check_writable(Path(options.summary), "--summary")
    events = _events_file(options)
    # Of samples `EventSink` says itself that they would be lost.
    if events is not None and (there := what_lies_at(str(events))) not in ("", *SAMPLES):
        raise UsageError(f"{events} is {there}, no file of events. Give another --events")


def _events_file(options: argparse.Namespace) -> Path | None:
    """Where `--events` goes, unless that is standard output or nowhere."""
    return None if options.events in (None, STANDARD_OUTPUT) else Path(options.events)


def _measured(
    options: argparse.Namespace,
    config: SweepConfig,
    storage: str,
    out: Path,
    logs: Path,
    given: GivenRanks | None,
    node: Node,
) -> int:
    progress = choose_progress(quiet=options.quiet)
    if options.events:
        progress = Together(progress, EventProgress(EventSink(options.events), config, storage, str(out)))
    shown = without_password(storage)
    outcome: SweepOutcome | None = None
    problem: BaseException | None = None
    try:
        progress.starting(f"{config.name}: starting; samples go to {shown}")
        outcome = run_sweep(
            config,
            storage,
            out,
            logs,
            progress,
            given=given,
            node=node,
            patience=options.patience,
            common=options.common,
            # Who names a file means it.
            replace_any=options.out is not None,
        )
    except OutputError as found:
        problem = found
        print(f"all samples are in {shown}; once there is room: {_build(shown, out)}", file=sys.stderr)
        raise
    except MeasuringError as found:
        problem = found
        if not is_new(storage):  # before the first worker has started nothing is there to tell of
            print(
                f"all points measured so far are kept in {shown}; once it is mended the same command continues. "
                f"A table of what there is: {_build(shown, out)}",
                file=sys.stderr,
            )
        raise
    except BaseException as found:
        problem = found
        raise
    else:
        # Before anything is told of it: what it is told to may be full, or wait.
        if options.summary:
            write_json(outcome.summary(), options.summary)
    finally:
        progress.end(outcome, problem)
    _tell(options, outcome, shown)
    return 0


def _tell(options: argparse.Namespace, outcome: SweepOutcome, storage: str) -> None:
    """Print what the sweep came to.

    Raises:
        OutputError: it can't be told; the table is written all the same, and it says so.
    """
    try:
        if options.json:
            print_json(outcome.summary())
        else:
            # Standard output is the events' alone, where they go there.
            stream = sys.stderr if options.events == STANDARD_OUTPUT else sys.stdout
            print("\n".join(_lines(outcome, storage)), file=stream)
        sys.stdout.flush()
    except OutputError as found:
        raise OutputError(f"{found}. The table is written: {outcome.path}") from found


def _table_of(storage: str, folder: Path) -> Path:
    """Where the table goes that nobody named: beside its samples, so that those of two sweeps never share one."""
    journal = journal_path(storage)
    if journal is not None and not journal.name:
        raise UsageError(f"--storage {storage} is a folder. Give it the name of a file in it")
    if journal is None or journal == folder / "study.journal":
        return folder / "table.yaml"
    return journal.with_suffix(".yaml")


def _build(storage: str, out: Path) -> str:
    return f"ccl-dispatch build --storage {shlex.quote(storage)} --out {shlex.quote(str(out))}"


def config_path(name: str) -> str:
    """The file that `name` means: a path, or a config that is shipped with the package.

    Raises:
        UsageError: it is neither.
    """
    if Path(name).exists():
        return name
    shipped = {path.stem: path for folder in ccl_dispatch.configs.__path__ for path in Path(folder).glob("*.yaml")}
    if name.removesuffix(".yaml") in shipped:
        return str(shipped[name.removesuffix(".yaml")])
    told = nearest(name, sorted(shipped)) if "/" not in name else ""
    raise UsageError(
        f"{name}: there is no such file, and no config of that name comes with the package. {told}".strip()
    )


def _uncovered(outcome: SweepOutcome) -> str:
    """What the table says nothing of, and the regret estimate neither; empty when every cell was measured whole."""
    whole = len(outcome.table.cells) + len(outcome.unmeasured)
    parts = []
    if outcome.unmeasured:
        named = ", ".join([*outcome.unmeasured[:2], *(["..."] if len(outcome.unmeasured) > 2 else [])])
        parts.append(f"{len(outcome.unmeasured)} of {whole} cells ({named})")
    if outcome.partly:
        parts.append(f"the smallest or the largest sizes of {len(outcome.partly)} of {whole} cells")
    if not parts:
        return ""
    return (
        f"not measured: {' and '.join(parts)}; calls there use {outcome.table.baseline}, and the estimate leaves them "
        "out. A larger budget, fewer cells or other ends of `sizes` cover them"
    )


def estimated(table: Table, estimate: float, stopped_by: str) -> str:
    """The mean of the cells' estimates; where it is much, which cell has the most, and what may make it less."""
    text = f"estimated regret: {estimate:.3%} (slower than the best backend by that at most, in about 9 of 10 cells)"
    if estimate < _MUCH_REGRET:
        return text
    worst = max(table.cells, key=lambda cell: cell.regret_estimate or 0.0)
    asked = f"at least {percent(table.policy.min_gain)} faster with {percent(table.policy.confidence)} confidence"
    text = f"{text}. The most is in {worst.cell.name}, {worst.regret_estimate or 0.0:.1%}"
    # Nothing more is measured for a limit that was not met.
    larger = {"regret": ", or a smaller `budget.regret`,", "searched": ""}.get(stopped_by, ", or a larger budget,")
    # Its gain is over the best candidate, see `Band`.
    if not any(band.use == table.baseline and (band.gain or 0.0) < 0 for band in worst.bands):
        return f"{text}: what was measured there scatters widely; a calmer machine{larger} tells more"
    return (
        f"{text}: where no candidate is proven to be {asked} the table keeps {table.baseline}; a calmer machine"
        f"{larger} may prove it, a smaller `policy.min_gain` asks less"
    )


def _lines(outcome: SweepOutcome, storage: str) -> list[str]:
    summary = outcome.summary()
    runs = ", ".join(f"{name} {count}" for name, count in summary["executions"].items())
    left = "" if outcome.left is None else f" ({outcome.left:.3%} of {percent(outcome.wanted or 0)})"
    ended = {
        "searched": "no further visit promised to win anything",
        "regret": f"what more measuring could still win is within the regret budget{left}",
    }.get(outcome.stopped_by, f"the budget of {outcome.stopped_by} was spent")
    points, visits = counted(summary["points"], "point"), counted(summary["trials"], "visit")
    what = f"{counted(summary['cells'], 'cell')} from {points} in {visits} ({summary['provenance']})"
    # The one counts the study, with what earlier runs and other nodes measured, the other this process.
    spent = f"{runs}, {summary['collective_seconds']:.1f} s in collectives, over all runs of the study"
    lines = [
        f"{outcome.path}: {what}, {summary['digest']}",
        f"executions: {spent}",
        f"this run took {summary['wall_seconds']:.1f} s and ended because {ended}",
    ]
    if summary["regret_estimate"] is not None:
        lines.append(estimated(outcome.table, summary["regret_estimate"], outcome.stopped_by))
    if uncovered := _uncovered(outcome):
        lines.append(uncovered)
    if outcome.shapes:
        named = "; ".join([*outcome.shapes[:2], *(["..."] if len(outcome.shapes) > 2 else [])])
        lines.append(
            f"not measured themselves: {counted(len(outcome.shapes), 'shape')} of the workload ({named}); the bands "
            "around them answer, or the baseline where there are none"
        )
    if faults := faults_in_words(summary["faults"]):
        lines.append(f"{faults}; with the ranks' logs: ccl-dispatch show --details {shlex.quote(str(outcome.path))}")
    lines += [f"a slow rank: {text}" for text in summary["slow_ranks"]]
    if summary["disturbed"]:
        lines.append(f"{summary['disturbed']}. Sweep again when it is calm, with another --storage")
    if outcome.worker_seconds == 0:
        lines.append(f"the study in {storage} {_why_nothing_was_measured(outcome.stopped_by)}")
    table, samples = shlex.quote(str(outcome.path)), shlex.quote(storage)
    lines.append(f"next: ccl-dispatch show {table}")
    lines.append(f"the curves: ccl-dispatch report --storage {samples} --out report.html")
    return lines


def _why_nothing_was_measured(stopped_by: str) -> str:
    anew = "for another study of this config give --storage, such as later.journal"
    if stopped_by in ("executions", "seconds"):
        return (
            f"had spent its budget before: nothing was measured now. To go on raise `budget.{stopped_by}` in the "
            f"config; {anew}"
        )
    return f"was complete: nothing was measured now. {anew.capitalize()}"
