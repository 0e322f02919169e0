"""A tiny run of the real Snakefile on the published data, and what reruns after it."""

import os

import pytest
import yaml

from checkout import shipped
from flatness.records.tables import read_table
from flatness.studies.epfl.rows import PoolCorrelation, PoolModel
from workflow.real_snakefile import job_counts, snakemake

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("FLATNESS_DATA_MIRROR"),
        reason="needs the published data: set FLATNESS_DATA_MIRROR to a folder that holds them",
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run of a few small models of each pool, and its config."""
    folder = tmp_path_factory.mktemp("run")
    values = shipped("laptop")
    values["name"] = "tiny"
    values["statistics"]["resamples"] = 200
    for pool in values["epfl"]["pools"].values():
        pool |= {"models": 4, "block": 2, "min_epochs": 1, "max_epochs": 2}
        pool["ascent"] |= {"restarts": 2}
    values["epfl"]["pools"]["lenet5"]["train_size"] = 640
    values["epfl"]["replications"] = {
        "fcnn": {"count": 3, "block": 8},
        "lenet5": {"count": 1, "block": 2},
    }
    values["epfl"] |= {"audit": {}, "factorial": {}}
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = snakemake(folder, "--cores", "2", "--", "epfl", config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, config


def test_every_model_is_in_the_tables_and_the_figure_is_there(finished):
    folder, _ = finished
    results = folder / "results/tiny"
    for pool in ("fcnn", "lenet5", "gat"):
        tables = results / f"correlations/epfl/{pool}/written/written"
        models = read_table(tables / "models.csv", PoolModel)
        assert models["seed"].tolist() == [0, 1, 2, 3]
        assert models["used"].all()
        assert models["worst_case_sharpness"].nunique() == 4
        correlation = read_table(tables / "correlations.csv", PoolCorrelation)
        assert (correlation["n"] == 4).all()
        assert not correlation["demo"].any()
    for ending in ("png", "svg"):
        assert (results / f"figures/epfl_fig1.{ending}").stat().st_size > 10_000
    assert list((results / "logs/train/epfl/fcnn/written").glob("*.log"))


def dry_run(folder, config):
    return snakemake(folder, "--dry-run", "--quiet", "rules", "--", "epfl", config=config)


def test_nothing_runs_again(finished):
    folder, config = finished
    assert job_counts(dry_run(folder, config).stdout) == {}


def test_a_changed_setting_reruns_what_depends_on_it_only(finished):
    folder, config = finished
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values["epfl"]["pools"]["gat"]["rho"] *= 2
    values["figures"]["dpi"] += 1
    changed = folder / "changed.yaml"
    changed.write_text(yaml.safe_dump(values), encoding="utf-8")
    counts = job_counts(dry_run(folder, changed).stdout)
    assert counts == {
        "epfl": 1, "measure_epfl": 2, "correlate_epfl": 1, "draw": 2, "total": 6,
    }  # fmt: skip


def test_a_deleted_figure_alone_is_drawn_again(finished):
    folder, config = finished
    figure = folder / "results/tiny/figures/epfl_fig1.png"
    whole = figure.read_bytes()
    figure.unlink()
    done = snakemake(folder, "--cores", "1", "--", "epfl", config=config)
    assert job_counts(done.stderr) == {"draw": 1, "epfl": 1, "total": 2}
    assert figure.read_bytes() == whole
