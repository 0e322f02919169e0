"""An archive against the profile Workflow Run Crate, by its community's validator.

The validator needs an older rich than Snakemake's environment has, so it gets one of its own.
Offline it cannot fetch RO-Crate's context; that of the package rocrate stands in for it.
"""

import json
import subprocess
import sys
import tarfile
import venv
from importlib.resources import files

import pytest

from checkout import ROOT
from flatness.pipeline.archive import pack
from flatness.pipeline.config import validate
from flatness.pipeline.manifest import write_manifest
from workflow.tiny import tiny_values, write_config

pytestmark = pytest.mark.slow
VALIDATOR = "roc-validator==0.13.0"
BIOSCHEMAS = "https://bioschemas.org"
#: Terms that RO-Crate 1.1, which the archive follows, spells otherwise than the context of 1.3.
TERMS_OF_1_1 = {
    "ComputationalWorkflow": f"{BIOSCHEMAS}/ComputationalWorkflow",
    "FormalParameter": f"{BIOSCHEMAS}/FormalParameter",
    "input": f"{BIOSCHEMAS}/ComputationalWorkflow#input",
    "output": f"{BIOSCHEMAS}/ComputationalWorkflow#output",
}


@pytest.fixture(scope="module")
def validator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validator")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q"]
    done = subprocess.run([*pip, VALIDATOR], capture_output=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"{VALIDATOR} cannot be installed here: {done.stderr.splitlines()[-1]}")
    return folder / "bin/rocrate-validator"


@pytest.fixture
def crate(tmp_path, monkeypatch):
    """An archive, unpacked, of a results folder with one table."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "results/tiny/benchmarks/train/a.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("s\n1\n", encoding="utf-8")
    manifest = write_manifest(validate(tiny_values()))
    pack(tmp_path / "tiny.tar", write_config(tmp_path / "tiny.yaml", tiny_values()), manifest)
    with tarfile.open(tmp_path / "tiny.tar") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    return tmp_path / "unpacked/flatness-tiny"


def required(validator, crate, tmp_path):
    """What the validator finds that the profile requires."""
    path = crate / "ro-crate-metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    context = json.loads((files("rocrate") / "data/ro-crate.jsonld").read_text(encoding="utf-8"))
    metadata["@context"] = context["@context"] | TERMS_OF_1_1
    path.write_text(json.dumps(metadata), encoding="utf-8")
    report = tmp_path / "report.json"
    options = ["--offline", "-p", "workflow-run-crate", "-f", "json", "-o", report]
    subprocess.run([validator, "-y", "validate", *options, crate], cwd=ROOT, capture_output=True)
    return json.loads(report.read_text(encoding="utf-8"))["issues"]


def test_an_archive_fits_the_profile(validator, crate, tmp_path):
    assert required(validator, crate, tmp_path) == []


def test_an_archive_without_its_run_does_not(validator, crate, tmp_path):
    path = crate / "ro-crate-metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["@graph"] = [entity for entity in metadata["@graph"] if entity["@id"] != "#run"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    assert required(validator, crate, tmp_path)
