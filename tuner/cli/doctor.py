"""`doctor`: what can be measured here, and whether it is right."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.units import short_size
from ccl_dispatch.runtime.version import version
from ccl_dispatch.tuner.allowance import host_memory, processors_at_once
from ccl_dispatch.tuner.backends.registry import BACKENDS, backend_class
from ccl_dispatch.tuner.cli.options import add_json, print_json
from ccl_dispatch.tuner.cli.terminal import tell_who_watches
from ccl_dispatch.tuner.files import temporary_folder
from ccl_dispatch.tuner.machine import WORKER_BYTES
from ccl_dispatch.tuner.torch_import import broken_torch

EXAMPLE = "ccl-dispatch doctor --json"
NO = "a backend that is ready gave a wrong output, crashed or hung"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_json(parser)
    parser.add_argument("--no-check", action="store_true", help="only say what is there; run nothing")


def run(options: argparse.Namespace) -> int:
    """Print the machine and every backend, with the reason where it can't run; 1 when one of them is wrong."""
    facts = examine(check=not options.no_check)
    if options.json:
        print_json(facts)
    else:
        print("\n".join(_lines(facts)))
    return 1 if any(check["problems"] for check in facts["checks"].values()) else 0


def examine(*, check: bool) -> dict[str, Any]:
    """The facts as JSON data; a backend's value is the reason why it can't run, or None."""
    broken = broken_torch()
    reasons: dict[str, str | None] = {}
    for name in BACKENDS:
        try:
            reasons[name] = broken or backend_class(name).unavailable()
        except ImportError as problem:
            reasons[name] = f"{problem.name} is not installed"
    gpus = 0 if broken else _gpu_count()
    return {
        "version": version(),
        "platform": this_platform("cpu")._asdict(),
        "gpu_platform": this_platform("cuda")._asdict() if gpus else None,
        "available_memory": host_memory().available,
        "processors_at_once": processors_at_once(),
        "clock_seconds": _clock_step(),
        "backends": reasons,
        "checks": _checks([name for name, reason in reasons.items() if reason is None], gpus) if check else {},
    }


def _checks(ready: list[str], gpus: int) -> dict[str, dict[str, Any]]:
    """The pass over every backend that is ready, on its device; aiter on a GPU where there is one."""
    if not ready:
        return {}
    from ccl_dispatch.tuner.device.placement import Placement
    from ccl_dispatch.tuner.selfcheck import RANKS, check_backends

    on: dict[str, list[str]] = {}
    for name in ready:
        device = next((each for each in backend_class(name).devices if each == "cpu" or gpus), None)
        if device is not None:
            on.setdefault(device, []).append(name)
    logs = temporary_folder("for the workers' logs")
    found: dict[str, dict[str, Any]] = {}
    for device, names in on.items():
        count = gpus if device == "cuda" else 0
        tell_who_watches(f"checking {', '.join(names)} on {device}; without: --no-check")
        placement = Placement(device, count, shared=0 < count < RANKS)
        with tempfile.TemporaryDirectory(prefix="ccl-dispatch-doctor-", dir=logs) as folder:
            for name, check in check_backends(names, placement, Path(folder)).items():
                found[name] = {"device": device, "shared": placement.shared, **asdict(check)}
    return {name: found[name] for name in ready if name in found}


def _lines(facts: dict[str, Any]) -> list[str]:
    platform, gpu = facts["platform"], facts["gpu_platform"]
    machine = f"machine: {platform['device'] or 'unknown CPU'}, {platform['device_count']} usable cores"
    if facts["processors_at_once"] is not None:
        machine += f", of which a limit allows the time of {facts['processors_at_once']:g}"
    lines = [f"ccl-dispatch {facts['version']}", machine]
    if gpu is not None:
        name = f"{gpu['device_count']} x {gpu['device'] or 'unknown GPU'}"
        lines.append(f"GPUs: {name}, {gpu['architecture'] or 'unknown architecture'}, link {gpu['link'] or 'unknown'}")
    versions = platform["versions"] | (gpu["versions"] if gpu is not None else {})
    lines.append("versions: " + ", ".join(f"{name} {text or 'unknown'}" for name, text in versions.items()))
    memory = facts["available_memory"]
    if memory is not None:
        ranks = memory // WORKER_BYTES
        lines.append(f"memory: {short_size(memory)} available, enough for about {ranks} ranks on the host")
    lines.append(f"clock: steps of {facts['clock_seconds'] * 1e9:.0f} ns")
    for name, reason in facts["backends"].items():
        lines.append(f"backend {name}: {'ready' if reason is None else f'not here, {reason}'}")
        check = facts["checks"].get(name)
        if check is not None:
            lines += [f"  {line}" for line in _check_lines(check)]
    lines += [f"setting in force: {name}={text}" for name, text in platform["settings"].items()]
    return lines


def _check_lines(check: dict[str, Any]) -> list[str]:
    where = f"on {check['device']}" + (", the ranks sharing a GPU" if check["shared"] else "")
    if check["problems"]:
        return [f"WRONG {where}: {problem}" for problem in check["problems"]]
    if not check["right"]:
        return [f"takes nothing {where}: {check['reason']}"]
    refused = f", refuses {check['refused']}" if check["refused"] else ""
    return [f"right bit for bit at {check['right']} points {where}{refused}"]


def _gpu_count() -> int:
    try:
        from ccl_dispatch.tuner.device.cuda import gpu_count

        return gpu_count()
    except ImportError:
        return 0


def _clock_step() -> float:
    """The smallest step that the measuring clock was seen to take, its own reading included."""
    steps = []
    for _ in range(1000):
        start = time.perf_counter()
        while (now := time.perf_counter()) == start:
            pass
        steps.append(now - start)
    return min(steps)
