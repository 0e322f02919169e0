"""The project's own promises: locks agree, the README shows the real graph, no large files."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
LIMIT = 2_000_000


def test_the_conda_environment_has_the_pins_of_the_lock():
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text(encoding="utf-8"))
    pins = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pins == (ROOT / "envs/requirements.lock").read_text(encoding="utf-8").splitlines()


def test_the_cluster_plugin_is_pinned_as_the_extra_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "envs/slurm.lock").read_text(encoding="utf-8").splitlines()
    assert "-r requirements.lock" in lock
    assert set(project["optional-dependencies"]["slurm"]) <= set(lock)


def test_the_readme_shows_the_real_rule_graph(tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    command += ["--configfile", ROOT / "config/demo.yaml", "--config", "device=cpu"]
    command += ["--rulegraph", "mermaid-js"]
    shown = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        encoding="utf-8",
    ).stdout
    assert edges(shown) == edges((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(edges(shown)) > 10


def edges(text):
    """Edges of a mermaid graph by rule name, whatever the numbers of its nodes."""
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", text))
    return {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", text)}


def test_what_is_tried_under_lower_instruction_sets_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    patterns = re.search(r"^TRAINING := (.*)$", makefile, re.MULTILINE).group(1).split()
    found = {pattern: list(ROOT.glob(pattern)) for pattern in patterns}
    assert found and all(found.values()), found


#: Stands for a Python of another version.
ANOTHER = """#!/bin/sh
[ "$1" = -c ] && exec {python} -c "import sys; sys.version_info = ({numbers}); $2"
echo Python {version}
"""


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("version", "fits"),
    [("3.11.3", False), ("3.11.4", True), ("3.13.9", True), ("3.14.0", False)],
)
def test_make_refuses_the_versions_that_the_package_refuses(tmp_path, version, fits):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (version in SpecifierSet(project["requires-python"])) == fits
    python = tmp_path / "python"
    numbers = version.replace(".", ", ")
    python.write_text(ANOTHER.format(python=sys.executable, numbers=numbers, version=version))
    python.chmod(0o755)
    (tmp_path / "envs").mkdir()
    for name in ("Makefile", "pyproject.toml", "envs/requirements.lock"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        ["make", "machine", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    refused = [line for line in done.stdout.splitlines() if line.startswith("error: Python")]
    assert len(refused) == (not fits)
    assert fits or f"Python {version}: " in refused[0]


@pytest.mark.skipif(
    not shutil.which("git") or not (ROOT / ".git").exists(), reason="not a git checkout"
)
def test_no_file_is_large_but_the_reference_results():
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout.split("\0")
    large = [
        name
        for name in files
        if name
        and not name.startswith("results/reference/")
        and (ROOT / name).exists()
        and (ROOT / name).stat().st_size > LIMIT
    ]
    assert large == []
