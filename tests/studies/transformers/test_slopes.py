"""MLS against the singular values of the explicit Jacobian, in float64 on tiny transformers."""

import pytest
import torch
from torch import nn

from flatness.studies.transformers.config import Adam, PowerIteration
from flatness.studies.transformers.models import build
from flatness.studies.transformers.slopes import adam_slopes, jacobian_norms
from studies.transformers.tiny_transformers import LEVIT, TINY_VIT, VIT

TIGHT = PowerIteration(tolerance=1e-8, limit=4000)


def squashed(model, seed=0):
    module = build(model, 4, seed).double().eval().requires_grad_(False)
    return lambda x: module(x).sigmoid()


def images_for(model, count=2):
    generator = torch.Generator().manual_seed(1)
    size = model.image_size
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator)


def explicit_jacobians(function, images):
    """(n, N, C·H·W), one image at a time."""
    return torch.stack(
        [torch.autograd.functional.jacobian(function, x[None]).reshape(4, -1) for x in images]
    )


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_power_iteration_equals_the_svd(model):
    function, images = squashed(model), images_for(model)
    found = jacobian_norms(function, images, TIGHT, seed=0, chunk=2)
    exact = torch.linalg.matrix_norm(explicit_jacobians(function, images), 2)
    torch.testing.assert_close(found.values, exact, rtol=1e-8, atol=0)
    assert (found.residuals <= TIGHT.tolerance).all()


def test_a_loose_tolerance_keeps_its_promise():
    function, images = squashed(VIT), images_for(VIT, 4)
    settings = PowerIteration(tolerance=0.05, limit=4000)
    found = jacobian_norms(function, images, settings, seed=0, chunk=4)
    jacobians = explicit_jacobians(function, images)
    eigenvalues = torch.linalg.matrix_norm(jacobians, 2) ** 2
    assert (found.residuals <= 0.05).all()
    assert ((found.values**2 - eigenvalues).abs() <= found.residuals * found.values**2).all()


def test_the_chunk_changes_nothing():
    function, images = squashed(VIT), images_for(VIT, 5)
    one, all_ = (jacobian_norms(function, images, TIGHT, seed=0, chunk=c) for c in (1, 5))
    torch.testing.assert_close(one.values, all_.values, rtol=1e-9, atol=0)
    adam = Adam(steps=7, learning_rate=0.1, start=0.1)
    one, all_ = (adam_slopes(function, images, adam, seed=0, chunk=c) for c in (1, 5))
    torch.testing.assert_close(one, all_, rtol=1e-9, atol=0)


def test_the_limit_ends_it_and_the_residual_says_so():
    # Two singular values 1 % apart: eight steps cannot tell them apart.
    scale = torch.linspace(1.01, 0.5, 12, dtype=torch.float64)
    settings = PowerIteration(tolerance=1e-10, limit=8)
    images = torch.ones(2, 3, 2, 2, dtype=torch.float64)
    found = jacobian_norms(lambda x: x.flatten(1) * scale, images, settings, seed=0, chunk=2)
    assert (found.iterations == 8).all()
    assert (found.residuals > 1e-10).all()
    assert found.values.isnan().all()


def test_a_constant_function_has_slope_zero():
    images = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    found = jacobian_norms(lambda x: x.flatten(1)[:, :2] * 0, images, TIGHT, seed=0, chunk=2)
    assert found.values.tolist() == [0, 0]
    assert found.residuals.tolist() == [0, 0]


def test_released_ascent_equals_its_literal_definition():
    function, images = squashed(LEVIT), images_for(LEVIT, 2)
    settings = Adam(steps=6, learning_rate=0.1, start=0.1)
    found = adam_slopes(function, images, settings, seed=3, chunk=2)
    noise = torch.randn(
        images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    for image, start, slope in zip(images, noise, found, strict=True):
        delta = (0.1 * start[None]).requires_grad_()
        optimizer = torch.optim.Adam([delta], lr=0.1)
        for _ in range(6):
            change = function(image[None]) - function(image[None] + delta)
            loss = -change.norm() / delta.norm()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert slope.item() == pytest.approx(-loss.item(), rel=1e-9)


def test_the_released_slope_approaches_the_definition_as_its_step_shrinks():
    function, images = squashed(VIT), images_for(VIT)
    exact = jacobian_norms(function, images, TIGHT, seed=0, chunk=2).values
    gaps = []
    for size in (1.0, 1e-2, 1e-4):
        settings = Adam(steps=300, learning_rate=0.05 * size, start=size)
        slopes = adam_slopes(function, images, settings, seed=0, chunk=2)
        gaps.append(slopes / exact - 1)
    assert gaps[0].min() < -0.01 < 0.01 < gaps[0].max()  # a finite step errs on either side
    assert gaps[1].abs().max() < 0.01
    assert gaps[2].abs().max() < 1e-4


class Stem(nn.Module):
    """Convolution and batch norm, then tokens (n, places, channels), as hybrid models begin."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.mix, self.again, self.head = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 5)
        self.norm.running_var.uniform_(0.5, 2), self.norm.weight.data.normal_()

    def forward(self, x):
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        mixed = self.again(self.mix(tokens).flatten(0, 1)).view_as(tokens)
        return self.head(torch.tanh(tokens + mixed).square().mean(1))


@pytest.mark.parametrize("chunk", [1, 2, 4, 5])
def test_an_image_left_alone_has_its_own_slope(chunk):
    torch.manual_seed(0)
    net = Stem().double().eval().requires_grad_(False)
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    leaf = images.clone().requires_grad_()
    rows = [torch.autograd.grad(o.sum(), leaf, retain_graph=True)[0] for o in net(leaf).unbind(1)]
    right = torch.linalg.matrix_norm(torch.stack(rows, 1).flatten(2), 2)
    found = jacobian_norms(net, images, TIGHT, seed=0, chunk=chunk)
    torch.testing.assert_close(found.values, right, rtol=1e-8, atol=0)
    adam = Adam(steps=300, learning_rate=0.05e-4, start=1e-4)
    slopes = adam_slopes(net, images, adam, seed=0, chunk=chunk)
    torch.testing.assert_close(slopes, right, rtol=1e-3, atol=0)
