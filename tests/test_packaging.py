"""What a user gets from a wheel: every package, PyYAML and nothing else, and never another torch."""

from __future__ import annotations

import base64
import configparser
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "runtime", "tables", "tuner")
ROCM_TORCH = "2.9.0+rocm7.0"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What a release is built from, with some of the tests beside it."""
    return _copied(tmp_path / "source")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy: a build leaves folders behind that the next one would pack."""
    return _wheel(_copied(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as it is made, to be copied."""
    folder = tmp_path_factory.mktemp("pristine") / "venv"
    _run(sys.executable, "-m", "venv", str(folder))
    return folder


@pytest.fixture
def bare(pristine: Path, tmp_path: Path) -> Path:
    """The interpreter of a fresh virtual environment: pip and what came with it."""
    return shutil.copytree(pristine, tmp_path / "bare", symlinks=True) / "bin" / "python"


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for what the extra asks for, in place of the registry: among them a torch newer than any installed."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("torch", "optuna", "numpy", "threadpoolctl", "rich", "PyYAML"):
        _write_wheel(folder, name, "99.0")
    return folder


def test_the_wheel_holds_every_module_of_the_checkout(wheel: Path) -> None:
    """A module that is in the checkout is in the wheel under ccl_dispatch: no sub-package was forgotten."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"ccl_dispatch/{path.relative_to(ROOT)}" for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    folders = sorted({str(Path(module).parent).replace("/", ".") for module in modules - packed})
    assert not folders, f"add to [tool.setuptools] packages in pyproject.toml: {folders}"


def test_the_wheel_holds_the_data_beside_the_modules(wheel: Path) -> None:
    """Configs, tables, the report's style and script and the markers that say "typed" travel with the code; examples
    and samples do not.
    """
    packed = set(zipfile.ZipFile(wheel).namelist())
    data = {
        f"ccl_dispatch/{path.relative_to(ROOT)}"
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.name == "py.typed"
        or path.suffix in {".css", ".js"}
        or (path.suffix == ".yaml" and path.parent.name in ("configs", "tables"))
    }
    assert {f"ccl_dispatch/{name}/py.typed" for name in FOLDERS} <= data
    assert not [name for name in packed if "examples" in name or name.endswith(".journal")]
    assert data <= packed, f"add to [tool.setuptools.package-data] in pyproject.toml: {sorted(data - packed)}"


def test_the_wheel_puts_nothing_generic_into_site_packages(wheel: Path) -> None:
    """Whatever is unpacked lies in ccl_dispatch, which has no __init__ of its own, or in the distribution's records."""
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in packed} == {"ccl_dispatch", f"ccl_dispatch-{_version()}.dist-info"}
    assert "ccl_dispatch/__init__.py" not in packed


def test_a_wheel_of_the_sdist_is_that_of_the_checkout(wheel: Path, source: Path, tmp_path: Path) -> None:
    """An sdist has all that the wheel is built from, licence and changelog, and not some tests without the others."""
    code = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    name = _run(sys.executable, "-c", code, str(tmp_path), cwd=source).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / name.removesuffix(".tar.gz")
    assert {"CHANGELOG.md", "LICENSE", "README.md"} <= {path.name for path in unpacked.iterdir()}
    assert not (unpacked / "tests").exists()
    again = _wheel(unpacked, tmp_path / "again")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_without_extras_only_pyyaml_is_required(wheel: Path) -> None:
    """`pip install ccl-dispatch` brings PyYAML alone, the extras the rest, and none of them a pinned torch."""
    required = _metadata(wheel).get_all("Requires-Dist") or []
    assert [line for line in required if "extra ==" not in line] == ["PyYAML>=6.0"]
    extra = sorted(line.split(";")[0].strip() for line in required if "extra ==" in line)
    tuner = {"numpy", "optuna", "rich", "threadpoolctl", "torch"}
    fleet = {"grpcio", "protobuf", "psycopg[binary]", "pymysql"}
    assert {line.split(">=")[0] for line in extra} == {*tuner, *fleet, "matplotlib", "ccl-dispatch[tuner]"}
    assert not any(mark in line for line in extra for mark in ("==", "<", "~", "@"))


def test_fleet_asks_for_what_the_proxy_was_generated_with(wheel: Path) -> None:
    """Optuna's code for gRPC refuses a grpcio or protobuf older than what made it: `[fleet]` asks for as much."""
    generated = Path(str(importlib.metadata.distribution("optuna").locate_file("optuna/storages/_grpc/auto_generated")))
    grpcio = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", (generated / "api_pb2_grpc.py").read_text())
    protobuf = re.search(r"Protobuf Python Version: ([\d.]+)", (generated / "api_pb2.py").read_text())
    assert grpcio
    assert protobuf
    required = _metadata(wheel).get_all("Requires-Dist") or []
    bounds = dict(line.split(";")[0].split(">=") for line in required if ">=" in line)
    for name, version in (("grpcio", grpcio[1]), ("protobuf", protobuf[1])):
        assert _numbers(bounds[name]) >= _numbers(version), f"{name}: {bounds[name]} is asked for, {version} needed"


def test_the_wheel_alone_serves_the_runtime(wheel: Path, bare: Path) -> None:
    """With the wheel and PyYAML and nothing else, every module of the runtime and the tables' folder are there."""
    site_packages = _site_packages(bare)
    _run(str(bare), "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel))
    for file in importlib.metadata.files("PyYAML") or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            target = site_packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
    paths = sorted((ROOT / "runtime").rglob("*.py"))
    modules = ["ccl_dispatch." + ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    code = (
        "import importlib, importlib.util, importlib.resources as r, sys\n"
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        "assert r.files('ccl_dispatch.tables').joinpath('__init__.py').is_file()\n"
        "for name in ('torch', 'optuna', 'numpy', 'rich'): assert importlib.util.find_spec(name) is None, name\n"
        "assert not [name for name in sys.modules if name.startswith('ccl_dispatch.tuner')]\n"
        "print(sys.modules['ccl_dispatch.runtime'].__file__)"
    )
    assert _run(str(bare), "-I", "-c", code).strip().startswith(str(site_packages))
    assert "No broken requirements" in _run(str(bare), "-m", "pip", "check")
    # The command is there as well; what reads tables works, what measures says what is missing.
    command = bare.with_name("ccl-dispatch")
    assert "example: ccl-dispatch show" in _run(str(command), "show", "--help")
    for verb in ("explain", "validate"):
        assert f"usage: ccl-dispatch {verb}" in _run(str(command), verb, "--help")
    for what in ("table", "config", "events"):
        assert '"$schema"' in _run(str(command), "schema", "--of", what)
    # An environment that was moved: the script names the Python that was, which `python -m` does without.
    moved = bare.parents[1].rename(bare.parents[2] / "moved")
    assert f"ccl-dispatch {_version()}" in _run(str(moved / "bin" / "python"), "-m", "ccl_dispatch.tuner", "--version")
    moved.rename(bare.parents[1])
    refused = subprocess.run([str(command), "sweep", "--quiet"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "pip install 'ccl-dispatch[tuner]'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_command_is_there(wheel: Path) -> None:
    """The wheel brings the command `ccl-dispatch` and the engines' plugins, and no other entry point."""
    entries = configparser.ConfigParser()
    entries.read_string(_read(wheel, "entry_points.txt"))
    assert {name: dict(entries[name]) for name in entries.sections()} == {
        "console_scripts": {"ccl-dispatch": "ccl_dispatch.tuner.cli:main"},
        "sglang.srt.plugins": {"ccl_dispatch": "ccl_dispatch.runtime.plugins.sglang:register"},
        "vllm.general_plugins": {"ccl_dispatch": "ccl_dispatch.runtime.plugins.vllm:register"},
    }


def test_the_wheel_is_small_and_pure_python(wheel: Path) -> None:
    """One wheel serves every platform, and it is smaller than a photograph."""
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 640 * 1024


@pytest.mark.parametrize(("installed", "after"), [(ROCM_TORCH, ROCM_TORCH), (None, "99.0")])
def test_an_installed_torch_stays(wheel: Path, bare: Path, shelf: Path, installed: str | None, after: str) -> None:
    """A ROCm build of torch is left in place by `[tuner]`, though a newer one is on offer, which is taken when there is
    no torch.
    """
    if installed:
        _place_distribution(_site_packages(bare), "torch", installed)
    _run(str(bare), "-m", "pip", "install", "-q", "--no-index", "--find-links", str(shelf), f"{wheel}[tuner]")
    found = _run(str(bare), "-c", "import importlib.metadata as m; print(m.version('torch'), m.version('optuna'))")
    assert found.split() == [after, "99.0"]


@pytest.mark.parametrize("there", [False, True])
def test_make_borrows_the_torch_of_its_python(bare: Path, tmp_path: Path, *, there: bool) -> None:
    """The environment that `make` makes sees a torch of the calling Python, also when that is itself an environment's,
    and knows that the torch is borrowed, and binds the numpy beside it; without one it borrows nothing.
    """
    if there:
        _place_distribution(_site_packages(bare), "torch", ROCM_TORCH)
        _place_distribution(_site_packages(bare), "numpy", "1.26.4")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'requirements')!r}); import environment as e\n"
        f"venv = {str(tmp_path / 'venv')!r}\n"
        "e.make_venv(venv, e.torch_of(sys.executable)[0]); torch = e.borrowed_torch(venv)\n"
        "print(torch and e.borrowed_bounds(e.python_of(venv), torch))"
    )
    expected = str([f"torch=={ROCM_TORCH}", "numpy==1.26.4"]) if there else ""
    assert _run(str(bare), "-c", code).splitlines()[-1].strip() == expected


_MAKE = f"""
import os, subprocess, sys
sys.path.insert(0, {str(ROOT / "requirements")!r})
import environment as e
e.install = lambda venv, purpose: None
e.torch_of = lambda python: ("", "")
def half(command, **options):
    subprocess.check_call([*command[:3], "--without-pip", *command[3:]])
    if sys.argv.pop() == "killed":
        os._exit(9)
    return subprocess.CompletedProcess(command, 1)
if sys.argv[-1] != "dev":
    e.subprocess.run = half
e.main()
"""


def test_an_environment_that_was_not_finished_is_made_anew(tmp_path: Path) -> None:
    """One whose making was interrupted before it had pip does not pass for a whole one; one whose Python is gone is
    told of, and left to be removed.
    """
    venv = tmp_path / "venv"
    make = [sys.executable, "-c", _MAKE, str(venv), "dev"]
    assert subprocess.run([*make, "killed"], check=False).returncode == 9
    assert (venv / "bin" / "python").exists()
    _run(*make)
    _run(str(venv / "bin" / "python"), "-m", "pip", "--version")
    assert not (venv / ".unfinished").exists()
    for name in ("python", "python3"):
        (venv / "bin" / name).unlink()
        (venv / "bin" / name).symlink_to(tmp_path / "gone")
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.stderr == f"{venv} is an environment whose Python is gone. Remove it, and call make again.\n"
    assert (venv / "pyvenv.cfg").exists()


def test_a_folder_that_is_no_environment_stays(tmp_path: Path) -> None:
    """What `VENV` names by mistake is left as it is, also where no environment can be made."""
    (tmp_path / "data").write_text("mine")
    for end in ((), ("failed",)):
        make = [sys.executable, "-c", _MAKE, str(tmp_path), "dev", *end]
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        assert (
            done.stderr
            == f"{tmp_path} is there and is no environment. Name another folder, for example: make VENV=.venv\n"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["data"]


def _copied(folder: Path) -> Path:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for path in (ROOT / "pyproject.toml", ROOT / "MANIFEST.in", ROOT / "LICENSE", *ROOT.glob("*.md")):
        shutil.copy(path, folder)
    shutil.copy(__file__, folder / "tests")
    return folder


def _wheel(source: Path, out: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(source))
    (built,) = out.iterdir()
    return built


def _run(*command: str, cwd: Path | None = None) -> str:
    """Standard output of a command that must do its work, with no pip setting of this machine but its registry.

    With `--no-index` not even that: a pip that is set up to look elsewhere or to pin torch is not what is tested.
    """
    unwanted = {"PYTHONPATH", "PIP_CONSTRAINT", *(("PIP_FIND_LINKS",) if "--no-index" in command else ())}
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    environ |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if "--no-index" in command:
        environ["PIP_CONFIG_FILE"] = os.devnull
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=cwd, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _site_packages(python: Path) -> Path:
    return Path(_run(str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())


def _read(wheel: Path, name: str) -> str:
    return zipfile.ZipFile(wheel).read(f"ccl_dispatch-{_version()}.dist-info/{name}").decode()


def _metadata(wheel: Path) -> importlib.metadata.PackageMetadata:
    with zipfile.ZipFile(wheel) as archive:
        path = zipfile.Path(archive, f"ccl_dispatch-{_version()}.dist-info/")
        return importlib.metadata.PathDistribution(path).metadata


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _version() -> str:
    return importlib.metadata.version("ccl-dispatch")


def _place_distribution(site_packages: Path, name: str, version: str) -> None:
    """An installed distribution without content, as far as pip can tell."""
    records = site_packages / f"{name}-{version}.dist-info"
    records.mkdir()
    (records / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (records / "INSTALLER").write_text("pip\n")
    (records / "RECORD").write_text(f"{name}/__init__.py,,\n{records.name}/METADATA,,\n{records.name}/RECORD,,\n")
    (site_packages / name).mkdir()
    (site_packages / name / "__init__.py").touch()


def _write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel without content."""
    records = f"{name}-{version}.dist-info"
    files = {
        f"{records}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{records}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{records}/RECORD", "\n".join([*rows, f"{records}/RECORD,,"]) + "\n")


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
