"""`doctor`: what can be measured here."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.units import approx_size
from ccl_dispatch.tuner.backends.registry import BACKENDS, backend_class
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.plan import WORKER_BYTES, available_memory
from ccl_dispatch.tuner.version import version

EXAMPLE = "ccl-dispatch doctor --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the machine and every backend, with the reason where it can't run."""
    facts = examine()
    if options.json:
        print_json(facts)
        return 0
    platform = facts["platform"]
    print(f"ccl-dispatch {facts['version']}")
    print(f"machine: {platform['device'] or 'unknown CPU'}, {platform['device_count']} usable cores")
    print("versions: " + ", ".join(f"{name} {text}" for name, text in platform["versions"].items()))
    memory = facts["available_memory"]
    if memory is not None:
        print(f"memory: {approx_size(memory)} available, enough for about {memory // WORKER_BYTES} ranks")
    print(f"clock: steps of {facts['clock_seconds'] * 1e9:.0f} ns")
    for name, reason in facts["backends"].items():
        print(f"backend {name}: {'ready' if reason is None else f'not here, {reason}'}")
    for name, text in platform["settings"].items():
        print(f"setting in force: {name}={text}")
    return 0


def examine() -> dict[str, Any]:
    """The facts as JSON data; a backend's value is the reason why it can't run, or None."""
    reasons: dict[str, str | None] = {}
    for name in BACKENDS:
        try:
            reasons[name] = backend_class(name).unavailable()
        except ImportError as problem:
            reasons[name] = f"{problem.name} is not installed"
    return {
        "version": version(),
        "platform": this_platform("cpu")._asdict(),
        "available_memory": available_memory(),
        "clock_seconds": _clock_step(),
        "backends": reasons,
    }


def _clock_step() -> float:
    """The smallest step that the measuring clock was seen to take, its own reading included."""
    steps = []
    for _ in range(1000):
        start = time.perf_counter()
        while (now := time.perf_counter()) == start:
            pass
        steps.append(now - start)
    return min(steps)
