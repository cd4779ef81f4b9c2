"""The examples for clusters hang together: their commands are ours, and what names something names what is there.

There is neither Slurm nor Kubernetes where tests run. docs/launching.md says what was checked against them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT

from ccl_dispatch.tuner.cli import parser_of
from ccl_dispatch.tuner.cli.sweep import config_path

EXAMPLES = ROOT / "docs" / "examples"
SLURM = EXAMPLES / "slurm.sh"
HUB = EXAMPLES / "optunahub" / "package"
# What optunahub.load_module does with a folder of the registry once it has fetched it.
LOADER = """\
import importlib.util, sys
def load_module(package):
    spec = importlib.util.spec_from_file_location(package.rpartition("/")[2], f"{sys.argv[1]}/{package}/__init__.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""


def test_the_slurm_script_calls_what_there_is(tmp_path: Path) -> None:
    """Run by bash with stand-ins for srun and ccl-dispatch, which print their arguments, the script calls our verbs.

    With STORAGE the storage is that; srun gets the sweep's command line, and the table that it writes is shown.
    """
    for name in ("srun", "ccl-dispatch"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    for storage in ("", "postgresql://ccl@db.example/ccl"):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **({"STORAGE": storage} if storage else {})}
        done = subprocess.run(
            ["bash", SLURM, "mi300x"], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        sweep, show = (shlex.split(line) for line in done.stdout.splitlines())
        options = parser_of("sweep")[0].parse_args(sweep[sweep.index("sweep") + 1 :])
        assert sweep[0] == "srun"
        assert options.storage == (storage or "runs/mi300x/study.journal")
        assert Path(config_path(options.config)).is_file()
        assert parser_of("show")[0].parse_args(show[2:]).table == options.out


def test_the_slurm_script_asks_for_a_task_per_gpu() -> None:
    """As many tasks as GPUs, all of which each task sees."""
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", SLURM.read_text(), flags=re.MULTILINE))
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert "gpus-per-task" not in asked


@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "kubernetes-fleet.yaml"])
def test_the_manifests_hang_together(name: str) -> None:
    """Each volume, claim, secret and service that is named is there, and a pod has the labels of its selector.

    The sweep's command is taken by our command line, and exit code 2 alone fails the Job at once.
    """
    documents = list(yaml.safe_load_all((EXAMPLES / name).read_text()))
    there = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert len(there) == len(documents)
    for document in documents:
        if "template" not in document.get("spec", {}):
            continue
        pod = document["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", ())]
        volumes = [volume["name"] for volume in pod.get("volumes", ())]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == {*volumes, *claims}
        for key, kind in (
            ("claimName", "PersistentVolumeClaim"),
            ("secretKeyRef", "Secret"),
            ("serviceName", "Service"),
        ):
            for value in _values(document, key):
                assert (kind, value["name"] if isinstance(value, dict) else value) in there, value
        labels = document["spec"]["template"].get("metadata", {}).get("labels")
        assert document["spec"].get("selector", {}).get("matchLabels") == labels
    (job,) = [document for document in documents if document["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, verb, *words = container["command"]
    assert (program, verb) == ("ccl-dispatch", "sweep")
    options = parser_of("sweep")[0].parse_args(words)
    assert Path(config_path(options.config)).is_file()
    if options.storage.startswith("postgresql://"):
        assert ("Service", options.storage.partition("@")[2].partition("/")[0]) in there
    fails, ignored = job["spec"]["podFailurePolicy"]["rules"]
    assert (fails["action"], fails["onExitCodes"]["values"]) == ("FailJob", [2])
    assert fails["onExitCodes"]["containerName"] == container["name"]
    assert ignored["action"] == "Ignore"


def _values(tree: Any, key: str) -> list[Any]:
    """All that stands under `key`, anywhere."""
    if isinstance(tree, list):
        return [found for item in tree for found in _values(item, key)]
    if not isinstance(tree, dict):
        return []
    here = [tree[key]] if key in tree else []
    return here + [found for item in tree.values() for found in _values(item, key)]


def test_the_package_for_optunahub_runs(tmp_path: Path) -> None:
    """Loaded as OptunaHub loads it, the example measures both sorts, ends by itself and prints what it found."""
    (tmp_path / "optunahub.py").write_text(LOADER)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    example = HUB / "samplers" / "regret_sampler" / "example.py"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, example, HUB], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ *(\d+) numbers: numpy \d+\.\d\dx, (\d+) timings$", done.stdout, flags=re.MULTILINE)
    assert {"2", "4096"} <= {size for size, _ in rows}
    assert 2 * sum(int(timings) for _, timings in rows) <= 400


def test_the_package_for_optunahub_says_what_the_registry_asks() -> None:
    """The head of its README has each field, names its kind, its licence, and no Optuna that we don't support."""
    folder = HUB / "samplers" / "regret_sampler"
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields.keys() == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert "sampler" in fields["tags"]
    assert fields["license"] == (folder / "LICENSE").read_text().partition("\n")[0] == "MIT License"
    assert all(int(version.partition(".")[0]) >= 5 for version in fields["optuna_versions"])
    assert re.findall("^## (.*)$", text, flags=re.MULTILINE) == ["Abstract", "APIs", "Installation", "Example"]
    assert "<" not in text  # OptunaHub takes HTML out
