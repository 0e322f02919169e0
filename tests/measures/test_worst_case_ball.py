"""Worst-case sharpness in boxes and balls: definitions, sweep, logit normalization."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from flatness import worst_case_sharpness
from flatness.errors import UserError
from flatness.measures.ascent import draw_batches
from flatness.measures.losses import squared_error
from flatness.measures.worst_case import strong_worst_case_sharpness
from flatness.measures.worst_case_ball import normalized
from measures.small_networks import mlp, table
from measures.test_worst_case import rescaled

FEW = {"restarts": 3, "batch_size": 16}


def sharpness(model, data, **settings):
    how = {"loss": functional.cross_entropy, "rho": 0.05} | FEW | settings
    return worst_case_sharpness(model, *data, **how)


@pytest.mark.parametrize("ascent", ["decaying", "apgd"])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_loss_linear_in_the_weights_rises_by_the_closed_form(norm, dual, adaptive, ascent):
    torch.manual_seed(5)
    model = nn.Linear(4, 1).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    found = sharpness(
        model, (inputs, inputs), loss=lambda f, _: f.mean(), norm=norm, adaptive=adaptive,
        ascent=ascent, seed=5,
    )  # fmt: skip
    batches = draw_batches(30, 3, 16, [torch.Generator().manual_seed(5)])[0]
    slope = torch.cat([inputs[batches].mean(1), torch.ones(3, 1).double()], dim=1)
    w = torch.cat([model.weight.flatten(), model.bias]).detach().abs() if adaptive else 1
    exact = 0.05 * (slope * w).norm(p=dual, dim=1).mean()
    assert found.value == pytest.approx(float(exact), rel=1e-9)
    assert found.restarts == 3


def test_by_default_it_is_near_what_the_studies_measure_on_the_same_batches():
    model, data = mlp(), table()
    how = {"rho": 0.05, "restarts": 8, "batch_size": 16}
    found = sharpness(model, data, **how)
    other = strong_worst_case_sharpness(model, functional.cross_entropy, data, **how)
    assert found.value == pytest.approx(other.value, rel=0.02)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("ascent", ["decaying", "apgd"])
def test_the_adaptive_value_is_unchanged_by_rescaling_and_the_other_is_not(norm, ascent):
    model, data = mlp(), table()
    factors = torch.exp(torch.linspace(-1, 1, 8, dtype=torch.float64))
    pair = model, rescaled(model, factors)
    for adaptive in (True, False):
        one, two = (
            sharpness(m, data, norm=norm, ascent=ascent, adaptive=adaptive).value for m in pair
        )
        assert (two == pytest.approx(one, rel=1e-9)) is adaptive


def test_a_sweep_gives_each_radius_its_value_in_order_and_never_falls():
    model, data = mlp(), table()
    radii = [0.1, 0.01, 0.03]
    found = sharpness(model, data, rho=radii)
    assert found[1].value < found[2].value < found[0].value
    for rho, one in zip(radii, found, strict=True):
        assert one.value == pytest.approx(sharpness(model, data, rho=rho).value, rel=0.02)


def test_a_sweep_never_falls_where_the_ascent_misses_what_a_smaller_box_holds():
    class Bump(nn.Module):
        def __init__(self):
            super().__init__()
            self.place = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

        def forward(self, inputs):
            return torch.exp(-((self.place - 1.02) ** 2) * 1e4).expand(len(inputs))

    data = torch.zeros(4, 1).double(), torch.zeros(4).double()
    how = {"loss": lambda f, _: f.mean(), "steps": 2, "corners": 0}
    small, large = sharpness(Bump(), data, rho=[0.02, 0.5], **how)
    alone = sharpness(Bump(), data, rho=0.5, **how)
    assert alone.value < small.value <= large.value


def test_scaling_the_logits_changes_nothing_once_they_are_normalized():
    model, data = mlp(), table()
    doubled = mlp()
    doubled.load_state_dict(model.state_dict())
    with torch.no_grad():
        for p in doubled[2].parameters():
            p.mul_(5)
    one, two = (sharpness(m, data, normalize_logits=True).value for m in (model, doubled))
    assert two == pytest.approx(one, rel=1e-9)
    plain = [sharpness(m, data).value for m in (model, doubled)]
    assert plain[1] != pytest.approx(plain[0], rel=0.1)


def test_normalized_logits_have_unit_standard_deviation_over_classes():
    logits = torch.randn(6, 5).double()
    seen = []
    normalized(lambda f, _: seen.append(f) or f.sum())(logits, logits)
    assert torch.allclose(seen[0].std(1, correction=0), torch.ones(6).double())
    with pytest.raises(UserError, match="no classes to normalize over"):
        normalized(squared_error)(logits[:, :1], logits[:, :1])


def test_a_smaller_batch_has_a_sharper_worst_case():
    model, data = mlp(), table()
    small, large = (sharpness(model, data, batch_size=m, restarts=20).value for m in (1, 40))
    assert small > large


def test_the_model_is_left_as_it_was():
    model, data = mlp().train(), table()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    sharpness(model, data, ascent="apgd")
    assert model.training and all(t.equal(before[n]) for n, t in model.state_dict().items())


@pytest.mark.usefixtures("as_for_users")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": []}, "rho is empty"),
        ({"rho": [0.1, 0.0]}, "rho is 0.0"),
        ({"norm": "l1"}, "norm is 'l1'; it is 'linf' or 'l2'"),
        ({"ascent": "newton"}, "ascent is 'newton'; it is one of decaying, apgd"),
        ({"steps": 0}, "steps is 0"),
        ({"corners": -1}, "corners is -1"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        sharpness(mlp(), table(), **settings)


def test_batches_of_pairs_and_names_of_losses_are_taken():
    model, (inputs, labels) = mlp(), table()
    whole = sharpness(model, (inputs, labels))
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=7)
    assert sharpness(model, (loader,), loss="cross_entropy") == whole
    with pytest.raises(UserError, match="pass both, or batches of both"):
        sharpness(model, (inputs,))
    with pytest.raises(UserError, match="batches are not pairs"):
        sharpness(model, ([inputs],))


def test_a_loss_that_is_not_a_mean_is_refused():
    with pytest.raises(UserError, match="not a mean over samples"):
        sharpness(mlp(), table(), loss=nn.CrossEntropyLoss(reduction="sum"))
    with pytest.raises(UserError, match="loss is a class CrossEntropyLoss"):
        sharpness(mlp(), table(), loss=nn.CrossEntropyLoss)


def test_a_loss_of_probabilities_is_taken():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()).double()
    inputs = torch.randn(30, 4, dtype=torch.float64)
    assert sharpness(model, (inputs, (inputs[:, :1] > 0).double()), loss=nn.BCELoss()).value > 0


def test_a_rise_below_rounding_has_a_flag():
    model, (inputs, labels) = mlp(), table()
    assert sharpness(model, (inputs, labels)).flags == ()
    with torch.no_grad():
        model[2].weight.mul_(1e-9)  # all outputs are the bias, up to rounding in float32
        model[2].bias.zero_()
    assert sharpness(model, (inputs, labels)).flags == ()
    (flag,) = sharpness(model.float(), (inputs.float(), labels)).flags
    assert "measure in float64" in flag


def test_a_model_that_returns_no_tensor_is_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return {"logits": self.inner(x)}

    with pytest.raises(UserError, match="the model returns a dict; wrap it"):
        sharpness(Pair(), table())
