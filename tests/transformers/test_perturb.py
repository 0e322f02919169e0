"""Adaptive sharpness against its literal definition and its leading term, in float64."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.transformers.config import Perturbations
from flatness.transformers.models import build
from flatness.transformers.perturb import adaptive_sharpness, released_adaptive_sharpness
from tiny_transformers import LEVIT, TINY_VIT, VIT

HOW = Perturbations(rho=0.1, least=4, most=8, tolerance=1e-9, stack=1)


def case(model, count=3, scale=1.0):
    """A module, images and one-hot targets; `scale` multiplies the weights."""
    module = build(model, 4, 0).double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.mul_(scale)
    generator = torch.Generator().manual_seed(1)
    size = (count, 3, model.image_size, model.image_size)
    images = torch.randn(size, dtype=torch.float64, generator=generator)
    targets = functional.one_hot(torch.arange(count) % 4, 4).double()
    return module, images, targets


def literal_loss(module, images, targets):
    return (torch.sigmoid(module(images)) - targets).square().sum(1)


def literally_moved(module, rho, generator, sign=1):
    """A copy whose every weight w is moved by ρ|w|ε."""
    moved = copy.deepcopy(module)
    for parameter in moved.parameters():
        noise = torch.empty(parameter.shape, dtype=parameter.dtype).normal_(generator=generator)
        parameter.add_(sign * rho * parameter.abs() * noise)
    return moved


def literal_rises(module, images, targets, count, signs, generator):
    clean = literal_loss(module, images, targets)
    rises = []
    for _ in range(count):
        state = generator.get_state()
        both = []
        for sign in signs:
            generator.set_state(state)
            both.append(
                literal_loss(literally_moved(module, 0.1, generator, sign), images, targets)
            )
        rises.append(torch.stack(both).mean(0) - clean)
    return torch.stack(rises)


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_pairs_equal_the_literal_definition(model):
    module, images, targets = case(model)
    found = adaptive_sharpness(module, images, targets, HOW, seed=7, chunk=2)
    generator = torch.Generator().manual_seed(7)
    rises = literal_rises(module, images, targets, 8, (1, -1), generator) / 0.01
    assert found.perturbations == 8
    assert found.estimate.value == pytest.approx(rises.mean().item(), rel=1e-7)
    over_pairs = rises.mean(1).std().item() / math.sqrt(8)
    over_images = rises.mean(0).std().item() / math.sqrt(3)
    assert found.perturbation_error == pytest.approx(over_pairs, rel=1e-7)
    both = math.hypot(over_pairs, over_images)
    assert found.estimate.standard_error == pytest.approx(both, rel=1e-7)


def test_released_equals_the_literal_definition_with_its_rule():
    module, images, targets = case(VIT, scale=6.0)
    how = Perturbations(rho=0.1, least=3, most=6, tolerance=1, stack=2)
    found = released_adaptive_sharpness(module, images * 9, targets, how, seed=7)
    generator = torch.Generator().manual_seed(7)
    means, counts = [], []
    for x, y in zip((images * 9).split(1), targets.split(1), strict=True):
        rises = literal_rises(module, x, y, 3, (1,), generator)
        asked = math.floor(rises.std(correction=0).item()) ** 2
        counts.append(min(max(asked, 3), 6))
        more = (
            literal_rises(module, x, y, counts[-1] - 3, (1,), generator) if asked > 3 else rises[:0]
        )
        means.append(torch.cat([rises, more]).mean() / 0.01)
    assert found.perturbations == pytest.approx(sum(counts) / 3)
    assert found.estimate.value == pytest.approx(torch.stack(means).mean().item(), rel=1e-7)


class Coin(nn.Module):
    """Outputs so large that each loss is 0 or 1, by the sign of a perturbation."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return (self.weight - 1).sign() * 99 + 0 * x.flatten(1)[:, :1]


@pytest.mark.parametrize(("rho", "asked"), [(0.01, 16), (0.001, 40)])
def test_widely_spread_losses_ask_for_more_perturbations(rho, asked):
    # Standard deviation s just below 1/2: floor(s / 10ρ) is 4 at ρ = 0.01, 49 at 0.001.
    images = torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    targets = torch.zeros(2, 1, dtype=torch.float64)
    how = Perturbations(rho=rho, least=9, most=40, tolerance=1, stack=8)
    found = released_adaptive_sharpness(Coin(), images, targets, how, seed=0)
    assert found.perturbations == asked


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_stack_and_chunk_change_nothing(model):
    module, images, targets = case(model)
    one = adaptive_sharpness(module, images, targets, HOW, seed=0, chunk=3)
    stacked = HOW.model_copy(update={"stack": 3})
    other = adaptive_sharpness(module, images, targets, stacked, seed=0, chunk=1)
    assert other.estimate.value == pytest.approx(one.estimate.value, rel=1e-7)
    one = released_adaptive_sharpness(module, images, targets, HOW, seed=0)
    other = released_adaptive_sharpness(module, images, targets, stacked, seed=0)
    assert other.estimate.value == pytest.approx(one.estimate.value, rel=1e-7)


def classifier(activation):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), activation, nn.Linear(5, 4))
    return layers.double().requires_grad_(False)


def small_images():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(3, 3, 2, 2, dtype=torch.float64, generator=generator)
    return images, functional.one_hot(torch.arange(3), 4).double()


def test_for_small_rho_it_is_half_the_weighted_trace_of_the_hessian():
    module, (images, targets) = classifier(nn.Tanh()), small_images()
    names = [name for name, _ in module.named_parameters()]
    weights = tuple(p.detach() for p in module.parameters())

    def loss(*values):
        named = dict(zip(names, values, strict=True))
        outputs = torch.func.functional_call(module, named, (images,)).sigmoid()
        return (outputs - targets).square().sum(1).mean()

    blocks = torch.autograd.functional.hessian(loss, weights)
    exact = sum(
        (w.flatten() ** 2 * blocks[i][i].reshape(w.numel(), -1).diagonal()).sum().item() / 2
        for i, w in enumerate(weights)
    )
    how = Perturbations(rho=1e-3, least=500, most=3000, tolerance=0.01, stack=100)
    found = adaptive_sharpness(module, images, targets, how, seed=0, chunk=3)
    assert found.perturbation_error < 0.05 * abs(exact)
    assert abs(found.estimate.value - exact) < 4 * found.perturbation_error


def test_both_estimators_agree_within_their_errors():
    module, (images, targets) = classifier(nn.Tanh()), small_images()
    how = Perturbations(rho=0.1, least=8000, most=8000, tolerance=1, stack=2000)
    pairs = adaptive_sharpness(module, images, targets, how, seed=0, chunk=3)
    single = released_adaptive_sharpness(module, images, targets, how, seed=1)
    # Single perturbations leave the gradient in: 24,000 of them still err by 0.01.
    assert pairs.perturbation_error < 0.001
    assert abs(single.estimate.value - pairs.estimate.value) < 0.02 < pairs.estimate.value / 2


def test_rescaling_relu_layers_leaves_it_unchanged():
    module, (images, targets) = classifier(nn.ReLU()), small_images()
    before = adaptive_sharpness(module, images, targets, HOW, seed=0, chunk=3)
    module[1].weight.mul_(7)
    module[1].bias.mul_(7)
    module[3].weight.div_(7)
    after = adaptive_sharpness(module, images, targets, HOW, seed=0, chunk=3)
    assert after.estimate.value == pytest.approx(before.estimate.value, rel=1e-9)


def test_it_stops_when_precise_enough():
    module, (images, targets) = classifier(nn.Tanh()), small_images()
    wide = Perturbations(rho=0.1, least=50, most=5000, tolerance=0.2, stack=50)
    narrow = wide.model_copy(update={"tolerance": 0.05})
    few, many = (
        adaptive_sharpness(module, images, targets, how, seed=0, chunk=3) for how in (wide, narrow)
    )
    assert 50 <= few.perturbations < many.perturbations < 5000
    assert many.perturbation_error <= 0.05 * abs(many.estimate.value)


def test_the_model_is_left_as_it_was():
    module, images, targets = case(TINY_VIT)
    before = copy.deepcopy(module.state_dict())
    adaptive_sharpness(module, images, targets, HOW, seed=0, chunk=3)
    released_adaptive_sharpness(module, images, targets, HOW, seed=0)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
