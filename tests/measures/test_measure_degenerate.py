"""Input that leaves no number, or no right one: the answer is a flag or an error, never a guess."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from flatness.errors import NumericalError, UserError
from flatness.measures.measure import measure


def dense(*widths):
    torch.manual_seed(0)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_one_sample_has_no_standard_errors():
    found = measure(dense(4, 3, 2), rand(1, 4), rand(1, 2))
    for name, estimate in found.items():
        assert math.isfinite(estimate.value), name
        assert math.isnan(estimate.standard_error), name
    assert found.flags == ("one sample: standard errors are not defined",)


def test_a_misspelt_quantity_is_answered_with_those_there_are():
    found = measure(dense(4, 3, 2), rand(2, 4), quantities=["sharpness", "mls"])
    with pytest.raises(KeyError, match="no 'sharpnes' here; there are sharpness, mls"):
        found["sharpnes"]
    assert "sharpnes" not in found and found.get("sharpnes") is None


def test_a_zero_sample_makes_the_published_bounds_vacuous_and_leaves_the_others():
    inputs = rand(3, 4)
    inputs[1] = 0
    found = measure(dense(4, 3, 2), inputs)
    for name in ("bound_b", "bound_c", "bound_d", "nmls_bound", "log_lvr_bound", "log_nvr_bound"):
        assert found[name].value == math.inf, name
        assert math.isfinite(found[f"{name}_bias"].value), name
    assert "1 of 3 samples are zero" in " ".join(found.flags)
    assert "one sample" not in " ".join(found.flags)


def test_zero_samples_only():
    found = measure(dense(4, 3, 2), torch.zeros(2, 4, dtype=torch.float64))
    assert found["bound_b"].value == math.inf
    assert found["bound_d_bias"].value >= found["mls"].value
    assert found["input_invariant_mls"].value == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rank_short_jacobian_has_no_volume_but_a_rank(dtype):
    model = dense(6, 5, 4)
    with torch.no_grad():
        model[2].weight[2:] = model[2].weight[:2]  # outputs that move together
    found = measure(model.to(dtype), rand(3, 6).to(dtype))
    assert found["rank"].value == 2
    assert found["log_lvr"].value == -math.inf
    assert found["log_volume_top3"].value == -math.inf
    assert math.isfinite(found["log_lvr_bound"].value)


def test_more_outputs_than_inputs_have_no_volume():
    found = measure(dense(2, 5, 3), rand(3, 2))
    assert found["log_lvr"].value == -math.inf
    assert found["rank"].value == 2
    assert math.isfinite(found["log_volume_top3"].value)


def test_idle_outputs_lower_the_rank_only():
    model = dense(6, 5, 4)
    with torch.no_grad():
        model[2].weight[3] = 0
    found = measure(model, rand(3, 6))
    assert found["rank"].value == 3
    assert math.isfinite(found["log_volume_top3"].value)


def test_a_first_layer_of_zeros_bounds_the_volume_by_zero():
    model = dense(4, 3, 2)
    with torch.no_grad():
        model[0].weight.zero_()
    found = measure(model, rand(3, 4))
    for name in ("log_lvr", "log_lvr_bound", "log_lvr_bound_released"):
        assert found[name].value == -math.inf, name


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(input=x)


def test_a_layer_called_by_keyword_is_named():
    with pytest.raises(UserError, match="layer linear is called by keyword"):
        measure(ByKeyword(), torch.rand(2, 4))


def test_a_jacobian_of_zero_has_no_local_dimensionality():
    model = dense(4, 3, 2)
    with torch.no_grad():
        model[2].weight.zero_()
    found = measure(model, rand(3, 4))
    assert math.isnan(found["local_dimensionality"].value)
    assert found["rank"].value == 0 and found["mls"].value == 0
    assert "3 of 3 samples have J = 0" in " ".join(found.flags)


def test_tiny_and_huge_weights_in_float32_lose_nothing():
    model, inputs = dense(4, 3, 2), rand(3, 4)
    plain = measure(model, inputs)
    with torch.no_grad():
        model[2].weight *= 1e-12
    small = measure(model.float(), inputs.float())
    assert small["mls"].value == pytest.approx(1e-12 * plain["mls"].value, rel=1e-5)
    assert small["local_dimensionality"].value == pytest.approx(
        plain["local_dimensionality"].value, rel=1e-5
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_parameter_that_is_not_finite_is_named(value):
    model = dense(4, 3, 2)
    with torch.no_grad():
        model[2].bias[1] = value
    with pytest.raises(NumericalError, match=r"parameter 2\.bias is not finite"):
        measure(model, rand(3, 4))


def test_inputs_that_are_not_finite_are_refused():
    with pytest.raises(NumericalError, match="inputs are not finite"):
        measure(dense(4, 2), rand(3, 4) / 0)


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.BatchNorm1d(3)])
def test_training_mode_is_refused_where_it_matters(module):
    model = nn.Sequential(nn.Linear(4, 3), module, nn.Linear(3, 2)).double()
    with pytest.raises(UserError, match=rf"module 1 \({type(module).__name__}\).*model.eval\(\)"):
        measure(model, rand(3, 4))
    assert math.isfinite(measure(model.eval(), rand(3, 4))["sharpness"].value)


class Coupled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x - x.mean(0))


class Noisy(Coupled):
    def forward(self, x):
        return self.fc(x + torch.randn_like(x))


class Functional(Coupled):
    """Uses the layer's weight past the layer too."""

    def forward(self, x):
        return self.fc(x) + x.square() @ self.fc.weight.T


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Coupled(), "depend on the other samples"), (Noisy(), "draws random numbers")],
)
def test_outputs_that_depend_on_more_than_their_sample_are_refused(model, reason):
    with pytest.raises(UserError, match=reason):
        measure(model.double(), rand(3, 4))


def test_a_parameter_used_outside_its_layer_is_refused():
    with pytest.raises(UserError, match="layer fc are also used outside of it"):
        measure(Functional().double(), rand(3, 4))


def test_an_interpolated_target_of_zero_is_no_reason_to_refuse():
    for seed in range(10):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(50, 300), nn.Tanh(), nn.Linear(300, 1))
        inputs = torch.randn(20, 50)
        with torch.no_grad():
            for _ in range(5):
                model[-1].bias -= model(inputs)[0]
        assert measure(model, inputs)["sharpness"].value > 0


class Viewing(nn.Module):
    """Flattens as PyTorch's tutorial does, which takes images channels first."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 6 * 6, 2)

    def forward(self, x):
        return self.fc(self.conv(x).tanh().view(-1, 4 * 6 * 6))


def test_a_model_that_views_its_images_is_the_same_as_one_that_flattens_them():
    model, inputs = Viewing().double(), rand(3, 3, 8, 8)
    flattening = nn.Sequential(model.conv, nn.Tanh(), nn.Flatten(), model.fc)
    viewed, flattened = measure(model, inputs), measure(flattening, inputs)
    for name, estimate in flattened.items():
        assert viewed[name].value == pytest.approx(estimate.value, rel=1e-12, nan_ok=True), name


class Idle(Coupled):
    """Has a layer that it does not call."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        return self.fc(x)


class Dropping(Idle):
    """Calls it and drops what it gives."""

    def forward(self, x):
        out = self.fc(x)
        self.head(out.repeat(1, 2)[:, :3])
        return out


@pytest.mark.parametrize("kind", [Idle, Dropping])
def test_a_layer_without_effect_adds_nothing(kind):
    model, inputs = kind().double(), rand(3, 4)
    found, alone = measure(model, inputs), measure(model.fc, inputs)
    for name in ("sharpness", "mls", "nmls", "average_case_sharpness", "bound_d"):
        assert found[name].value == pytest.approx(alone[name].value, rel=1e-12), name


class Frozen(Idle):
    """Takes a layer's output as given."""

    def forward(self, x):
        with torch.no_grad():
            hidden = self.head(x[:, :3])
        return self.fc(hidden[:, :4] * x)


def test_a_layer_that_gradients_do_not_reach_leaves_no_sum_over_layers():
    found = measure(Frozen().double(), rand(3, 4))
    assert math.isnan(found["nmls"].value)
    assert any("layer head has no gradient by the inputs" in flag for flag in found.flags)


def test_outputs_without_gradients_are_refused():
    model = nn.Sequential(nn.Linear(4, 2)).double()
    model.register_forward_hook(lambda _module, _inputs, output: output.detach())
    with pytest.raises(UserError, match="no gradient by the inputs"):
        measure(model, rand(3, 4))


def test_a_model_without_parameters_has_a_jacobian():
    found = measure(nn.Tanh(), torch.zeros(2, 3, dtype=torch.float64))
    assert found["mls"].value == pytest.approx(1)
    assert found["sharpness"].value == 0


class Twice(nn.Module):
    """Has its layers under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)
        self.net = nn.Sequential(self.first, nn.Tanh(), self.last)

    def forward(self, x):
        return self.net(x)


def test_a_layer_under_two_names_is_one_layer():
    model, inputs = Twice().double(), rand(3, 4)
    found, plain = measure(model, inputs), measure(model.net, inputs)
    assert found.flags == plain.flags == ()
    assert {n: e.value for n, e in found.items()} == {n: e.value for n, e in plain.items()}


def test_a_first_operation_in_place_leaves_the_inputs_as_they_were():
    inputs = rand(3, 4) - 0.5
    before = inputs.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), *dense(4, 3, 2))
    found = measure(model, inputs, rand(3, 2))
    plain = measure(nn.Sequential(nn.ReLU(), *model[1:]), inputs, rand(3, 2))
    assert torch.equal(inputs, before)
    assert found["mls"].value == plain["mls"].value


def test_an_overflowing_jacobian_is_reported():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in (model[2], model[3]):
            layer.weight.fill_(1e30)
        model[0].weight.fill_(1e-35)
        model[0].bias.zero_(), model[2].bias.zero_()
    with pytest.raises(NumericalError, match=r"the Jacobian overflows torch\.float32"):
        measure(model, torch.full((2, 2), 1e-3))


def test_weights_and_inputs_of_zero_make_the_bounds_infinite():
    model = dense(4, 3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = measure(model, rand(3, 4))
    for name in ("nmls_bound", "log_nvr_bound", "nmls_bound_released", "log_nvr_bound_released"):
        assert found[name].value == math.inf, name
    assert any("some sample's input is zero at layer: 2" in flag for flag in found.flags)


class Overwriting(Coupled):
    def forward(self, x):
        hidden = x * 2
        out = self.fc(hidden)
        hidden.zero_()
        return out


def test_an_input_overwritten_after_its_layer_is_refused():
    with pytest.raises(UserError, match="input of layer fc is overwritten"):
        measure(Overwriting().double(), rand(3, 4))


def test_shared_weights_are_measured_as_one_parameter():
    model = dense(3, 3, 3)
    model[2].weight = model[0].weight
    found = measure(model, rand(2, 3))
    gradient = 0.0
    for x in rand(2, 3).split(1):
        for output in model(x)[0]:
            rows = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
            gradient += sum(g.square().sum().item() for g in rows)
    assert found["sharpness"].value == pytest.approx(gradient / 2, rel=1e-12)
    assert any("shares a parameter" in flag for flag in found.flags)


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantities": ["mls", "flatness"]}, "no flatness; there are sharpness"),
        ({"quantities": ["average_case_sharpness_sampled"]}, "needs targets"),
        ({"targets": torch.zeros(3)}, "pass class labels as one-hot rows"),
        ({"targets": torch.zeros(2, 2), "chunk": 1}, r"targets: shape \(2, 2\)"),
        ({"targets": torch.full((3, 2), torch.nan)}, "targets are not finite"),
        ({"chunk": 0}, "chunk is 0; it must be a whole number"),
        ({"pairs": 0}, "pairs is 0; it must be a whole number"),
        ({"rho": 0.0}, r"rho is 0\.0; it must be a positive number"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        measure(dense(4, 2), rand(3, 4), **arguments)


@pytest.mark.usefixtures("as_for_users")
def test_inputs_of_another_type_are_refused():
    with pytest.raises(UserError, match=r"inputs are torch.uint8, .* make both float32"):
        measure(dense(4, 2), torch.ones(3, 4, dtype=torch.uint8))
    with pytest.raises(UserError, match="needs samples along the first axis"):
        measure(dense(4, 2), rand(0, 4))
    with pytest.raises(UserError, match=r"inputs are a ndarray; pass a torch\.Tensor"):
        measure(dense(4, 2), rand(3, 4).numpy())
    with pytest.raises(UserError, match=r"the model fails on a batch of shape \(3, 5\)"):
        measure(dense(4, 2), rand(3, 5))
