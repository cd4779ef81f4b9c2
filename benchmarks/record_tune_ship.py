"""Record, tune, ship: a small serving job on this machine's CPU, from its calls to a table that it runs faster with.

    python benchmarks/record_tune_ship.py [--ranks 2] [--passes 30] [--seconds 60] [--keep FOLDER]

1. The job serves its trace with CCL_DISPATCH=record, on real ranks over gloo and shared memory.
2. `ccl-dispatch sweep` tunes a config whose workload is that record.
3. The job serves the same trace in three ways by turns, pass by pass in one run: always the baseline, always the
   candidate where it can take the tensor, and with the table installed. Outputs are checked.

Prints the time of a pass under each and ends with 1 when the table's is not below always-baseline's, or above
always-candidate's by more than the noise of two halves of one way's passes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime_import import machine

CONFIG = """\
name: recorded
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [{ranks}]
dtypes: [bfloat16]
sizes: {{min: 16 B, max: 2 MiB, per_octave: 1}}
workload: {{recorded: recorded}}
measure: {{min_samples: 20, min_seconds: 0.02}}
budget: {{regret: 0.01, seconds: {seconds:g}}}
"""
WAYS = ("baseline", "candidate", "table")


def trace(count: int) -> list[tuple[int, int]]:
    """Shapes as an engine asks for them: decoding batches of a few rows, now and then a long prompt."""
    chance = random.Random(3)
    return [(chance.choice((1, 2, 4, 4, 8)), 7168) if chance.random() < 0.9 else (64, 7168) for _ in range(count)]


def main(arguments: Sequence[str]) -> int:
    """The parent: three steps, each in processes of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--calls", type=int, default=100, help="calls of a pass")
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of the sweep")
    parser.add_argument("--keep", metavar="FOLDER", help="where record, study and table stay")
    options = parser.parse_args(arguments)
    print(f"machine: {machine()}; {options.ranks} ranks, {options.passes} passes of {options.calls} calls each way")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        record = {"CCL_DISPATCH": "record", "CCL_DISPATCH_RECORD": str(folder / "recorded")}
        run_job(options, "record", folder, record)
        print(f"recorded: {len(list((folder / 'recorded').iterdir()))} files")
        (folder / "config.yaml").write_text(CONFIG.format(ranks=options.ranks, seconds=options.seconds))
        code = "import sys; from ccl_dispatch.tuner.cli import main; sys.exit(main())"
        sweep = [sys.executable, "-c", code, "sweep", "config.yaml", "--out", "table.yaml"]
        subprocess.run(sweep, cwd=folder, check=True, capture_output=True)
        subprocess.run([sys.executable, "-c", code, "show", "table.yaml"], cwd=folder, check=True)
        times = run_job(options, "compare", folder, {"CCL_DISPATCH_TABLE": str(folder / "table.yaml")})
    return judge(times)


def judge(times: dict[str, list[float]]) -> int:
    """Print what a pass took under each way, and compare."""
    middle = {way: statistics.median(times[way]) for way in WAYS}
    for way in WAYS:
        low, _, high = statistics.quantiles(times[way], n=4)
        print(f"  {way:10s} {middle[way] * 1e3:8.2f} ms a pass (quartiles {low * 1e3:.2f} to {high * 1e3:.2f})")
    candidate = times["candidate"]
    noise = abs(statistics.median(candidate[::2]) / statistics.median(candidate[1::2]) - 1)
    against_baseline = middle["table"] / middle["baseline"]
    against_candidate = statistics.median(table / other for table, other in zip(times["table"], candidate, strict=True))
    print(f"table / always baseline: {against_baseline:.3f} (below 1 wanted)")
    print(
        f"table / always candidate, pass by pass: {against_candidate:.3f} (at most 1 + noise, {1 + noise:.3f}, wanted)"
    )
    return 0 if against_baseline < 1 and against_candidate <= 1 + noise else 1


def run_job(options: Any, step: str, folder: Path, environment: dict[str, str]) -> dict[str, list[float]]:
    """The serving job: one process per rank. What rank 0 printed, as JSON."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", **environment}
    words = [str(options.ranks), str(port), str(options.calls), str(options.passes)]
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, "rank", step, str(rank), *words],
            env=environ,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(options.ranks)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in ranks]
    if any(process.returncode for process in ranks):
        raise RuntimeError(f"a rank of the job failed at the step {step}")
    found: dict[str, list[float]] = json.loads(outputs[0].splitlines()[-1])
    return found


def serve(step: str, rank: int, ranks: int, port: int, calls: int, passes: int) -> None:
    """One rank of the job: an engine's all-gather around a communicator, as SGLang has it."""
    import torch
    import torch.distributed as dist

    from ccl_dispatch.runtime import install, uninstall
    from ccl_dispatch.tuner.shared_memory import ShmCommunicator

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    world: Any = dist.group.WORLD
    communicator: Any = ShmCommunicator(world)
    work = []
    for shape in trace(calls):
        mine = torch.full(shape, float(rank + 1), dtype=torch.bfloat16)
        work.append((mine, torch.empty((ranks * shape[0], shape[1]), dtype=torch.bfloat16)))

    def gather(mine: torch.Tensor, out: torch.Tensor) -> None:
        if communicator.should_custom_ag(mine):
            communicator.all_gather_unreg(mine, out)
        else:
            dist.all_gather(list(out.chunk(ranks)), mine)

    def one_pass() -> float:
        dist.barrier()
        begun = time.perf_counter()
        for mine, out in work:
            gather(mine, out)
        seconds = time.perf_counter() - begun
        for _, out in work:
            for peer, part in enumerate(out.chunk(ranks)):
                if not bool((part == peer + 1).all()):
                    raise RuntimeError("a gather was wrong")
            out.zero_()
        return seconds

    times: dict[str, list[float]] = {way: [] for way in WAYS}
    if step == "record":
        done = install(communicator)
        one_pass()
        if done.state != "recording":
            raise RuntimeError(done.reason)
    else:
        # Installed once, as serving does; the other two ways are what it put aside, and never.
        if not install(communicator, strict=True):
            raise RuntimeError("the table is not in use")
        asked = communicator.should_custom_ag
        uninstall(communicator)
        ways = {"baseline": lambda inp: False, "candidate": communicator.should_custom_ag, "table": asked}
        for number in range(passes + 2):
            for step_of in range(len(WAYS)):
                way = WAYS[(number + step_of) % len(WAYS)]
                communicator.should_custom_ag = ways[way]
                seconds = one_pass()
                if number >= 2:  # warm by then
                    times[way].append(seconds)
    dist.barrier()
    print(json.dumps(times))
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        serve(sys.argv[2], *(int(word) for word in sys.argv[3:]))
    else:
        sys.exit(main(sys.argv[1:]))
