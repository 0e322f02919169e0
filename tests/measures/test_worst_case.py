import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from flatness.errors import NumericalError, UserError
from flatness.measures.ascent import draw_batches
from flatness.measures.worst_case import (
    plain_worst_case_sharpness,
    strong_worst_case_sharpness,
    summarise,
)
from flatness.measures.worst_case_ball import worst_case_sharpness
from measures.small_networks import mlp, table

RHO = 0.05


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_loss_linear_in_the_weights_rises_by_the_closed_form(seed):
    torch.manual_seed(seed)
    model = nn.Linear(4, 1).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)

    def mean_output(outputs, targets):
        return outputs.mean()

    same_batch = {"restarts": 3, "batch_size": 8, "seed": seed}
    batches = draw_batches(30, 3, 8, [torch.Generator().manual_seed(seed)])[0]
    slope = inputs[batches].mean(1).abs()
    exact = RHO * ((slope * model.weight.abs()).sum(1) + model.bias.abs()).mean().item()
    plain = plain_worst_case_sharpness(
        model, mean_output, (inputs, inputs), rho=RHO, step_size=1e6, steps=2, **same_batch
    )
    strong = strong_worst_case_sharpness(
        model, mean_output, (inputs, inputs), rho=RHO, steps=1, corners=0, **same_batch
    )
    assert plain.value == pytest.approx(exact, rel=1e-10)
    assert strong.value == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_box_is_relative_to_the_weights_if_adaptive(adaptive):
    torch.manual_seed(5)
    model = nn.Linear(4, 1).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    found = worst_case_sharpness(
        model,
        inputs,
        inputs,
        loss=lambda outputs, _: outputs.mean(),
        rho=RHO,
        adaptive=adaptive,
        restarts=3,
        batch_size=8,
        seed=5,
    )
    batches = draw_batches(30, 3, 8, [torch.Generator().manual_seed(5)])[0]
    slope = inputs[batches].mean(1).abs()
    weight, bias = (model.weight.abs(), model.bias.abs()) if adaptive else (1, torch.ones(1))
    exact = RHO * ((slope * weight).sum(1) + bias).mean().item()
    assert found.value == pytest.approx(exact, rel=1e-10)


def test_plain_ascent_is_the_written_definition():
    model, data = mlp(), table()
    step_size, steps, restarts, size = 0.3, 4, 6, 16
    rises = []
    for batch in draw_batches(40, restarts, size, [torch.Generator().manual_seed(9)])[0]:
        other = mlp()
        centre = [weights.detach().clone() for weights in model.parameters()]
        losses = []
        for _ in range(steps + 1):
            loss = functional.cross_entropy(other(data[0][batch]), data[1][batch])
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, list(other.parameters()))
            for weights, gradient, middle in zip(
                other.parameters(), gradients, centre, strict=True
            ):
                low, high = middle - RHO * middle.abs(), middle + RHO * middle.abs()
                weights.data = torch.clamp(weights.data + step_size * gradient, low, high)
        rises.append(max(losses[1:]) - losses[0])
    expected = torch.tensor(rises, dtype=torch.float64)
    found = plain_worst_case_sharpness(
        model,
        functional.cross_entropy,
        data,
        rho=RHO,
        step_size=step_size,
        steps=steps,
        restarts=restarts,
        batch_size=size,
        seed=9,
    )
    assert found.value == pytest.approx(expected.mean().item(), rel=1e-10)
    assert found.standard_error == pytest.approx(expected.std().item() / restarts**0.5, rel=1e-10)
    assert found.restarts == restarts


def test_plain_ascent_can_end_lower_than_it_began_and_is_then_clamped_to_zero():
    class Hill(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

        def forward(self, inputs):
            return -((self.place - 1.001) ** 2).expand(len(inputs))

    inputs = torch.zeros(4, 1)
    steep = {"rho": 0.5, "step_size": 100.0, "steps": 1, "restarts": 2}
    found = plain_worst_case_sharpness(Hill(), lambda o, _: o.mean(), (inputs, inputs), **steep)
    assert found.value == pytest.approx(-(0.199**2) + 0.001**2)
    assert found.clamped == 0
    strong = strong_worst_case_sharpness(
        Hill(), lambda o, _: o.mean(), (inputs, inputs), rho=0.5, restarts=2
    )
    assert strong.value >= 0


def rescaled(model, factors):
    """The same function: hidden unit i's incoming weights times r_i, outgoing divided by it."""
    other = mlp()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other[0].weight.mul_(factors[:, None])
        other[0].bias.mul_(factors)
        other[2].weight.div_(factors)
    return other


def test_strong_sharpness_is_unchanged_by_rescaling_and_plain_is_not():
    model, data = mlp(), table()
    generator = torch.Generator().manual_seed(3)
    factors = torch.exp(torch.randn(8, generator=generator, dtype=torch.float64))
    other = rescaled(model, factors)
    assert torch.allclose(model(data[0]), other(data[0]), rtol=1e-12)
    setting = {"rho": RHO, "restarts": 4, "batch_size": 16}
    strong = [
        strong_worst_case_sharpness(one, functional.cross_entropy, data, **setting).value
        for one in (model, other)
    ]
    plain = [
        plain_worst_case_sharpness(
            one, functional.cross_entropy, data, step_size=0.01, **setting
        ).value
        for one in (model, other)
    ]
    assert strong[1] == pytest.approx(strong[0], rel=1e-9)
    assert abs(plain[1] / plain[0] - 1) > 0.05


def test_float32_perturbations_stay_in_a_tiny_box_at_large_weights():
    model = nn.Linear(4, 1)
    nn.init.constant_(model.weight, 1000.0)
    inputs = torch.randn(10, 4)
    found = plain_worst_case_sharpness(
        model, lambda o, _: o.mean(), (inputs, inputs), rho=1e-4, step_size=1e6, restarts=2
    )
    assert found.value > 0


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.layers(inputs))


class FunctionalDropout(Noisy):
    def forward(self, inputs):
        return self.head(functional.dropout(self.layers(inputs), 0.5))


class StubbornBatchNorm(Noisy):
    def train(self, mode=True):
        super().train(mode)
        self.layers[1].training = True
        return self


def measure(model, **changes):
    inputs, targets = table()
    setting = {"rho": 0.01, "step_size": 0.1, "restarts": 2, "batch_size": 16} | changes
    return plain_worst_case_sharpness(
        model, functional.cross_entropy, (inputs.float(), targets), **setting
    )


def test_a_model_in_train_mode_is_measured_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(0)
    model = Noisy().train()
    model.layers[0].eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    assert measure(model) == measure(model.eval())
    model.train()
    model.layers[0].eval()
    measure(model)
    assert model.training and model.layers[2].training and not model.layers[0].training
    assert all(values.equal(before[name]) for name, values in model.state_dict().items())


def test_dropout_that_ignores_evaluation_mode_is_named():
    with pytest.raises(UserError, match="dropout"):
        measure(FunctionalDropout())


def test_batch_norm_that_ignores_evaluation_mode_is_named_and_its_statistics_put_back():
    model = StubbornBatchNorm()
    with pytest.raises(UserError, match=r"layers\.1 \(BatchNorm1d\) is in training mode"):
        measure(model)
    assert model.layers[1].running_mean.equal(torch.zeros(8))


@pytest.mark.parametrize(
    "changes", [{"rho": 0}, {"step_size": -1.0}, {"steps": 0}, {"restarts": 0}, {"batch_size": 0}]
)
def test_settings_out_of_range_are_named(changes):
    with pytest.raises(UserError, match=next(iter(changes))):
        measure(Noisy(), **changes)


@pytest.mark.usefixtures("as_for_users")
def test_inputs_and_targets_of_different_length_are_refused():
    inputs, targets = table()
    with pytest.raises(UserError, match="40 inputs but 39 targets"):
        plain_worst_case_sharpness(
            mlp(), functional.cross_entropy, (inputs, targets[1:]), rho=0.1, step_size=0.1
        )


def test_a_model_that_diverged_is_an_error():
    model = Noisy()
    nn.init.constant_(model.head.weight, math.nan)
    with pytest.raises(NumericalError, match="diverge"):
        measure(model)


def test_one_restart_has_no_standard_error():
    found = summarise(torch.tensor([-0.5]))
    assert (found.value, found.clamped, found.restarts) == (-0.5, 0.0, 1)
    assert math.isnan(found.standard_error)


def test_the_clamped_mean_clamps_each_restart():
    found = summarise(torch.tensor([-1.0, 2.0, 2.0]))
    assert (found.value, found.clamped) == (1.0, pytest.approx(4 / 3))
    assert found.standard_error == pytest.approx(1.0)
