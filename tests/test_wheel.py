"""The wheel in fresh environments, outside the checkout.

An environment holds the wheel and, linked from the running environment, exactly the distributions
that the wheel's metadata ask for, with theirs: nothing is downloaded, and a dependency that is used
but not declared is not there. So the tests prove that the declared dependencies and the packed
files are enough. They do not prove that the lower bounds of the versions are.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import made_up_results
from checkout import ROOT

pytestmark = pytest.mark.slow
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "workflow", source / "workflow", ignore=ignore)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "--wheel-dir", source / "dist", source], check=True)
    [found] = (source / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """Makes an environment with the wheel and some of its extras, inside a repository of others."""
    made = {}

    def environment(*extras):
        if extras not in made:
            repository = tmp_path_factory.mktemp("-".join(("core", *extras)))
            git(repository, "init", "-q")
            git(repository, "commit", "-q", "--allow-empty", "-m", "not ours")
            made[extras] = repository / "env"
            install(wheel, made[extras], extras)
        return made[extras]

    return environment


def git(folder, *arguments):
    author = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


def install(wheel, folder, extras):
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    [own] = (folder / SITE).glob("flatness-*.dist-info")
    for needed in closure(Distribution.at(own), extras).values():
        for entry in top_level(needed):
            target = folder / SITE / entry.name
            if not target.exists():
                target.symlink_to(entry)


def closure(root, extras):
    """All that a distribution and its extras require, by name."""
    found, waiting = {}, [(root, set(extras))]
    while waiting:
        current, wanted = waiting.pop()
        for text in current.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in wanted or {""}):
                continue
            if requirement.name == root.name:
                waiting.append((root, requirement.extras))
                continue
            key = requirement.name, frozenset(requirement.extras)
            if key not in found:
                found[key] = distribution(requirement.name)
                waiting.append((found[key], requirement.extras))
    return found


def top_level(installed):
    """What a distribution put into the folder of packages, but for compiled files."""
    names = {path.parts[0] for path in installed.files} - {"..", "__pycache__"}
    return [Path(installed.locate_file(name)) for name in sorted(names)]


def run(environment, *command, folder=None):
    """Runs a command of an environment, which sees no other packages and no other programs."""
    path = os.pathsep.join([str(environment / "bin"), "/usr/bin", "/bin"])
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    program, *arguments = command
    return subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=folder or environment.parent,
        env=kept | {"PATH": path},
        capture_output=True,
        text=True,
    )


MEASURING = """
import sys
import flatness
assert "torch" not in sys.modules
assert "site-packages" in flatness.__file__
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
inputs, targets = torch.randn(30, 5), torch.randn(30, 2)
found = flatness.measure(model, inputs, targets)
assert set(found) == set(flatness.QUANTITIES)
rise = flatness.worst_case_sharpness(
    model, inputs, targets, loss=nn.functional.mse_loss, rho=0.1, restarts=2
)
H = flatness.hessian(model, inputs, targets)
print(found["sharpness"].value, rise.value, H.trace().value, H.top_eigenvalue())
"""


def test_the_core_measures_a_module(fresh):
    shown = run(fresh(), "python", "-W", "error::DeprecationWarning:flatness", "-c", MEASURING)
    assert shown.returncode == 0, shown.stderr
    values = [float(text) for text in shown.stdout.split()]
    assert len(values) == 4 and all(value > 0 for value in values)


def test_the_core_has_nothing_of_the_studies(fresh):
    # torchvision is there: curvlinops asks for it, by way of BackPACK
    names = ("pandas", "pydantic", "seaborn", "matplotlib", "typer", "timm", "snakemake")
    for name in names:
        assert run(fresh(), "python", "-c", f"import {name}").returncode == 1


def test_the_core_is_typed(fresh):
    assert (fresh() / SITE / "flatness/py.typed").is_file()


def test_the_command_without_the_studies_ends_in_one_line(fresh):
    for command in (["flatness", "--help"], ["python", "-m", "flatness", "run", "x.yaml"]):
        shown = run(fresh(), *command)
        assert shown.returncode == 2
        assert shown.stderr.startswith("error: ") and shown.stderr.count("\n") == 1
        assert "flatness[studies]" in shown.stderr


def test_a_run_without_the_workflow_ends_in_one_line(fresh):
    shown = run(fresh("studies"), "flatness", "run", ROOT / "config/demo.yaml")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: ") and shown.stderr.count("\n") == 1
    assert "flatness[workflow]" in shown.stderr


def test_the_studies_make_a_report_of_a_folder_of_tables(fresh, tmp_path):
    results = tmp_path / "laptop"
    made_up_results.pool(results)
    made_up_results.family(results, "vgg11")
    made_up_results.picture(results, "epfl_fig1")
    files = ["--ledger", "claims.csv", "--html", "report.html"]
    shown = run(
        fresh("studies"), "flatness", "report", "--results", results, *files, folder=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    assert "reproduced" in (tmp_path / "claims.csv").read_text()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Test loss against adaptive worst-case sharpness" in page


def test_an_installed_copy_takes_no_other_repository_for_its_own(fresh):
    shown = run(fresh("studies"), "flatness", "--version")
    assert shown.stdout.strip().endswith("commit unknown"), shown.stdout + shown.stderr
