"""The Snakefile imported by another, as a Snakemake module: its own code, the other's folder."""

import shutil
import subprocess

import pytest
import yaml

from checkout import ROOT
from workflow.real_snakefile import job_counts, snakemake
from workflow.tiny import call, tiny_values

IMPORTING = """
configfile: "tiny.yaml"

module sharpness:
    snakefile: "{snakefile}"
    config: config

use rule * from sharpness as {names}
"""


def importing(folder, names="*", name="Snakefile"):
    """A folder with a Snakefile that imports this one, and a config."""
    snakefile = IMPORTING.format(snakefile=ROOT / name, names=names)
    (folder / "Snakefile").write_text(snakefile, encoding="utf-8")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_values()))
    return folder


def plan(folder, *targets):
    done = call(folder, "snakemake", "--dry-run", "--quiet", "rules", "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    return job_counts(done.stdout + done.stderr)


@pytest.mark.parametrize(
    "name", ["Snakefile", pytest.param("workflow/Snakefile", marks=pytest.mark.slow)]
)
def test_the_module_plans_the_same_jobs_as_the_workflow_alone(tmp_path, name):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "tiny.yaml").write_text(yaml.safe_dump(tiny_values()))
    done = snakemake(alone, "--dry-run", "--quiet", "rules", config=alone / "tiny.yaml")
    expected = job_counts(done.stdout + done.stderr)
    assert len(expected) > 15
    assert plan(importing(tmp_path, name=name), "all") == expected


def test_its_rules_may_be_renamed(tmp_path):
    counts = plan(importing(tmp_path, names="sharpness_*"), "sharpness_all")
    assert counts["sharpness_train_epfl"] == counts["sharpness_measure_epfl"] > 0


def test_a_job_runs_this_code_and_writes_into_the_importing_folder(tmp_path):
    pool = "results/tiny/checkpoints/epfl/fcnn/written/0-1"
    done = call(importing(tmp_path), "snakemake", "--cores", "1", "--", f"{pool}.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{pool}.safetensors").exists()
    assert list((tmp_path / "data").glob("*.safetensors"))
    made = {"results", "data", "scratch", ".snakemake"}  # scratch by trainings of some seconds only
    assert {path.name for path in tmp_path.iterdir()} <= made | {"Snakefile", "tiny.yaml"}


HOSTED = """
configfile: "tiny.yaml"

module sharpness:
    snakefile: github("owner/sharpness", path="workflow/Snakefile", branch="main")
    config: config

use rule * from sharpness
"""


def test_rules_without_their_library_say_what_to_do(tmp_path, monkeypatch):
    """As from a host that hands out single files; git finds the host's repository on this disk."""
    hosted = tmp_path / "hosted/sharpness"
    for name in ("workflow/Snakefile", "workflow/rules"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (hosted / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, hosted / name)
    author = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "rules"]):
        subprocess.run(["git", *author, *command], cwd=hosted, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{hosted.parent.as_uri()}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/owner/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (importing(tmp_path) / "Snakefile").write_text(HOSTED, encoding="utf-8")
    done = call(tmp_path, "snakemake", "--dry-run", "--quiet", "rules")
    assert done.returncode == 1
    assert "clone the repository" in done.stdout + done.stderr


def test_a_deployment_finds_the_config_that_it_asks_for():
    """Tools that deploy workflows name this one; a newcomer's is the demo."""
    demo = (ROOT / "config/demo.yaml").read_text(encoding="utf-8")
    assert (ROOT / "config/config.yaml").read_text(encoding="utf-8") == demo
