"""What this machine is, in a table's words. Each thing that can't be had is left unknown, never guessed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ccl_dispatch.runtime.links import PciAddress, amd_links, describe_links, nvidia_links
from ccl_dispatch.runtime.table import Platform

_PREFIXES = ("NCCL_", "RCCL_", "AITER_", "HSA_")
#: A regular expression of the variables that a table depends on, but for `_NO_SETTINGS`.
SETTING = rf"^({'|'.join(_PREFIXES)}|SGLANG_.*AITER)"
# These change what is logged, not what is run; NVIDIA's images carry the version of their package in NCCL_VERSION,
# which no library reads; and AITER sets two itself when it is imported, whatever they were before: where it lies, and
# the architecture. A serving process has them, a sweep that leaves AITER to its workers has not.
_NO_SETTINGS = frozenset(
    ["NCCL_VERSION", "AITER_ASM_DIR", "AITER_GPU_ARCHS"]
    + [f"{library}_{name}" for library in ("NCCL", "RCCL") for name in ("DEBUG", "DEBUG_FILE", "DEBUG_SUBSYS")]
    + [f"AITER_LOG_{name}" for name in ("LEVEL", "MORE", "TUNED_CONFIG")]
)

T = TypeVar("T")


def this_platform(device_type: str, environ: Mapping[str, str] | None = None) -> Platform:
    """The platform of this process.

    Args:
        device_type: torch's name of the device, `cpu` or `cuda` (which is also what a ROCm build calls its GPUs).
            `cuda` imports torch and asks for the properties of the current device, which starts the GPU's runtime.
        environ: the environment variables to look at; this process's own by default.
    """
    settings = settings_in_force(os.environ if environ is None else environ)
    if device_type == "cpu":
        return _cpu(settings)
    if device_type == "cuda":
        return _cuda(settings)
    return Platform(device_type, "", "", 0, "", {"torch": torch_version()}, settings)


def settings_in_force(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change how a collective runs: NCCL's, RCCL's, AITER's, HSA's, and SGLang's for AITER."""
    return {key: environ[key] for key in sorted(environ) if is_setting(key)}


def is_setting(variable: str) -> bool:
    """Whether a table is valid for the value of that variable alone."""
    return re.match(SETTING, variable) is not None and variable not in _NO_SETTINGS


def torch_version() -> str:
    """The version of the torch that is, or would be, imported; empty when there is none. Does not import it.

    It is read from torch's own `version.py`: the package's metadata may lack the build's part (`+cu130`), and a version
    must read the same whether torch is imported yet or not.
    """
    module = sys.modules.get("torch")
    if module is not None:
        return str(getattr(module, "__version__", ""))
    return _ask(_torch_version_on_disk, "")


def _torch_version_on_disk() -> str:
    from importlib.metadata import version
    from importlib.util import find_spec

    spec = find_spec("torch")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for line in _read(f"{folder}/version.py").splitlines():
            if line.startswith("__version__"):
                return line.split("=", 1)[1].strip().strip("'\"")
    return version("torch")


def _cpu(settings: dict[str, str]) -> Platform:
    system = os.uname()
    versions = {"linux": system.release if system.sysname == "Linux" else "", "torch": torch_version()}
    return Platform(
        device_type="cpu",
        architecture=system.machine,
        device=_after_colon(_read("/proc/cpuinfo"), "model name"),
        device_count=_ask(lambda: len(os.sched_getaffinity(0)), os.cpu_count() or 0),
        link="host memory",
        versions=versions | _aiter(),
        settings=settings,
    )


def _cuda(settings: dict[str, str]) -> Platform:
    torch: Any = _ask(_import_torch, None)
    if torch is None:
        return Platform("cuda", "", "", 0, "", {"torch": torch_version()}, settings)
    properties: Any = _ask(lambda: torch.cuda.get_device_properties(torch.cuda.current_device()), None)
    hip = _ask(lambda: torch.version.hip or "", "")
    versions = {
        "torch": torch_version(),
        "rocm" if hip else "cuda": hip or _ask(lambda: torch.version.cuda or "", ""),
        "rccl" if hip else "nccl": _ask(lambda: ".".join(str(part) for part in torch.cuda.nccl.version()), ""),
        "driver": _read("/sys/module/amdgpu/version").strip() if hip else _nvidia_driver(),
    }
    count = _ask(lambda: int(torch.cuda.device_count()), 0)
    return Platform(
        device_type="cuda",
        architecture="" if properties is None else _architecture(properties, hip),
        device="" if properties is None else str(properties.name),
        device_count=count,
        link=_ask(lambda: _link(torch, count), ""),
        versions=versions | _aiter(),
        settings=settings,
    )


def _architecture(properties: Any, hip: str) -> str:
    if hip:
        # `gfx942:sramecc+:xnack-`: the features behind the colon belong to the build of a kernel, not to the chip.
        return str(getattr(properties, "gcnArchName", "")).split(":", 1)[0]
    return f"sm_{properties.major}{properties.minor}"


def _import_torch() -> Any:
    import torch

    return torch


def _aiter() -> dict[str, str]:
    """AITER's version where AITER is installed: with the commit, when the version does not have it already."""
    version = _ask(_aiter_version, None)
    return {} if version is None else {"aiter": version}


def _aiter_version() -> str | None:
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from importlib.util import find_spec

    try:
        found = distribution("amd-aiter")
    except PackageNotFoundError:
        return None if find_spec("aiter") is None else ""
    # setuptools_scm puts the commit behind a "+g"; an installation from a checkout says it in direct_url.json.
    commit = _ask(lambda: str(json.loads(found.read_text("direct_url.json") or "")["vcs_info"]["commit_id"]), "")
    return found.version if not commit or "+g" in found.version else f"{found.version} at {commit[:10]}"


def _link(torch: Any, count: int) -> str:
    """How the devices that this process sees are linked; empty when that can't be had."""
    if count == 1:
        return "none"
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    addresses = [PciAddress(each.pci_domain_id, each.pci_bus_id, each.pci_device_id) for each in found]
    return describe_links(amd_links(addresses) if torch.version.hip else nvidia_links(addresses), count)


def _nvidia_driver() -> str:
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 ..."
    words = _after_colon(_read("/proc/driver/nvidia/version"), "NVRM version").split()
    return next((word for word in words if "." in word and word.replace(".", "").isdigit()), "")


def _after_colon(text: str, key: str) -> str:
    """What stands behind the colon in the first line of `text` that begins with `key`; empty when there is none."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return ""


def _read(path: str) -> str:
    def read() -> str:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    return _ask(read, "")


def _ask(question: Callable[[], T], otherwise: T) -> T:
    """The answer to `question`, or `otherwise` when it can't be had.

    A machine is described by whatever it has; a library that is broken, absent or of another version raises what it
    likes, and none of that may keep a process from starting.
    """
    try:
        return question()
    except Exception:  # noqa: BLE001 - see above
        return otherwise
