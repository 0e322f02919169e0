import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import flatness
from flatness.__main__ import main
from flatness.datasets.fetch import fetch
from flatness.datasets.normalised import load, save
from flatness.records.checkpoints import load_checkpoints
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table
from flatness.studies.epfl.defects import TRAINING_DEFECTS
from flatness.studies.epfl.measure import measure_models
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.rows import TrainedModel
from flatness.studies.epfl.train import train_models
from studies.epfl.small_pools import DATASETS, measurement, training


def arguments(folder, settings):
    folder.mkdir(exist_ok=True)
    save(folder / "data.safetensors", DATASETS[settings.pool]())
    return (
        ["train-epfl", "--experiment", canonical_json(settings), "--seeds", "2-3"]
        + ["--data", str(folder / "data.safetensors"), "--scratch", str(folder / "scratch")]
        + ["--output", str(folder / "models.safetensors"), "--table", str(folder / "models.csv")]
    )


def command(folder, settings):
    return main(arguments(folder, settings))


@pytest.mark.parametrize("pool", ["fcnn", "gat", "lenet5"])
def test_the_verb_writes_a_table_and_weights_and_twice_the_same(tmp_path, pool):
    settings = training(pool)
    for folder in ("first", "second"):
        assert command(tmp_path / folder, settings) == 0
    for name in ("models.safetensors", "models.csv"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second
    table = read_table(tmp_path / "first" / "models.csv", TrainedModel)
    models, metadata = load_checkpoints(tmp_path / "first" / "models.safetensors")
    assert table["seed"].tolist() == metadata["seeds"] == [2, 3]
    assert metadata["reasons"] == ["", ""]
    assert list(models) == ["seed2", "seed3"]
    assert table["demo"].all() and not table["diverged"].any()
    assert table["test_accuracy"].isna().all() == (pool == "fcnn")
    assert table[["epoch_loss", "train_loss", "test_loss"]].gt(0).all(axis=None)
    # Four fifths of 161 rows, the graph's training nodes, the training images.
    assert set(table["train_size"]) == {{"fcnn": 128, "gat": 40, "lenet5": 96}[pool]}


@pytest.mark.parametrize("pool", ["fcnn", "gat", "lenet5"])
def test_every_training_defect_changes_the_models(tmp_path, pool):
    settings = {"max_epochs": 2, "min_epochs": 2}

    def trained(defects):
        learning_rate = 0.102 if "found_learning_rate" in defects else 0.05
        chosen = training(pool, defects=defects, learning_rate=learning_rate, **settings)
        folder = tmp_path / "-".join(["with", *defects])
        return train_models(chosen, DATASETS[pool](), range(1), folder)[0].test_loss

    written = trained(())
    # Two epochs are too few for a rule of stopping to show.
    names = [name for name in TRAINING_DEFECTS[pool] if not name.endswith("_stopping")]
    found = {name: trained((name,)) for name in names}
    assert all(math.isfinite(loss) and loss != written for loss in found.values()), found


def test_loop_and_stack_train_the_same_models(tmp_path):
    looped, stacked = (
        train_models(training("fcnn", execution=execution), DATASETS["fcnn"](), range(3), tmp_path)
        for execution in ("loop", "stacked")
    )
    for one, other in zip(looped, stacked, strict=True):
        assert one.test_loss == pytest.approx(other.test_loss, rel=1e-4)


def test_a_stacked_lenet5_is_refused_in_one_line(tmp_path, capsys):
    assert command(tmp_path, training("lenet5", execution="stacked")) == 2
    assert "epfl.pools.lenet5.execution" in capsys.readouterr().err


def test_a_diverged_model_is_a_row_with_its_reason(tmp_path):
    assert command(tmp_path, training("fcnn", learning_rate=1e20)) == 0
    table = read_table(tmp_path / "models.csv", TrainedModel)
    assert table["diverged"].all() and len(table) == 2
    assert table["reason"].str.contains("in epoch 1").all()


@pytest.mark.slow
def test_killed_by_the_system_and_run_again_it_writes_the_same_bytes(tmp_path):
    settings = training("lenet5", max_epochs=12, tolerance=1e-9)
    whole, killed = (arguments(tmp_path / name, settings) for name in ("whole", "killed"))
    assert main(whole) == 0
    state = tmp_path / "killed" / "scratch" / "seed2.safetensors"
    environment = os.environ | {"PYTHONPATH": str(Path(flatness.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-m", "flatness", *killed], env=environment) as job:
        while not state.exists() and job.poll() is None:
            time.sleep(0.01)
        job.kill()
    assert state.exists() and not (tmp_path / "killed" / "models.csv").exists()
    assert main(killed) == 0
    for name in ("models.safetensors", "models.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.skipif("FLATNESS_DATA_MIRROR" not in os.environ, reason="no mirror of published data")
@pytest.mark.parametrize(
    ("pool", "dataset", "learning_rate", "rho", "low", "high"),
    [("fcnn", "abalone", 0.014, 0.025, 0.4, 0.7), ("gat", "cora", 0.236, 0.02, 1.2, 1.9)],
)
def test_published_data_train_and_measure(tmp_path, pool, dataset, learning_rate, rho, low, high):
    path = tmp_path / "data.safetensors"
    fetch(dataset, path, os.environ["FLATNESS_DATA_MIRROR"], tmp_path / "raw")
    epochs = {"min_epochs": 10 if pool == "gat" else 1, "max_epochs": 20 if pool == "gat" else 10}
    settings = training(pool, dataset=dataset, learning_rate=learning_rate, batch_size=64, **epochs)
    outcomes = train_models(settings, load(path), range(3), tmp_path)
    assert all(low < outcome.test_loss < high for outcome in outcomes)
    if pool == "gat":
        assert all(outcome.test_accuracy > 0.4 for outcome in outcomes)
    rises = measure_models(
        measurement(pool, dataset=dataset, rho=rho, step_size=learning_rate),
        load(path),
        stack([outcome.state for outcome in outcomes]),
        [0, 1, 2],
        tmp_path,
    )
    assert rises.shape == (3, 4) and torch.isfinite(rises).all() and (rises.mean(1) > 0).all()
