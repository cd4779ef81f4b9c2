"""How good a table is for what it cost: this package's search against its rivals, on landscapes whose truth is known.

    python benchmarks/tuning_cost.py [CHECK ...] [--quick] [--seed N] [--out FOLDER]

Nothing here measures a GPU: landscapes are simulated, or published measurements, and replayed with noise. Ours is the
real pipeline (config, sweep, fit, table, dispatcher), its rivals are in `tuning/rivals.py`. Cost is counted in two
ways, executions of a collective with warm-up, and machine time, both in proportion to an exhaustive scan (5,000
executions of a cell). Regret is the mean of T(chosen)/T(best) - 1 over sizes, 16 in each octave.

Checks, all of them unless some are named: `compare` (the comparison, a CSV and a plot of it), `noise`, `agreement`,
`together` (all cells in one sweep, as users have them), `null`, `dtypes`, `estimate`, `overhead`. Three more judge
nothing: `export` writes the landscapes as configs and measurement files for `ccl-dispatch sweep` and `ccl-dispatch
evaluate`; `likeness` says how alike published cells are that differ in world size alone; `scale` what plain even grids
leave on the published GPU landscapes, beside ours.

Every seed makes other landscapes. The search was built on seeds 0 to 9: judge with others. Ends with 1 when something
that is wanted is missed. Needs the development environment (matplotlib, scipy).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from landscapes import CURVES, FAMILIES, NOISES, Landscape, Usual, dtypes, published, simulated, without_difference
from tuning import checks, compare, likeness, report, scale, together
from tuning.checks import Verdict
from tuning.pipeline import EXHAUSTIVE, Budget, own_seed, write_config

CHECKS = ("compare", "noise", "agreement", "together", "null", "dtypes", "estimate", "overhead")
OTHERS = ("export", "likeness", "scale")
QUICK_FAMILIES = (*CURVES, "autocorrelated", "drift")
_T = TypeVar("_T")
_R = TypeVar("_R")


class Benchmark:
    """The checks on the landscapes that the command line asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seed: int = options.seed
        self.out = Path(options.out)
        quick: bool = options.quick
        self.fractions = (1 / 100, 1 / 20) if quick else compare.FRACTIONS
        self.landscapes = chosen_landscapes(
            options.seed,
            each=options.each if options.each is not None else 1 if quick else 4,
            of_published=options.published if options.published is not None else 2 if quick else 45,
            families=tuple(options.families or (QUICK_FAMILIES if quick else FAMILIES)),
        )
        self.usual = [one for one in self.landscapes if one.is_usual]
        self.ours: list[compare.Row] = []

    def run(self, check: str) -> list[Verdict]:
        """One check by its name."""
        verdicts: list[Verdict] = getattr(self, check)()
        return verdicts

    def compare(self) -> list[Verdict]:
        """The comparison."""
        with_rivals, with_fit = not self.options.ours_only, not self.options.quick
        rows = self._all(
            compare.run,
            [
                compare.Task(one, self.seed, self.fractions, rivals=with_rivals, our_fit=with_fit)
                for one in self.landscapes
            ],
        )
        self.ours = [row for row in rows if row.method == compare.OURS]
        self.out.mkdir(parents=True, exist_ok=True)
        report.write_csv(rows, self.out / "runs.csv")
        report.plot(rows, self.fractions, self.out / "tuning_cost.png")
        lines = report.text(rows, self.fractions)
        (self.out / "tables.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print("\n".join(lines))
        usual = [row for row in rows if row.usual]
        verdicts = []
        for goal in checks.USUAL:
            print(f"ours by family, 1/{1 / goal.fraction:.0f} in executions")
            print("\n".join(report.by_family(rows, compare.COSTS[0], goal.fraction)))
            verdicts += checks.judge_goal(usual, goal)
        for label, group in (("all landscapes", rows), ("usual noise", usual)):
            for cost in compare.COSTS if with_rivals else ():
                verdicts += checks.judge_ratios(report.ratios(group, cost, self.fractions), f"{label}, {cost}")
        return verdicts

    def noise(self) -> list[Verdict]:
        """Twice the noise."""
        goal = checks.LOUDER
        tasks = [
            compare.Task(checks.louder(one), self.seed, (goal.fraction,), compare.COSTS[:1], rivals=False)
            for one in self.usual
        ]
        return checks.judge_regrets(self._all(compare.run, tasks), goal.fraction, goal.mean, goal.worst, goal.noise)

    def agreement(self) -> list[Verdict]:
        """Two seeds of one sweep."""
        some = self.usual[:6] if self.options.quick else self.usual
        found = self._each(checks.agreement, [(one, self.seed) for one in some])
        return checks.judge_agreement(found)

    def together(self) -> list[Verdict]:
        """All of them in one sweep."""
        return together.judge(self.usual, self._each(together.run, together.tasks(self.usual, self.seed)))

    def null(self) -> list[Verdict]:
        """Baseline against itself, with usual noise, and in fewer cells with each other one."""
        verdicts = []
        for name, noise in {"usual": Usual(), **NOISES}.items():
            count, together = (16, 4) if self.options.quick else (1000 if name == "usual" else 200, 10)
            cells = [replace(one, noise=noise) for one in without_difference(self.seed, count)]
            # A sweep of one backend name against another: the range is that of its cells, each its own.
            groups = [cells[start : start + together] for start in range(0, count, together)]
            found = self._each(checks.null, [(group, self.seed + at) for at, group in enumerate(groups)])
            verdicts += checks.judge_null(found, name)
        return verdicts

    def dtypes(self) -> list[Verdict]:
        """Cells that are alike, and cells that differ."""
        count = 2 if self.options.quick else 30
        tasks = [
            (group, alike, self.seed + at)
            for alike in (True, False)
            for at, group in enumerate(dtypes(self.seed, count, alike=alike))
        ]
        return checks.judge_dtypes(self._each(checks.three_dtypes, tasks))

    def estimate(self) -> list[Verdict]:
        """The regret that tables say may be left, without a gain to be proven and with the usual one.

        Uses the runs of the comparison when there was one.
        """
        rows = [row for row in self.ours if row.cost == compare.COSTS[0]] or self._all(
            compare.run,
            [compare.Task(one, self.seed, self.fractions, compare.COSTS[:1], rivals=False) for one in self.landscapes],
        )
        tasks = [
            compare.Task(one, self.seed, self.fractions, compare.COSTS[:1], rivals=False, min_gain=checks.MIN_GAIN)
            for one in self.usual
        ]
        verdicts = checks.judge_estimates([row for row in rows if row.usual])
        return verdicts + checks.judge_estimates(self._all(compare.run, tasks), f", min_gain {checks.MIN_GAIN:.0%}")

    def overhead(self) -> list[Verdict]:
        """The search's own time, in this process: numpy chooses its threads as it does in a sweep."""
        cells, trials = (6, 100) if self.options.quick else (60, 2000)
        made = simulated(self.seed, -(-cells // 6), FAMILIES[:6])[:cells]
        placed = [
            _in_cell(one, world_size=2 + at // 3, dtype=("bfloat16", "float16", "float32")[at % 3])
            for at, one in enumerate(made)
        ]
        return checks.judge_overhead(self._each(checks.overhead, [(placed, trials, self.seed)]), cells, trials)

    def export(self) -> None:
        """Write configs and measurement files."""
        for one in self.landscapes:
            folder = self.out / "landscapes" / one.name
            folder.mkdir(parents=True, exist_ok=True)
            write_config([one], folder, Budget(executions=EXHAUSTIVE // 20), own_seed(one, self.seed))
        print(f"{len(self.landscapes)} landscapes in {self.out / 'landscapes'}")

    def scale(self) -> None:
        """Say how hard the published landscapes are; those of CPU clusters are another matter."""
        found = [one for one in published() if not one.name.startswith("cpu")]
        rounds = 1 if self.options.quick else 5
        tasks = [scale.Task(one, number, self.seed, rounds) for number, one in enumerate(found)]
        print("\n".join(scale.text(self._each(scale.run, tasks))))

    def _all(self, function: Callable[[_T], Sequence[_R]], tasks: Sequence[_T]) -> list[_R]:
        return [row for found in self._each(function, tasks) for row in found]

    def _each(self, function: Callable[[_T], _R], tasks: Sequence[_T]) -> list[_R]:
        """What `function` gives for each task, in their order, and how far it is on standard error."""
        count = min(self.options.processes, len(tasks))
        if count <= 1:
            prepare_process()
            return list(_counted(map(function, tasks), len(tasks)))
        with multiprocessing.get_context("spawn").Pool(count, prepare_process) as pool:
            return list(_counted(pool.imap(_Safely(function), tasks), len(tasks)))


def chosen_landscapes(seed: int, each: int, of_published: int, families: tuple[str, ...]) -> list[Landscape]:
    """`each` of every family, and some of the published ones: by turns from each platform, by chance of the seed."""
    found = published() if of_published else []
    turns: dict[str, int] = {}
    order = []
    for at in np.random.default_rng(seed).permutation(len(found)).tolist():
        platform = found[at].name.partition("-")[0]
        turns[platform] = turns.get(platform, 0) + 1
        order.append((turns[platform], at))
    # In the order of turns, not of files: the first so many are spread over all platforms.
    order.sort(key=lambda item: item[0])
    return simulated(seed, each, families) + [found[at] for _, at in order[:of_published]]


def prepare_process() -> None:
    """One thread, and no word from Optuna: as many processes as cores are at work."""
    import optuna
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class TaskFailedError(Exception):
    """What went wrong in a task, as text: not every exception can go from one process to another."""


class _Safely(Generic[_T, _R]):
    """`function`, whose exceptions become a TaskFailedError."""

    def __init__(self, function: Callable[[_T], _R]) -> None:
        self._function = function

    def __call__(self, task: _T) -> _R:
        try:
            return self._function(task)
        except Exception:  # noqa: BLE001 - raised again, as text
            raise TaskFailedError(traceback.format_exc()) from None


def _in_cell(landscape: Landscape, **parts: Any) -> Landscape:
    return replace(landscape, cell=landscape.cell._replace(**parts))


def _counted(found: Iterable[_R], total: int) -> Iterable[_R]:
    began = time.perf_counter()
    for number, one in enumerate(found, 1):
        if number == total or number % max(1, total // 10) == 0:
            print(f"  {number}/{total} after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        yield one


def main(arguments: Sequence[str]) -> int:
    """Run the checks; 1 when something wanted is missed."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checks",
        nargs="*",
        metavar="CHECK",
        help=f"{', '.join(CHECKS)}, {', '.join(OTHERS)}; default: all checks but these three",
    )
    parser.add_argument("--seed", type=int, default=100, help="of landscapes, noise and searches (default 100)")
    parser.add_argument("--quick", action="store_true", help="few landscapes and budgets: about a minute")
    parser.add_argument("--each", type=int, help="landscapes of each family (default 4)")
    parser.add_argument("--published", type=int, help="how many of the published ones (default 45)")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, help="only these families")
    parser.add_argument("--ours-only", action="store_true", help="compare without rivals: while building a search")
    parser.add_argument("--processes", type=int, default=2, help="at most that many at once (default 2)")
    parser.add_argument("--out", default="runs/tuning_cost", help="folder of CSV, text and plot")
    options = parser.parse_args(arguments)
    unknown = sorted({*options.checks} - {*CHECKS, *OTHERS})
    if unknown:
        parser.error(f"there is no check {', '.join(unknown)}; there are {', '.join((*CHECKS, *OTHERS))}")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if "likeness" in options.checks:
        print("\n".join(likeness.text(published())))
        return 0
    benchmark = Benchmark(options)
    if "export" in options.checks:
        benchmark.export()
        return 0
    if "scale" in options.checks:
        benchmark.scale()
        return 0
    print(f"{len(benchmark.landscapes)} landscapes, seed {options.seed}: simulated or published, and replayed")
    verdicts = []
    for check in CHECKS:
        if not options.checks or check in options.checks:
            print(f"{check} ...", file=sys.stderr)
            found = benchmark.run(check)
            print("\n".join(map(str, found)), flush=True)
            verdicts += found
    return 0 if all(verdict.reached for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
