"""The certified bracket against dense searches, and how tight it is."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.errors import UserError
from flatness.measures.certified import certified_sharpness, most_of_square
from flatness.measures.losses import LOSSES


def dense(*widths, seed=0, bias=True):
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def data(width, outputs, samples=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, width, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(samples, outputs, generator=generator, dtype=torch.float64)


def rises(model, inputs, targets, loss, moves, adaptive):
    """The loss's rise at each of many perturbations, (k, D) in units of h."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    centre = torch.cat([p.detach().flatten() for p in parameters])
    half = centre.abs() if adaptive else torch.ones_like(centre)

    def loss_at(vector):
        parts = vector.split([p.numel() for p in parameters])
        named = {n: v.view_as(p) for n, v, p in zip(names, parts, parameters, strict=True)}
        return loss(torch.func.functional_call(model, named, (inputs,)), targets)

    with torch.no_grad():
        start = loss_at(centre)
        found = [torch.vmap(loss_at)(centre + half * part) for part in moves.split(50_000)]
    return torch.cat(found) - start


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("adaptive", [True, False])
def test_it_contains_a_dense_grid_search(rho, adaptive):
    model = dense(2, 2, 1)  # 9 weights
    inputs, targets = data(2, 1)
    levels = torch.linspace(-rho, rho, 4, dtype=torch.float64)
    grid = torch.cartesian_prod(*[levels] * 9)
    found = certified_sharpness(model, inputs, targets, rho=rho, adaptive=adaptive)
    best = float(rises(model, inputs, targets, LOSSES["squared_error"].function, grid,
                       adaptive).max())  # fmt: skip
    assert best <= found.upper
    assert 0.9 * best <= found.lower <= found.upper


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", LOSSES)
def test_it_contains_every_corner_of_a_box_of_seventeen_weights(loss, seed):
    outputs = 2 if loss == "cross_entropy" else 1
    model = dense(2, 4, outputs, seed=seed) if outputs == 1 else dense(2, 3, 2, seed=seed)
    inputs, targets = data(2, outputs, seed=seed)
    if loss == "cross_entropy":
        targets = targets.argmax(1)
    corners = torch.cartesian_prod(*[torch.tensor([-0.2, 0.2]).double()] * 17)
    found = certified_sharpness(model, inputs, targets, loss=loss, rho=0.2)
    best = float(rises(model, inputs, targets, LOSSES[loss].function, corners, True).max())
    assert best <= found.upper
    assert found.lower == pytest.approx(best, rel=0.1)
    assert found.convention == LOSSES[loss].convention


@pytest.mark.parametrize("samples", [1, 20])
@pytest.mark.parametrize("loss", ["squared_error", "mse"])
@pytest.mark.parametrize("adaptive", [True, False])
def test_it_is_tight_where_no_relu_can_switch(samples, loss, adaptive):
    model = dense(10, 64, 64, 1)
    inputs, targets = data(10, 1, samples)
    found = certified_sharpness(model, inputs, targets, loss=loss, rho=1e-6, adaptive=adaptive)
    assert found.switching == 0
    assert 1 <= found.ratio <= 1.01


@pytest.mark.parametrize("samples", [1, 50])
def test_it_is_tight_at_an_interpolating_minimum_where_the_first_order_is_zero(samples):
    model = dense(10, 64, 64, 1)
    inputs, _ = data(10, 1, samples)
    found = certified_sharpness(model, inputs, model(inputs).detach(), rho=1e-6)
    assert found.switching == 0
    assert 1 <= found.ratio <= 1.1


def test_it_widens_with_rho_and_counts_the_relus_that_can_switch():
    model = dense(10, 64, 64, 1)
    found = [certified_sharpness(model, *data(10, 1), rho=rho) for rho in (1e-6, 1e-3, 1e-2, 1e-1)]
    ratios = [one.ratio for one in found]
    assert ratios == sorted(ratios) and ratios[-1] > 2 > 1.1 > ratios[1]
    counts = [one.switching for one in found]
    assert counts == sorted(counts) and counts[0] == 0 < counts[-1]


def test_a_deep_linear_network_of_one_weight_per_layer_has_its_closed_form():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        model[1].weight.fill_(3.0)
    x, y = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    exact = ((6 * 1.1**2) ** 2 - 36) / 2
    found = certified_sharpness(model, x, y, rho=0.1)
    assert found.lower == pytest.approx(exact, rel=1e-9)
    assert exact * (1 - 1e-9) <= found.upper <= exact * 1.001


def test_the_maximum_of_a_square_is_bounded_and_often_reached():
    torch.manual_seed(0)
    for shape in ((1, 8), (3, 10), (6, 10)):
        A = torch.randn(shape, dtype=torch.float64)
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * shape[1])
        most = float((corners @ A.T).square().sum(1).max())
        bound = most_of_square(A)
        assert most <= bound * (1 + 1e-12) <= 1.35 * most
        assert bound <= float(A.abs().sum(1).square().sum()) * (1 + 1e-12)
    assert most_of_square(torch.zeros(2, 3).double()) == 0


def test_float32_models_shapes_and_passing_modules_are_no_obstacle():
    model = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Dropout(), nn.Linear(6, 1)
    )
    inputs, targets = torch.randn(5, 2, 2), torch.randn(5)
    found = certified_sharpness(model, inputs, targets, rho=1e-4)
    plain = nn.Sequential(model[1][0], nn.ReLU(), model[3])
    same = certified_sharpness(plain, inputs.flatten(1), targets[:, None], rho=1e-4)
    assert (found.lower, found.upper) == (same.lower, same.upper)
    assert model.training


@pytest.mark.usefixtures("as_for_users")
def test_models_and_losses_without_a_certificate_are_refused():
    x, y = data(4, 2)
    with pytest.raises(UserError, match="Tanh has no certificate"):
        certified_sharpness(nn.Sequential(nn.Linear(4, 2), nn.Tanh()).double(), x, y, rho=0.1)
    layer = nn.Linear(4, 4).double()
    with pytest.raises(UserError, match="used twice"):
        certified_sharpness(nn.Sequential(layer, nn.ReLU(), layer), x, x, rho=0.1)
    with pytest.raises(UserError, match="loss: no 'hinge'"):
        certified_sharpness(dense(4, 2), x, y, loss="hinge", rho=0.1)
    with pytest.raises(UserError, match="rho is 0"):
        certified_sharpness(dense(4, 2), x, y, rho=0)
    with pytest.raises(UserError, match="one-hot rows"):
        certified_sharpness(dense(4, 2), x, y[:, 0], rho=0.1)


def test_cross_entropy_is_bounded_from_both_sides_of_many_classes():
    model = dense(6, 12, 5)
    inputs, _ = data(6, 1, 8)
    labels = torch.arange(8) % 5
    found = certified_sharpness(model, inputs, labels, loss="cross_entropy", rho=0.02)
    generator = torch.Generator().manual_seed(0)
    moves = 0.02 * (2 * torch.randint(2, (2000, 149), generator=generator).double() - 1)
    sampled = rises(model, inputs, labels, functional.cross_entropy, moves, True)
    assert float(sampled.max()) < found.lower <= found.upper < 1.5 * found.lower
