"""Pools measured by the verb, against loops over outputs and samples in float64."""

import math

import pytest
import torch

from flatness.__main__ import main
from flatness.datasets.normalised import save
from flatness.records.tables import read_table
from flatness.studies.cross.config import CrossPoolMeasurement
from flatness.studies.cross.measure_epfl import MODULES, sample_order
from flatness.studies.cross.measures import COMPRESSION, NOT_DEFINED
from flatness.studies.cross.rows import CrossMeasurement
from flatness.studies.epfl.lenet5 import initial_lenet5
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.pools import POOLS
from measures.measures_oracle import oracle
from studies.epfl.small_pools import DATASETS, training, write_models

DIVERGED = "the loss was nan in epoch 2"


def states(pool, dataset):
    """Two models; batch norm's statistics are those of nobody's images."""
    if pool != "lenet5":
        return POOLS[pool](dataset, None, ()).initial([0, 1])
    models = [initial_lenet5(seed) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    for model in models:
        for layer in (model.features[1], model.features[5]):
            layer.running_mean.copy_(0.1 * torch.randn(len(layer.weight), generator=generator))
            layer.running_var.copy_(torch.rand(len(layer.weight), generator=generator) + 0.5)
            layer.weight.data.copy_(torch.rand(len(layer.weight), generator=generator) + 0.5)
    return stack([model.state_dict() for model in models])


def measured(folder, pool, samples=2, reasons=("", "")):
    dataset = DATASETS[pool]()
    save(folder / "data.safetensors", dataset)
    write_models(folder / "weights.safetensors", states(pool, dataset), [4, 7], reasons)
    experiment = CrossPoolMeasurement(training=training(pool), samples=samples)
    code = main(
        ["measure-cross-epfl", "--experiment", experiment.model_dump_json()]
        + ["--data", str(folder / "data.safetensors"), "--output", str(folder / "m.csv")]
        + ["--checkpoints", str(folder / "weights.safetensors")]
    )
    return code, experiment, dataset


@pytest.mark.parametrize("pool", ["fcnn", "lenet5"])
def test_measures_equal_their_literal_definitions(tmp_path, pool):
    code, experiment, dataset = measured(tmp_path, pool)
    assert code == 0
    rows = read_table(tmp_path / "m.csv", CrossMeasurement)
    assert rows["seed"].tolist() == [4] * len(COMPRESSION) + [7] * len(COMPRESSION)
    build, inputs = MODULES[pool](experiment, dataset)
    assert len(inputs) == 2 and inputs.dtype == torch.float64
    model = build().double().eval()
    model.load_state_dict({name: v[1] for name, v in states(pool, dataset).items()})
    expected = oracle(model, inputs)
    for line in rows[rows["seed"] == 7].itertuples():
        assert line.status == "used", line.measure
        assert line.value == pytest.approx(expected[line.measure], rel=1e-6), line.measure
        assert line.standard_error >= 0


def test_a_gat_says_which_measures_are_not_defined_and_why(tmp_path):
    assert measured(tmp_path, "gat", samples=3)[0] == 0
    rows = read_table(tmp_path / "m.csv", CrossMeasurement)
    undefined = rows[rows["status"] == "not defined"]
    assert set(undefined["measure"]) == set(NOT_DEFINED["gat"])
    assert undefined["value"].isna().all()
    assert undefined["reason"].str.contains("neighbours|linear layer").all()
    rest = rows[~rows["measure"].isin(NOT_DEFINED["gat"])]
    assert (rest["status"] == "used").all() and len(rest) == 2 * 6


def test_a_diverged_model_keeps_its_rows_and_the_others_their_values(tmp_path):
    measured(tmp_path, "fcnn")
    both = read_table(tmp_path / "m.csv", CrossMeasurement)
    assert measured(tmp_path, "fcnn", reasons=(DIVERGED, ""))[0] == 0
    rows = read_table(tmp_path / "m.csv", CrossMeasurement)
    lost, kept = rows[rows["seed"] == 4], rows[rows["seed"] == 7]
    assert set(lost["status"]) == {"diverged"} and set(lost["reason"]) == {DIVERGED}
    assert kept["value"].tolist() == both.loc[both["seed"] == 7, "value"].tolist()


def test_a_model_that_overflows_is_a_row_too(tmp_path, monkeypatch):
    def huge(pool, dataset, plain=states):
        drawn = plain(pool, dataset)
        drawn["2.weight"][0] *= math.inf
        return drawn

    monkeypatch.setitem(globals(), "states", huge)
    assert measured(tmp_path, "fcnn")[0] == 0
    rows = read_table(tmp_path / "m.csv", CrossMeasurement)
    assert set(rows.loc[rows["seed"] == 4, "status"]) == {"not measured"}
    assert set(rows.loc[rows["seed"] == 4, "reason"]) == {
        "parameter 2.weight is not finite; the training diverged"
    }
    assert set(rows.loc[rows["seed"] == 7, "status"]) == {"used"}


def test_more_samples_than_there_are_is_one_line(tmp_path, capsys):
    assert measured(tmp_path, "gat", samples=41)[0] == 2
    assert "cross.samples: 41 asked for, pool gat has 40" in capsys.readouterr().err


def test_a_smaller_sample_is_part_of_a_larger_one():
    few, many = (CrossPoolMeasurement(training=training("fcnn"), samples=n) for n in (3, 9))
    assert sample_order(50, few).tolist() == sample_order(50, many).tolist()[:3]
