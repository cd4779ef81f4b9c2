"""Does `verify` say "still right" straight after a sweep, and does it find a candidate that became 15 % slower?

Each series is a real sweep of this machine, `verify --keep` until its reference has enough visits, and then runs of
`verify` as they are and with `slowed.SlowedShm` in the candidate's place, in turn:

    python benchmarks/verify_power.py --series 4 --runs 5 --folder /tmp/power

Half a minute a run for two cells on a calm machine; rounds that other work disturbs are repeated. Goes on where it was
when it is started again with the same folder. Every run is a line of FOLDER/runs.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import slowed

from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.measure.measurer import Measurer
from ccl_dispatch.tuner.plan import Plan, make_measurer
from ccl_dispatch.tuner.progress import SilentProgress
from ccl_dispatch.tuner.sweep import run_sweep
from ccl_dispatch.tuner.verify.keep import ENOUGH_VISITS, keep_reference
from ccl_dispatch.tuner.verify.run import verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions
from ccl_dispatch.tuner.verify.verdict import EXIT_CODES

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "cpu.yaml"
# The reference serves all later runs: it is made more precise than any of them.
REFERENCE_VISITS = ENOUGH_VISITS
REFERENCE_SEEN = 0.05


def slowed_measurer(plan: Plan, log_folder: Path) -> Measurer:
    """The plan's measurer with the slowed candidate in place of `shm`."""
    settings = replace(plan.settings, extra_backends={"shm": slowed.PLACE})
    return make_measurer(replace(plan, settings=settings), log_folder)


def main() -> int:
    """Run what is not done yet, until the time is up; print what all runs came to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=int, default=4, help="sweeps, each with a reference of its own")
    parser.add_argument("--runs", type=int, default=5, help="of each kind in a series")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the sweeps; its candidate is `shm`")
    parser.add_argument("--seconds", type=float, default=150, help="of one verification at most")
    parser.add_argument("--stop-after", type=float, default=1e9, help="start nothing new after so many seconds")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    options.folder.mkdir(parents=True, exist_ok=True)
    log = options.folder / "runs.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    began = time.monotonic()
    for series, kind, run in _wanted(options, done):
        if time.monotonic() - began > options.stop_after:
            break
        entry = {"series": series, "kind": kind, "run": run, **_one(options, series, kind, run)}
        done.append(entry)
        with log.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(_line(entry), flush=True)
    print(_summary(done))
    return 0 if next(_wanted(options, done), None) is None else 1


def _wanted(options: argparse.Namespace, done: list[dict[str, Any]]) -> Iterator[tuple[int, str, int]]:
    """What is still to be run, as of each moment: `done` grows meanwhile."""
    for series in range(options.series):
        while True:
            references = [entry for entry in done if (entry["series"], entry["kind"]) == (series, "reference")]
            if sum(entry["calm_visits"] for entry in references if entry["kept"]) >= REFERENCE_VISITS:
                break
            yield series, "reference", len(references)
        for run, kind in itertools.product(range(options.runs), ("same", "slowed")):
            if not any((entry["series"], entry["kind"], entry["run"]) == (series, kind, run) for entry in done):
                yield series, kind, run


def _one(options: argparse.Namespace, series: int, kind: str, run: int) -> dict[str, Any]:
    folder = options.folder / f"series{series}"
    table = folder / "table.yaml"
    if kind == "reference" and not table.exists():
        config = replace(load_config(str(options.config)), seed=series)
        run_sweep(config, str(folder / "study.journal"), table, folder / "logs", SilentProgress())
    seed = series * 1000 + run * 10 + ("reference", "same", "slowed").index(kind)
    seen = REFERENCE_SEEN if kind == "reference" else VerifyOptions().seen
    wanted = VerifyOptions(seconds=options.seconds, seen=seen, seed=seed)
    measurer = slowed_measurer if kind == "slowed" else make_measurer

    def say(line: str) -> None:
        print("   ", line, file=sys.stderr, flush=True)

    verified = verify_table(table, wanted, folder / "logs", say, measurer=measurer)
    kept = keep_reference(verified, None) if kind == "reference" else ""
    calm = min(map(len, verified.visits.values()), default=0)
    return {"kept": kept.startswith(str(folder)), "calm_visits": calm, **verified.verification.to_json()}


def _line(entry: dict[str, Any]) -> str:
    shifts = {
        (shift["low"], shift["high"], round(shift["change"], 3)) for cell in entry["cells"] for shift in cell["shifts"]
    }
    seen = [cell["seen"] for cell in entry["cells"] if cell["seen"] is not None]
    return (
        f"series {entry['series']} {entry['kind']:<9} {entry['run']}: {entry['verdict']:<11} {entry['seconds']:.0f} s, "
        f"{entry['worker_sets']} sets, {entry['rounds_set_aside']} of {entry['rounds']} rounds set aside, "
        f"seen {max(seen, default=float('nan')):.3f} {sorted(shifts)}"
    )


def _summary(done: list[dict[str, Any]]) -> str:
    lines = []
    for kind, what in (("same", "as swept"), ("slowed", "slowed")):
        runs = [entry for entry in done if entry["kind"] == kind]
        counts = {word: sum(entry["verdict"] == word for entry in runs) for word in EXIT_CODES}
        told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        seconds = sorted(entry["seconds"] for entry in runs) or [0.0]
        lines.append(f"{len(runs)} runs {what}: {told or 'none'}; {seconds[len(seconds) // 2]:.0f} s in the median")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
