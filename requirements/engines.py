"""Lays the serving engines out for `make test-engines`: their Python modules, and what those import.

    engines.py PYTHON FOLDER

The engines' wheels are downloaded whole, but only their Python and their records are unpacked: their binaries are for
GPUs, and a third of a gigabyte. Nothing of it enters the environment; tests put FOLDER on the path of their processes.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINES = ("sglang==0.5.23", "vllm==0.33.0")


def main() -> None:
    """Make the folder anew."""
    python, folder = sys.argv[1], os.path.abspath(sys.argv[2])
    version = (
        subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).decode().strip()
    )
    if version != "3.11":
        sys.exit(
            f"{ENGINES[0]} has wheels for Python 3.11 alone, and {python} is {version}: make PYTHON=python3.11 ..."
        )
    shutil.rmtree(folder, ignore_errors=True)
    needs = os.path.join(HERE, "engines.txt")
    say("installing what the engines' modules import")
    pip(python, "install", "--no-deps", "--target", folder, "--requirement", needs)
    for engine in ENGINES:
        say(f"fetching {engine} and unpacking its Python")
        with tempfile.TemporaryDirectory() as downloads:
            pip(python, "download", "--no-deps", "--only-binary=:all:", "--dest", downloads, engine)
            (wheel,) = glob.glob(os.path.join(downloads, "*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if wanted(name)])


def wanted(name: str) -> bool:
    """Python, what SGLang compiles from (it looks for the folder), and the records that name the distribution."""
    return name.endswith((".py", ".cu", ".cuh", ".h", ".hpp")) or ".dist-info/" in name


def pip(python: str, *arguments: str) -> None:
    """Run pip, and end with its message when it can't."""
    if subprocess.run([python, "-m", "pip", "-q", *arguments], check=False).returncode != 0:
        sys.exit("pip could not fetch what the engines' tests need; its message stands above")


def say(text: str) -> None:
    """Progress for the person who called make."""
    print(f"[make] {text}", flush=True)


if __name__ == "__main__":
    main()
