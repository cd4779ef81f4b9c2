"""`fleet`: are the nodes that share a study alike?"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import optuna

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.runtime.units import counted, short_size
from ccl_dispatch.tuner.cli.options import add_json, add_storage, print_json
from ccl_dispatch.tuner.evidence.disturbed import disturbed_results_in_words
from ccl_dispatch.tuner.fleet.common import LEAST_SECONDS
from ccl_dispatch.tuner.fleet.nodes import DEFAULT_CONFIDENCE, Difference, FleetVerdict, compare_nodes
from ccl_dispatch.tuner.samples import nodes_of
from ccl_dispatch.tuner.study import SweepStudy, open_storage
from ccl_dispatch.tuner.study.claims import COMMON
from ccl_dispatch.tuner.study.storage import lies_on_one_machine

EXAMPLE = "ccl-dispatch fleet --storage postgresql://tuner@head-node/tuning"
NO = "a node is otherwise than the others"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_storage(parser)
    parser.add_argument(
        "--confidence",
        type=float,
        default=DEFAULT_CONFIDENCE,
        metavar="SHARE",
        help="that no node is named by mistake, over all of them together (default: %(default)g)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Compare; exit code 1 when a node differs."""
    if not 0.5 < options.confidence < 1:
        raise UsageError(f"--confidence {options.confidence:g}: expected more than 0.5 and less than 1")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with open_storage(options.storage, write=False) as storage:
        study = SweepStudy.load(storage, options.study)
        # What all were asked to measure; in a study without such points what happens to be from several nodes.
        results = study.results(only=COMMON) or study.results()
        verdict = compare_nodes(results, options.confidence)
        if len(verdict.nodes) < 2:
            raise UsageError(
                f"study {study.meta.name!r} in {storage.url}: no point was measured by two nodes, so there is nothing "
                f"to compare. {_advice(study)}"
            )
    if options.json:
        print_json(_json(verdict, study.meta.name, study.meta.provenance, options.confidence))
    else:
        print("\n".join(_lines(verdict, study.meta.name, study.meta.provenance, options.confidence)))
        if told := disturbed_results_in_words(results):
            print(told)
    return 1 if verdict.accused else 0


def _advice(study: SweepStudy) -> str:
    """What to do for points that two nodes measure."""
    if lies_on_one_machine(study.storage.url):
        return (
            "This storage lies on one machine, where a sweep measures no points for comparing: run the sweep on "
            "every node with one --storage that all of them reach, such as postgresql://user@host/name"
        )
    return shared_advice(sorted({*nodes_of(study.results())} - {""}), goes_on=study.goes_on())


def shared_advice(nodes: Sequence[str], *, goes_on: bool) -> str:
    """What to do where no point is common to two nodes, though all reach the storage.

    Args:
        nodes: that measured anything.
        goes_on: whether the search has not ended: after that no node measures anything.
    """
    if len(nodes) > 1:
        return (
            f"{', '.join(nodes)} shared the work without such points, which a sweep leaves out with `--common 0`, with "
            f"a `budget.seconds` below {LEAST_SECONDS:g}, and where they would take more than a tenth of "
            "`budget.executions`. Run it on all nodes without that, with another --storage"
        )
    if goes_on:
        return "Run the same sweep with this --storage on another node"
    return (
        "Its search has ended, and who comes now measures nothing: run the sweep on all nodes, with another --storage"
    )


def _lines(verdict: FleetVerdict, name: str, provenance: str, confidence: float) -> list[str]:
    lines = [f"{name} ({provenance}): {len(verdict.nodes)} nodes, compared at {counted(verdict.points, 'point')}"]
    width = max(map(len, verdict.nodes))
    for node in verdict.nodes:
        found = verdict.of(node)
        if node not in verdict.accused:
            largest = max(found, key=lambda item: abs(item.log_ratio))
            lines.append(f"  {node:{width}}  alike; {_told(largest)} at most")
            continue
        lines += [
            f"  {node:{width}}  differs: {_told(item)}, sure to {_sure(item.p)}"
            for item in found
            if item.p < 1 - confidence
        ]
    if len(verdict.nodes) == 2 and verdict.accused:
        lines.append("Of two nodes nothing tells which one is as it should be: measure with a third")
    elif verdict.accused:
        lines.append("Look at the links, clocks and drivers of a node that differs before its samples go into a table")
    return lines


def _told(item: Difference) -> str:
    ratio = math.exp(abs(item.log_ratio))
    word = "slower" if item.log_ratio > 0 else "faster"
    much = f"{ratio - 1:.1%}" if ratio < 2 else f"{ratio:.1f}x"
    return f"{item.backend} {much} {word} than the others at {short_size(item.size)} in {item.cell.name}"


def _sure(p: float) -> str:
    return f"{min(1 - p, 0.99999):.3%}"


def _json(verdict: FleetVerdict, name: str, provenance: str, confidence: float) -> dict[str, Any]:
    return {
        "study": name,
        "provenance": provenance,
        "confidence": confidence,
        "points": verdict.points,
        "nodes": [
            {
                "node": node,
                "differs": node in verdict.accused,
                "differences": [
                    {
                        "cell": item.cell.name,
                        "size": item.size,
                        "backend": item.backend,
                        "slower": math.expm1(item.log_ratio),
                        "error": item.error,
                        "p": item.p,
                    }
                    for item in verdict.of(node)
                ],
            }
            for node in verdict.nodes
        ],
    }
