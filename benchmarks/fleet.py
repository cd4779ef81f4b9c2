"""Four nodes against one: the same replayed sweep on one PostgreSQL server, in one run.

    python benchmarks/fleet.py             # 60 cells; about four minutes on two cores
    python benchmarks/fleet.py --kill 10   # and ten kills of random nodes of the four

Every latency is made up and replayed at a pace: a visit takes as long as a measured one would, and nodes wait. What is
compared is the time from the first process to the last table, start-up included, and the tables.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fleets import start_node, wait_for, write_config
from postgres import missing, running_server

from ccl_dispatch.runtime import Table, load_table
from ccl_dispatch.runtime.units import short_size

WANTED_RATIO = 3.0
FIRST_LOOK = "measure: {min_samples: 20, max_samples: 20}\nbudget: {regret: 0.05}\n"


def sweep(folder: Path, config: Path, url: str, names: Sequence[str], kills: int = 0) -> tuple[float, Table]:
    """Seconds that these nodes take together, and their table, after making sure that all wrote the same bytes."""
    rng = random.Random(7)
    began = time.perf_counter()
    nodes = {name: start_node(folder, config, url, name, "--quiet", "--common", "0") for name in names}
    for _ in range(kills):
        time.sleep(0.5 + rng.random())
        name = rng.choice(list(names))
        nodes[name].send_signal(signal.SIGKILL)
        nodes[name].wait()
        nodes[name] = start_node(folder, config, url, name, "--quiet", "--common", "0")
    wait_for(folder, names, list(nodes.values()), 900)
    seconds = time.perf_counter() - began
    written = {(folder / f"{name}.yaml").read_bytes() for name in names}
    if len(written) > 1:
        raise SystemExit("the nodes wrote different tables")
    return seconds, load_table(folder / f"{names[0]}.yaml")


def differing(one: Table, other: Table) -> list[str]:
    """The sizes, eight an octave, at which two tables decide otherwise."""
    found = []
    for cell in one.cells:
        for step in range(8 * 14):
            size = int(1024 * 2 ** (step / 8)) // 16 * 16
            words = {"dtype": cell.cell.dtype, "mode": cell.cell.mode, "dim": cell.cell.dim}
            answers = {
                table.dispatcher(cell.cell.collective, world_size=cell.cell.world_size).select(size, **words)
                for table in (one, other)
            }
            if len(answers) > 1:
                found.append(f"{cell.cell.name} at {short_size(size)}")
    return found


def main() -> int:
    """Run both and print what came of it; 1 when it is less than what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument(
        "--pace", type=float, default=80.0, help="real seconds for a replayed one (default: %(default)g)"
    )
    parser.add_argument("--kill", type=int, default=0, help="so many kills of random nodes (default: none)")
    options = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    replay = f"noise: 0.05, outliers: 0.01, seed: 3, pace: {options.pace:g}"
    with tempfile.TemporaryDirectory() as name, running_server() as server:
        folder = Path(name)
        config = write_config(folder, options.cells, replay, FIRST_LOOK)
        alone, one = sweep(folder, config, server.database(), ["alone"])
        names = [f"node{number}" for number in range(options.nodes)]
        together, shared = sweep(folder, config, server.database(), names, options.kill)
    visits, seconds = one.evidence["trials"], one.evidence["collective_seconds"]
    print(f"{options.cells} cells, {visits} visits, {seconds * options.pace / visits:.2f} s of replayed time in each")
    print(f"one process {alone:.1f} s, {options.nodes} processes {together:.1f} s: ratio {alone / together:.2f}")
    print(f"  of the {options.nodes}, {options.kill} times one was killed at random and started again")
    print(f"  visits by node: {dict(shared.evidence['nodes'])}")
    same = one._replace(evidence={}, digest="", source="") == shared._replace(evidence={}, digest="", source="")
    otherwise = differing(one, shared)
    print(f"  tables: {'the same but for their evidence' if same else f'{len(otherwise)} sizes decided otherwise'}")
    return 0 if same and (options.kill or alone / together >= WANTED_RATIO) else 1


if __name__ == "__main__":
    sys.exit(main())
