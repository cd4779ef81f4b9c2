"""Makes the virtual environment and installs what `make` asks for. Run by the Makefile, under any Python 3.

    venv.py VENV tune|dev

A torch that the calling Python sees is kept: the environment then borrows the packages of that Python, and pip is bound
to that torch's version. Otherwise torch and all else come in the versions of constraints.txt.
"""

from __future__ import print_function

import os
import shutil
import subprocess
import sys

OLDEST = (3, 10)
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
# Prints the version of an installed torch without importing it (that costs seconds and may start a driver).
ASK_TORCH = """
import importlib.metadata as metadata, importlib.util
print(metadata.version("torch") if importlib.util.find_spec("torch") else "")
"""
ASK_PLACES = "import site, sysconfig; p = sysconfig.get_paths(); print(p['purelib']); print(p['platlib'])"


def main():
    if sys.version_info < OLDEST:
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(
            "ccl-dispatch needs Python %d.%d or later; %s is %s. Name another one: make PYTHON=python3.12"
            % (OLDEST + (sys.executable, found))
        )
    venv, purpose = os.path.abspath(sys.argv[1]), sys.argv[2]
    python = os.path.join(venv, "bin", "python")
    borrowed = torch_of(sys.executable) if os.environ.get("SYSTEM_SITE", "auto") != "0" else ""
    if not os.path.exists(python):
        make_venv(venv, python, borrowed)
    install(venv, python, purpose)


def torch_of(python):
    """The version of the torch that `python` sees, empty when there is none."""
    # From a folder in which nothing is named torch: `python -c` looks in the working folder first.
    done = subprocess.run([python, "-c", ASK_TORCH], cwd=HERE, stdout=subprocess.PIPE, universal_newlines=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def make_venv(venv, python, borrowed):
    """An environment of its own, or one that also sees the calling Python's packages when these include torch."""
    if borrowed:
        say("keeping torch %s of %s: %s borrows its packages" % (borrowed, sys.executable, venv))
    else:
        say("making %s with %s" % (venv, sys.executable))
    options = ["--system-site-packages"] if borrowed else []
    done = subprocess.run([sys.executable, "-m", "venv"] + options + [venv])
    if done.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)  # half an environment would pass for a whole one at the next call
        sys.exit("%s -m venv failed. On Debian and Ubuntu, install the package python3-venv." % sys.executable)
    if borrowed and torch_of(python) != borrowed:
        # The calling Python is itself in a virtual environment: --system-site-packages means the one below it.
        places = subprocess.check_output([sys.executable, "-c", ASK_PLACES], universal_newlines=True).split("\n")
        target = subprocess.check_output([python, "-c", ASK_PLACES], universal_newlines=True).split("\n")[0]
        with open(os.path.join(target, "borrowed.pth"), "w") as file:
            file.write("\n".join(sorted({place for place in places if place})) + "\n")
    if borrowed and torch_of(python) != borrowed:
        sys.exit("%s does not see torch %s of %s. Use SYSTEM_SITE=0 for a torch of its own." % (venv, borrowed, sys.executable))


def install(venv, python, purpose):
    """The package, editable, with what `purpose` needs."""
    kept = kept_torch(venv, python)
    if kept:
        bounds = os.path.join(venv, "constraints.txt")
        with open(bounds, "w") as file:
            file.write("torch==%s\n" % kept)
    else:
        bounds = os.path.join(HERE, "constraints.txt")
    command = [python, "-m", "pip", "install", "--quiet", "--constraint", bounds, "--editable", ROOT + "[tuner]"]
    if purpose == "dev":
        command += ["--requirement", os.path.join(HERE, "dev.txt")]
    say("installing what `make %s` needs (torch is large; minutes on a slow line)" % ("test" if purpose == "dev" else "tune"))
    if subprocess.run(command).returncode != 0:
        sys.exit("pip could not install what is needed; its message stands above. Mend that and call make again.")


def kept_torch(venv, python):
    """The version of a torch that is seen in the environment but does not live in it, empty when there is none."""
    code = ASK_TORCH + "spec = importlib.util.find_spec('torch'); print(spec.origin if spec else '')"
    version, origin = subprocess.check_output([python, "-c", code], cwd=HERE, universal_newlines=True).split("\n")[:2]
    inside = os.path.realpath(origin).startswith(os.path.realpath(venv) + os.sep)
    return "" if inside else version


def say(text):
    print("[make] " + text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
