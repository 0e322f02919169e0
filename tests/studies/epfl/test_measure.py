import math

import pytest
import torch
from torch.nn import functional

from flatness.__main__ import main
from flatness.datasets.normalised import save
from flatness.measures.ascent import plain_rise, strong_rise
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table
from flatness.studies.epfl import measure
from flatness.studies.epfl.lenet5 import initial_lenet5, lenet5_images
from flatness.studies.epfl.measure import measure_lenet5, measure_models, measure_stack
from flatness.studies.epfl.networks import fcnn, stack
from flatness.studies.epfl.pools import FcnnPool, GatPool
from flatness.studies.epfl.rows import MeasuredModel
from flatness.studies.epfl.seeds import generator
from flatness.studies.epfl.slices import Ascent
from studies.epfl.small_pools import DATASETS, measurement, write_models

SEEDS = [0, 3, 7]


def small(pool):
    kind = {"fcnn": FcnnPool, "gat": GatPool}[pool]
    return kind(DATASETS[pool](), None, (), dtype=torch.float64)


def test_a_stack_is_measured_like_its_modules():
    pool, settings = small("fcnn"), measurement("fcnn")
    centre = pool.initial(SEEDS)
    found = measure_stack(settings, pool, centre, SEEDS)
    assert found.shape == (3, 4)
    for index, seed in enumerate(SEEDS):
        model = fcnn(10).double()
        model.load_state_dict({name: values[index] for name, values in centre.items()})
        one = generator("measure", 0, seed)
        draws = torch.randint(pool.samples, (4, 16), generator=one)
        for restart, batch in enumerate(draws):
            inputs, targets = pool.train[0][batch], pool.train[1][batch]

            def loss(parameters, model=model, inputs=inputs, targets=targets):
                single = {name: values[0] for name, values in parameters.items()}
                outputs = torch.func.functional_call(model, single, (inputs,))
                return functional.mse_loss(outputs, targets)[None]

            own = {name: values[index : index + 1] for name, values in centre.items()}
            expected = plain_rise(loss, own, rho=0.05, step_size=0.05, steps=3)
            assert found[index, restart].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("maximiser", ["plain", "strong"])
@pytest.mark.parametrize("pool", ["fcnn", "gat"])
def test_a_model_is_measured_the_same_in_any_block(pool, maximiser):
    problem, settings = small(pool), measurement(pool, maximiser=maximiser)
    together = measure_stack(settings, problem, problem.initial(SEEDS), SEEDS)
    for index, seed in enumerate(SEEDS):
        alone = measure_stack(settings, problem, problem.initial([seed]), [seed])
        assert torch.allclose(alone[0], together[index], rtol=1e-9, atol=1e-12)


def test_the_loop_equals_the_stack(tmp_path):
    states = FcnnPool(DATASETS["fcnn"](), None, ()).initial(SEEDS)
    looped, stacked = (
        measure_models(
            measurement("fcnn", execution=execution), DATASETS["fcnn"](), states, SEEDS, tmp_path
        )
        for execution in ("loop", "stacked")
    )
    assert torch.allclose(looped, stacked, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pool", ["fcnn", "gat"])
def test_protocols_are_compared_on_the_same_batches(pool):
    problem = small(pool)
    centre = problem.initial(SEEDS)
    plain, strong = (
        measure_stack(measurement(pool, maximiser=maximiser), problem, centre, SEEDS)
        for maximiser in ("plain", "strong")
    )
    assert (strong >= plain).double().mean() >= 0.95
    assert (strong > 0).all()


def test_lenet5_is_measured_in_evaluation_mode_and_strongly():
    data = lenet5_images(DATASETS["lenet5"](), None, "cpu").train
    model = initial_lenet5(0).train()
    plain, strong = (
        measure_lenet5(measurement("lenet5", maximiser=maximiser, rho=1e-3), model, data, 0)
        for maximiser in ("plain", "strong")
    )
    assert (strong >= plain).all() and model.training
    inputs, targets = data
    draws = torch.randint(96, (4, 16), generator=generator("measure", 0, 0))
    model.eval()

    def loss(parameters):
        single = {name: values[0] for name, values in parameters.items()}
        outputs = torch.func.functional_call(model, single, (inputs[draws[1]],))
        return functional.cross_entropy(outputs, targets[draws[1]])[None]

    centre = {name: weights.detach()[None] for name, weights in model.named_parameters()}
    expected = plain_rise(loss, centre, rho=1e-3, step_size=0.05, steps=3)
    assert plain[1].item() == pytest.approx(expected.item(), rel=1e-3)
    generators = [torch.Generator().manual_seed(0)]
    assert strong[1].item() == pytest.approx(
        strong_rise(loss, centre, rho=1e-3, generators=generators).item(), rel=0.05
    )


def command(tmp_path, settings, states, seeds, reasons):
    save(tmp_path / "data.safetensors", DATASETS[settings.pool]())
    write_models(tmp_path / "models.safetensors", states, seeds, reasons)
    code = main(
        ["measure-epfl", "--experiment", canonical_json(settings)]
        + ["--data", str(tmp_path / "data.safetensors"), "--scratch", str(tmp_path / "scratch")]
        + ["--checkpoints", str(tmp_path / "models.safetensors")]
        + ["--output", str(tmp_path / "table.csv")]
    )
    assert code == 0
    return read_table(tmp_path / "table.csv", MeasuredModel).set_index("seed")


def test_the_table_has_a_row_for_every_model_diverged_ones_too(tmp_path):
    states = FcnnPool(DATASETS["fcnn"](), None, ()).initial(SEEDS)
    states["0.weight"][1] = math.nan
    settings = measurement("fcnn")
    table = command(tmp_path, settings, states, SEEDS, ["", "the loss was nan in epoch 2", ""])
    assert table.index.tolist() == SEEDS
    assert table["restarts"].tolist() == [4, 0, 4]
    assert table["reason"].tolist() == ["", "the loss was nan in epoch 2", ""]
    for column in (
        "worst_case_sharpness",
        "worst_case_sharpness_se",
        "worst_case_sharpness_clamped",
    ):
        assert table[column].notna().tolist() == [True, False, True]
    usable = {name: values[[0, 2]] for name, values in states.items()}
    rises = measure_models(settings, DATASETS["fcnn"](), usable, [0, 7], tmp_path / "s").double()
    assert table.loc[[0, 7], "worst_case_sharpness"].tolist() == pytest.approx(
        rises.mean(1).tolist()
    )
    errors = (rises.std(1) / 2).tolist()
    assert table.loc[[0, 7], "worst_case_sharpness_se"].tolist() == pytest.approx(errors)


def test_an_ascent_that_overflows_is_a_row_with_a_reason(tmp_path):
    states = FcnnPool(DATASETS["fcnn"](), None, ()).initial([0, 1])
    states["4.weight"][1] *= 1e25
    table = command(tmp_path, measurement("fcnn"), states, [0, 1], ["", ""])
    assert table["reason"].tolist() == ["", "the loss was not finite along the ascent"]
    assert table["worst_case_sharpness"].notna().tolist() == [True, False]


def test_a_block_of_diverged_models_only_is_a_table_too(tmp_path):
    states = FcnnPool(DATASETS["fcnn"](), None, ()).initial([0])
    table = command(tmp_path, measurement("fcnn"), states, [0], ["the loss was inf in epoch 1"])
    assert table["restarts"].tolist() == [0]


def test_a_measured_lenet5_is_not_measured_again(tmp_path, monkeypatch):
    settings = measurement("lenet5", ascent=Ascent(steps=1, restarts=2, batch_size=8))
    states = stack([initial_lenet5(seed).state_dict() for seed in (0, 1)])
    first = command(tmp_path, settings, states, [0, 1], ["", ""])
    text = (tmp_path / "table.csv").read_bytes()
    monkeypatch.setattr(measure, "measure_lenet5", None)
    second = command(tmp_path, settings, states, [0, 1], ["", ""])
    assert first.equals(second) and text == (tmp_path / "table.csv").read_bytes()
