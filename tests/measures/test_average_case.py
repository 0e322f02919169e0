"""Sampled adaptive sharpness against the Hessian, and both against S where they must agree."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from flatness.measures.average_case import average_case_sharpness_sampled
from flatness.measures.measure import measure


def case():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return model, torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)


def hessian(model, inputs, targets):
    """Hessian of L = 1/(2n) Σ ||f(x) − y||² by all parameters, and the parameters, flat."""
    shapes = {name: p.shape for name, p in model.named_parameters()}
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(vector):
        parts = vector.split([s.numel() for s in shapes.values()])
        named = {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        outputs = functional_call(model, named, (inputs,))
        return (outputs - targets).square().sum() / (2 * len(inputs))

    return torch.func.hessian(loss)(flat), flat


def test_converges_to_the_hessians_value_within_its_standard_error():
    model, inputs, targets = case()
    H, w = hessian(model, inputs, targets)
    exact = (w.square() * H.diag()).sum().item() / 2
    found = average_case_sharpness_sampled(
        model, inputs, targets, rho=1e-3, pairs=2000, seed=0, chunk=3
    ).for_these_samples
    assert found.standard_error < 0.1 * abs(exact)
    assert abs(found.value - exact) < 3 * found.standard_error


def test_at_interpolation_the_leading_term_is_the_hessians():
    model, inputs, _ = case()
    with torch.no_grad():
        targets = model(inputs)
    H, w = hessian(model, inputs, targets)
    found = measure(model, inputs, targets, rho=1e-3, pairs=1000)
    assert found["average_case_sharpness"].value == pytest.approx(
        (w.square() * H.diag()).sum().item() / 2, rel=1e-9
    )
    assert found["sharpness"].value == pytest.approx(H.trace().item(), rel=1e-9)
    sampled = average_case_sharpness_sampled(
        model, inputs, targets, rho=1e-3, pairs=1000, seed=0, chunk=5
    )
    difference = abs(sampled.for_these_samples.value - found["average_case_sharpness"].value)
    assert difference < 3 * sampled.for_these_samples.standard_error
    assert found["average_case_sharpness_sampled"] == sampled.estimate


def test_the_standard_error_covers_samples_and_perturbations():
    model, inputs, targets = case()
    drawn = average_case_sharpness_sampled(
        model, inputs, targets, rho=0.1, pairs=20, seed=0, chunk=5
    )
    by_sample = drawn.by_sample.std() / math.sqrt(5)
    expected = math.hypot(by_sample, drawn.for_these_samples.standard_error)
    assert drawn.estimate.standard_error == pytest.approx(expected)
    assert drawn.estimate.value == pytest.approx(drawn.for_these_samples.value)


def test_the_seed_decides_the_perturbations_and_nothing_else_does():
    model, inputs, targets = case()

    def draw(seed):
        return average_case_sharpness_sampled(
            model, inputs, targets, rho=0.1, pairs=3, seed=seed, chunk=2
        ).estimate.value

    first = draw(1)
    torch.rand(3)
    assert draw(1) == first
    assert draw(2) != first


def test_relative_flatness_is_the_hessians_value():
    model, inputs, targets = case()
    H, w = hessian(model, inputs, targets)
    last = slice(3 * 4 + 4, 3 * 4 + 4 + 2 * 4)
    W, block = w[last].reshape(2, 4), H[last, last].reshape(2, 4, 2, 4)
    expected = sum(
        (W[s] @ W[t]) * block[s, :, t].diagonal().sum() for s in range(2) for t in range(2)
    )
    found = measure(model, inputs)["relative_flatness"].value
    assert found == pytest.approx(expected.item(), rel=1e-10)
