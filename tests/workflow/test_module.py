"""The Snakefile imported by another, as a Snakemake module: its own code, the other's folder."""

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


@pytest.mark.parametrize("name", ["Snakefile", "workflow/Snakefile"])
def test_it_plans_what_it_plans_alone(tmp_path, name):
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
