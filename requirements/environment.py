"""Makes the virtual environment and installs what `make` asks for. Run by the Makefile, under any Python from 3.6 on.

    environment.py VENV tune|dev

A torch that the calling Python sees is kept: the environment then borrows the packages of that Python, and pip is bound
to that torch's version. Otherwise torch and all else come in the versions of constraints.txt.
"""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 10)
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
# Version and place of an installed torch, without importing it: that costs seconds and may start a driver.
ASK_TORCH = """
import importlib.metadata, importlib.util
spec = importlib.util.find_spec("torch")
print(importlib.metadata.version("torch") if spec else "", spec.origin if spec else "", sep="\\n")
"""
ASK_NUMPY = """
import importlib.metadata, importlib.util
print(importlib.metadata.version("numpy") if importlib.util.find_spec("numpy") else "")
"""
# In an environment that is not finished: its Python is there long before pip, or before a borrowed torch, is.
UNFINISHED = ".unfinished"
OLDEST_NUMPY = (1, 24)  # as pyproject.toml has it
ASK_PLACES = "import sysconfig; paths = sysconfig.get_paths(); print(paths['purelib'], paths['platlib'], sep='\\n')"


def main() -> None:
    """Make the environment if it is not there, then install."""
    if sys.version_info < OLDEST:
        needed, found = (".".join(str(part) for part in version[:3]) for version in (OLDEST, sys.version_info))
        sys.exit(
            f"ccl-dispatch needs Python {needed} or later, and {sys.executable} is {found}. "
            "Name another one, for example: make PYTHON=python3.12 (remove .venv first if it is there)"
        )
    venv, purpose = os.path.abspath(sys.argv[1]), sys.argv[2]
    if not os.path.exists(python_of(venv)) or os.path.exists(os.path.join(venv, UNFINISHED)):
        clear(venv)
        keep = os.environ.get("SYSTEM_SITE", "auto") != "0"
        make_venv(venv, torch_of(sys.executable)[0] if keep else "")
    install(venv, purpose)


def python_of(venv: str) -> str:
    """The environment's interpreter."""
    return os.path.join(venv, "bin", "python")


def clear(venv: str) -> None:
    """Take away an environment that was not finished; refuse a folder of anything else."""
    if os.path.exists(os.path.join(venv, UNFINISHED)):
        shutil.rmtree(os.path.realpath(venv), ignore_errors=True)
    elif os.path.exists(os.path.join(venv, "pyvenv.cfg")):
        sys.exit(f"{venv} is an environment whose Python is gone. Remove it, and call make again.")
    elif os.path.exists(venv) and not (os.path.isdir(venv) and not os.listdir(venv)):
        sys.exit(f"{venv} is there and is no environment. Name another folder, for example: make VENV=.venv")


def torch_of(python: str) -> "tuple[str, str]":
    """Version and place of the torch that `python` sees, both empty when there is none."""
    # From a folder in which nothing is named torch: `python -c` looks in the working folder first.
    done = subprocess.run([python, "-c", ASK_TORCH], cwd=HERE, stdout=subprocess.PIPE, check=False)
    version, place = (*done.stdout.decode().split("\n"), "", "")[:2]
    return version, place


def make_venv(venv: str, torch: str) -> None:
    """An environment of its own, or, with the version of a `torch` to keep, one that sees the caller's packages too."""
    if torch:
        say(f"making {venv}, which borrows torch {torch} and what is beside it from {sys.executable}")
    else:
        say(f"making {venv} with {sys.executable}")
    options = ["--system-site-packages"] if torch else []
    mark = os.path.join(venv, UNFINISHED)
    try:
        os.makedirs(venv, exist_ok=True)
        with open(mark, "w", encoding="utf-8"):
            pass
    except OSError as problem:
        sys.exit(
            f"{venv} can't be made: {problem.strerror}. Name another folder, for example: make VENV=$HOME/.ccl-dispatch"
        )
    done = subprocess.run([sys.executable, "-m", "venv", *options, venv], cwd=HERE, check=False)
    if done.returncode != 0:
        clear(venv)
        sys.exit(f"{sys.executable} -m venv failed. On Debian and Ubuntu, install the package python3-venv.")
    python = python_of(venv)
    if torch and torch_of(python)[0] != torch:
        # The caller is itself in a virtual environment; --system-site-packages means the Python below that one.
        caller, own = (subprocess.check_output([path, "-c", ASK_PLACES]).decode() for path in (sys.executable, python))
        with open(os.path.join(own.split("\n")[0], "borrowed.pth"), "w", encoding="utf-8") as file:
            file.write(caller)
    if torch and torch_of(python)[0] != torch:
        clear(venv)
        sys.exit(f"An environment made by {sys.executable} does not see its torch. SYSTEM_SITE=0 brings another one.")
    os.remove(mark)


def install(venv: str, purpose: str) -> None:
    """Install the package, editable, with what `purpose` needs."""
    python = python_of(venv)
    bounds = os.path.join(HERE, "constraints.txt")
    borrowed = borrowed_torch(venv)
    if borrowed:
        bounds = os.path.join(venv, "constraints.txt")
        with open(bounds, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in borrowed_bounds(python, borrowed)))
    # Of torch and its needs a tenth is ever imported, and compiling all of it takes half a minute.
    command = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", bounds]
    command += ["--editable", ROOT + "[report]"]
    if purpose == "dev":
        command += ["--requirement", os.path.join(HERE, "dev.txt")]
    size = "" if torch_of(python)[0] else " (with torch: the first time takes minutes on a slow line)"
    say(f"installing ccl-dispatch with what {'developing' if purpose == 'dev' else 'tuning'} needs{size}")
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("pip could not install what is needed; its message stands above. Mend that and call make again.")
    # That tenth is compiled now, for users who may not write here and for settings that keep Python from it.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [python, "-c", "import torch, optuna, matplotlib.pyplot"]
    subprocess.run(command, cwd=HERE, env=environ, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def borrowed_bounds(python: str, torch: str) -> "list[str]":
    """What pip may not replace beside a borrowed torch: the numpy that it was built for, unless that is too old for us.

    Nothing else is bound: the exact versions of constraints.txt might not be those that go with this torch.
    """
    done = subprocess.run([python, "-c", ASK_NUMPY], cwd=HERE, stdout=subprocess.PIPE, check=False)
    numpy = done.stdout.decode().strip()
    kept = numpy and tuple(int(part) for part in numpy.split(".")[:2]) >= OLDEST_NUMPY
    return [f"torch=={torch}", *([f"numpy=={numpy}"] if kept else [])]


def borrowed_torch(venv: str) -> str:
    """The version of a torch that the environment sees and that does not live in it, empty when there is none."""
    version, place = torch_of(python_of(venv))
    inside = os.path.realpath(place).startswith(os.path.realpath(venv) + os.sep)
    return "" if inside else version


def say(text: str) -> None:
    """Progress for the person who called make."""
    print(f"[make] {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
