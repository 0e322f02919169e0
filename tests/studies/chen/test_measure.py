import math

import numpy as np
import pandas as pd
import pytest
import torch

from flatness.errors import NumericalError, UserError
from flatness.measures.hessian import hessian_trace
from flatness.measures.measure import measure
from flatness.records.tables import read_table
from flatness.records.tensors import load_tensors
from flatness.studies.chen.config import Setting
from flatness.studies.chen.images import Labelled, build_network, load_images, measured_samples
from flatness.studies.chen.inequalities import (
    INEQUALITIES,
    check_theorems,
    log10_ratio,
    tightness,
)
from flatness.studies.chen.measure import measure_block
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.train import train_block
from studies.chen.small_study import made_up_family, small_measurement, small_training, write_images


def trained(folder, experiment, seeds="0-0"):
    data = write_images(folder / "digits.safetensors", network=experiment.network)
    paths = [folder / name for name in ("final.safetensors", "path.safetensors", "table.csv")]
    train_block(experiment.model_dump_json(), data, seeds, folder / "scratch", *paths)
    return data, *paths


def measured(folder, training, measurement, seeds="0-0"):
    inputs = trained(folder, training, seeds)
    measure_block(measurement.model_dump_json(), *inputs, folder / "measured.csv")
    return read_table(folder / "measured.csv", MeasuredCheckpoint)


def test_the_sample_is_the_same_for_all_and_a_smaller_one_is_part_of_a_larger():
    images = Labelled(torch.arange(30.0).view(30, 1, 1, 1), torch.arange(30) % 10)
    large, small = measured_samples(images, 20), measured_samples(images, 7)
    assert torch.equal(large.inputs[:7], small.inputs)
    assert len(set(large.inputs.flatten().tolist())) == 20
    with pytest.raises(UserError, match="31 asked for, the family has 30"):
        measured_samples(images, 31)


def test_a_row_holds_what_the_measures_give_for_the_kept_weights(tmp_path):
    table = measured(tmp_path, small_training(), small_measurement())
    assert table["step"].tolist() == [0, 30, 60]
    assert table["last"].tolist() == [False, False, True]
    weights = load_tensors(tmp_path / "path.safetensors")[0]
    model = build_network(small_training(), 0).double()
    model.load_state_dict({name: weights[f"seed0/step30/{name}"] for name in model.state_dict()})
    images = load_images(tmp_path / "digits.safetensors", small_measurement(), torch.float64)
    found = measure(model, measured_samples(images.train, 6).inputs)
    for name in ("sharpness", "mls", "nmls_bound", "log_lvr", "relative_flatness"):
        assert table[name].iloc[1] == pytest.approx(found[name].value, rel=1e-12)
        assert table[f"{name}_se"].iloc[1] == pytest.approx(found[name].standard_error, rel=1e-9)


def test_measuring_fewer_checkpoints_measures_only_those(tmp_path):
    table = measured(tmp_path, small_training(), small_measurement(steps=(0, 60)))
    assert table["step"].tolist() == [0, 60]


def test_an_interpolating_models_last_checkpoint_gets_the_hessians_trace(tmp_path):
    training = small_training(steps=(0, 400), setting=Setting(learning_rate=0.2, batch_size=8))
    measurement = small_measurement(
        steps=training.steps, setting=training.setting, trace_seeds=1, samples=10
    )
    table = measured(tmp_path, training, measurement, "0-1")
    last = table[table["step"] == 400]
    assert last["interpolated"].all()
    assert np.isfinite(last["hessian_trace"]).tolist() == [True, False]
    assert np.isfinite(last["average_case_sharpness_sampled"]).tolist() == [True, False]
    assert table.loc[table["step"] == 0, "hessian_trace"].isna().all()
    weights = load_tensors(tmp_path / "final.safetensors")[0]
    model = build_network(training, 0)
    model.load_state_dict({name: weights[f"seed0/step400/{name}"] for name in model.state_dict()})
    images = measured_samples(load_images(tmp_path / "digits.safetensors", training).train, 10)
    exact = hessian_trace(model, images.inputs, images.targets, estimates=4, products=30)
    row = last.iloc[0]
    error = math.hypot(row["hessian_trace_se"], exact.standard_error)
    assert abs(row["hessian_trace"] - exact.value) < 4 * error
    assert row["sharpness"] == pytest.approx(row["hessian_trace"], rel=0.15)


def test_test_images_are_measured_all_together_and_misclassified_alone(tmp_path):
    measurement = small_measurement(test_samples=None)
    table = measured(tmp_path, small_training(), measurement)
    assert table["sampled"].tolist() == ["train", "test", "misclassified"] * 3
    wrong = table[table["sampled"] == "misclassified"]
    expected = (20 * (1 - wrong["test_accuracy"])).round()
    assert wrong["samples"].tolist() == expected.tolist()
    nothing = wrong[wrong["samples"] == 0]
    assert nothing["mls"].isna().all()
    assert np.isfinite(table.loc[table["sampled"] == "test", "mls"]).all()


def test_a_diverged_model_has_a_row_without_values(tmp_path):
    wild = Setting(learning_rate=1e6, batch_size=8)
    table = measured(
        tmp_path,
        small_training(setting=wild, activation="relu"),
        small_measurement(setting=wild, activation="relu", test_samples=5),
    )
    lost = table[table["diverged"]]
    assert lost["step"].tolist() == [30, 60]
    assert lost[["mls", "sharpness", "accuracy_gap"]].isna().all(axis=None)
    assert not lost["interpolated"].any()
    assert (lost["reason"] != "").all()


def test_convolutional_checkpoints_are_measured_with_their_heuristic_bounds(tmp_path):
    changes = {"network": "lenet5", "activation": "relu", "steps": (0, 20)}
    table = measured(tmp_path, small_training(**changes), small_measurement(**changes))
    assert np.isfinite(table[["mls", "nmls_bound_released", "bound_d_released"]]).all(axis=None)
    assert table["bound_d"].isna().all()


def frame(**changes):
    rows = pd.DataFrame([row.model_dump() for row in made_up_family(seeds=2)])
    return rows.assign(**changes)


def test_checkpoints_that_obey_every_theorem_pass():
    check_theorems(frame())


@pytest.mark.parametrize("inequality", INEQUALITIES, ids=lambda i: f"{i.quantity}-{i.bound}")
def test_a_broken_theorem_is_an_error_that_names_model_step_and_quantity(inequality):
    table = frame()
    first, last = table.index[0], table.index[-1]
    table.loc[last, inequality.bound] = table.loc[last, inequality.quantity] - 1e-4
    with pytest.raises(NumericalError, match=inequality.bound) as caught:
        check_theorems(table)
    assert "seed 1 step 400" in str(caught.value) and first != last


def test_a_violated_heuristic_is_not_an_error():
    check_theorems(frame(network="vgg11", bound_b_released=0.01, nmls_bound_released=0.01))


def test_a_bound_of_zero_is_violated():
    rows = pd.DataFrame(tightness(frame(network="vgg11", bound_b_released=0.0)))
    row = rows[(rows["quantity"] == "mls") & (rows["bound"] == "bound_b_released")].iloc[0]
    assert row["violations"] == row["n"] == len(frame())


def test_the_ratio_of_logarithms_is_in_decades():
    table = pd.DataFrame(
        {"log_lvr": [0.0, -np.inf], "log_lvr_bound_jacobian": [math.log(100), 1.0]}
    )
    ratio = log10_ratio(table, INEQUALITIES[0])
    assert ratio.iloc[0] == pytest.approx(2)
    assert not np.isfinite(ratio.iloc[1])
