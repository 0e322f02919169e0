"""Adaptive sharpness against its literal definition and its leading term, in float64."""

import copy
import math
from itertools import cycle, repeat

import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.studies.transformers.config import Counts, Perturbations, Rounds
from flatness.studies.transformers.models import build
from flatness.studies.transformers.perturb import (
    average_case_sharpness,
    released_average_case_sharpness,
)
from studies.transformers.tiny_transformers import LEVIT, TINY_VIT, VIT


def settings(rho=0.1, stack=1, least=8, most=8, tolerance=1e-9, single=(3, 6)):
    return Perturbations(
        rho=rho,
        stack=stack,
        single=Counts(least=single[0], most=single[1]),
        pairs=Rounds(least=least, most=most, images=3, tolerance=tolerance),
    )


def case(model, count=6, scale=1.0):
    """A module, images and one-hot targets; `scale` multiplies weights and images."""
    module = build(model, 4, 0).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in module.named_parameters():
        if "attention_bias" in name:  # zeros at first, which no relative noise moves
            parameter.normal_(generator=generator)
        parameter.mul_(scale)
    generator = torch.Generator().manual_seed(1)
    size = (count, 3, model.image_size, model.image_size)
    images = scale * torch.randn(size, dtype=torch.float64, generator=generator)
    return module, images, functional.one_hot(torch.arange(count) % 4, 4).double()


def rounds_of(images, targets, size=3):
    """The images in turn, `size` a round, without end."""
    return cycle(list(zip(images.split(size), targets.split(size), strict=True)))


def literal_loss(module, images, targets):
    return (torch.sigmoid(module(images)) - targets).square().sum(1)


def literally_moved(module, rho, generator, sign):
    """A copy whose every weight w is moved by ρ|w|ε."""
    moved = copy.deepcopy(module)
    for parameter in moved.parameters():
        noise = torch.empty(parameter.shape, dtype=parameter.dtype).normal_(generator=generator)
        parameter.add_(sign * rho * parameter.abs() * noise)
    moved.train()  # forgets the attention's biases, which evaluation mode keeps
    moved.eval()
    return moved


def literal_rise(module, images, targets, signs, generator):
    """Rise of each image's loss under one perturbation, averaged over its signs."""
    state = generator.get_state()
    losses = []
    for sign in signs:
        generator.set_state(state)
        moved = literally_moved(module, 0.1, generator, sign)
        losses.append(literal_loss(moved, images, targets))
    return torch.stack(losses).mean(0) - literal_loss(module, images, targets)


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_rounds_equal_the_literal_definition(model):
    module, images, targets = case(model)
    found = average_case_sharpness(module, rounds_of(images, targets), settings(), seed=7)
    generator, rounds = torch.Generator().manual_seed(7), rounds_of(images, targets)
    values = [
        literal_rise(module, *next(rounds), (1, -1), generator).mean().item() / 0.01
        for _ in range(8)
    ]
    values = torch.tensor(values, dtype=torch.float64)
    assert (found.perturbations, found.images) == (8, 24)
    assert found.estimate.value == pytest.approx(values.mean().item(), rel=1e-7)
    error = values.std().item() / math.sqrt(8)
    assert found.estimate.standard_error == pytest.approx(error, rel=1e-7)


def test_released_equals_the_literal_definition_with_its_rule():
    module, images, targets = case(VIT, count=3, scale=6.0)
    found = released_average_case_sharpness(module, images, targets, settings(stack=2), seed=7)
    generator = torch.Generator().manual_seed(7)
    means, count = [], 0
    for x, y in zip(images.split(1), targets.split(1), strict=True):
        rises = [literal_rise(module, x, y, (1,), generator) for _ in range(3)]
        asked = math.floor(torch.cat(rises).std(correction=0).item()) ** 2
        rises += [
            literal_rise(module, x, y, (1,), generator) for _ in range(min(max(asked, 3), 6) - 3)
        ]
        means.append(torch.cat(rises).mean().item() / 0.01)
        count += len(rises)
    assert found.perturbations == count
    assert found.estimate.value == pytest.approx(sum(means) / 3, rel=1e-7)
    error = torch.tensor(means).std().item() / math.sqrt(3)
    assert found.estimate.standard_error == pytest.approx(error, rel=1e-5)


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
    how = settings(rho=rho, stack=8, single=(9, 40))
    found = released_average_case_sharpness(Coin(), images, targets, how, seed=0)
    assert found.perturbations == 2 * asked


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_the_stack_changes_nothing(model):
    module, images, targets = case(model, count=3)
    one, stacked = (
        average_case_sharpness(module, rounds_of(images, targets), settings(stack=size), seed=0)
        for size in (1, 3)
    )
    assert stacked.estimate.value == pytest.approx(one.estimate.value, rel=1e-7)
    one, stacked = (
        released_average_case_sharpness(module, images, targets, settings(stack=size), seed=0)
        for size in (1, 3)
    )
    assert stacked.estimate.value == pytest.approx(one.estimate.value, rel=1e-7)


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
    how = settings(rho=1e-3, stack=100, least=3000, most=3000)
    estimate = average_case_sharpness(module, repeat((images, targets)), how, seed=0).estimate
    assert estimate.standard_error < 0.05 * abs(exact)
    assert abs(estimate.value - exact) < 4 * estimate.standard_error


def test_the_standard_error_is_the_spread_over_seeds():
    """Images of different curvature: rounds of one image each must own up to that spread too."""
    module, (images, targets) = classifier(nn.Tanh()), small_images()
    order = torch.randint(3, (40, 24), generator=torch.Generator().manual_seed(0))
    found = [
        average_case_sharpness(
            module,
            iter([(images[[i]], targets[[i]]) for i in drawn]),
            settings(stack=8, least=24, most=24),
            seed=seed,
        ).estimate
        for seed, drawn in enumerate(order.tolist())
    ]
    spread = torch.tensor([estimate.value for estimate in found]).std().item()
    claimed = torch.tensor([estimate.standard_error for estimate in found]).square().mean().sqrt()
    assert 0.7 < claimed.item() / spread < 1.4


def test_both_estimators_agree_within_their_errors():
    module, (images, targets) = classifier(nn.Tanh()), small_images()
    how = settings(stack=1000, least=8000, most=8000, single=(8000, 8000))
    pairs = average_case_sharpness(module, repeat((images, targets)), how, seed=0).estimate
    single = released_average_case_sharpness(module, images, targets, how, seed=1).estimate
    # Single perturbations leave the gradient in: 24,000 of them still err by 0.01.
    assert pairs.standard_error < 0.001
    assert abs(single.value - pairs.value) < 0.02 < pairs.value / 2


def test_rescaling_relu_layers_leaves_it_unchanged():
    module, (images, targets) = classifier(nn.ReLU()), small_images()
    before = average_case_sharpness(module, repeat((images, targets)), settings(), seed=0)
    module[1].weight.mul_(7)
    module[1].bias.mul_(7)
    module[3].weight.div_(7)
    after = average_case_sharpness(module, repeat((images, targets)), settings(), seed=0)
    assert after.estimate.value == pytest.approx(before.estimate.value, rel=1e-9)


def test_it_stops_when_precise_enough_and_no_sooner_than_asked():
    module, data = classifier(nn.Tanh()), small_images()
    few, many, none = (
        average_case_sharpness(
            module, repeat(data), settings(least=20, most=most, tolerance=tolerance), seed=0
        )
        for most, tolerance in ((5000, 0.2), (5000, 0.05), (35, 1e-9))
    )
    assert 20 <= few.perturbations < many.perturbations < 5000
    assert many.estimate.standard_error <= 0.05 * abs(many.estimate.value)
    assert none.perturbations == 35


def test_the_model_is_left_as_it_was():
    module, images, targets = case(TINY_VIT)
    before = copy.deepcopy(module.state_dict())
    average_case_sharpness(module, rounds_of(images, targets), settings(), seed=0)
    released_average_case_sharpness(module, images, targets, settings(), seed=0)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
