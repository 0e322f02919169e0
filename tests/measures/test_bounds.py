"""The theorems on random networks, and the heuristic where it fails."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from flatness.measures.measure import measure

ROUNDING = 1e-9
THEOREMS = [
    ("mls", "bound_b"),
    ("bound_b", "bound_c"),
    ("bound_c", "bound_d"),
    ("mls", "bound_b_bias"),
    ("bound_b_bias", "bound_c_bias"),
    ("bound_c_bias", "bound_d_bias"),
    ("bound_d_bias", "bound_d"),
    ("nmls", "nmls_bound_bias"),
    ("nmls_bound_bias", "nmls_bound"),
    ("log_lvr", "log_lvr_bound_jacobian"),
    ("log_lvr_bound_jacobian", "log_lvr_bound_bias"),
    ("log_lvr_bound_bias", "log_lvr_bound"),
    ("log_nvr", "log_nvr_bound_bias"),
    ("log_nvr_bound_bias", "log_nvr_bound"),
]
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.ELU, nn.Identity]


def assert_theorems(found):
    for smaller, larger in THEOREMS:
        low, high = found[smaller].value, found[larger].value
        assert not math.isnan(low) and not math.isnan(high), (smaller, larger)
        slack = ROUNDING * (1.0 if smaller.startswith("log_") else abs(high))
        assert low <= high + slack, (smaller, larger, low, high)


def randomise(model, inputs, seed, scale):
    """Gaussian parameters, biases included, times `scale`; Gaussian inputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(scale * noise)
    return torch.randn(*inputs, generator=generator, dtype=torch.float64)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    activation=st.sampled_from(ACTIVATIONS),
    biases=st.lists(st.booleans(), min_size=4, max_size=4),
    samples=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    weight_scale=st.floats(0.01, 10),
    input_scale=st.floats(0.001, 100),
)
def test_every_inequality_holds_for_dense_networks(
    widths, activation, biases, samples, seed, weight_scale, input_scale
):
    layers = []
    for index, (inside, outside) in enumerate(pairwise(widths)):
        layers += [nn.Linear(inside, outside, bias=biases[index]), activation()]
    model = nn.Sequential(*layers[:-1]).double()
    inputs = input_scale * randomise(model, (samples, widths[0]), seed, weight_scale)
    assert_theorems(measure(model, inputs))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 3),
    kernel=st.integers(2, 3),
    outputs=st.integers(1, 3),
    padding=st.integers(0, 1),
    samples=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    bias=st.booleans(),
)
def test_every_inequality_holds_for_convolutions_with_few_positions(
    channels, kernel, outputs, padding, samples, seed, bias
):
    positions = ((4 + 2 * padding - kernel) // 2 + 1) ** 2
    assume(positions <= channels * kernel**2)
    model = nn.Sequential(
        nn.Conv2d(channels, 2, kernel, stride=2, padding=padding, bias=bias),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(outputs),
    ).double()
    model(torch.zeros(1, channels, 4, 4, dtype=torch.float64))
    inputs = randomise(model, (samples, channels, 4, 4), seed, 1.0)
    assert_theorems(measure(model, inputs))


def test_the_first_bound_is_tight_for_one_output():
    model = nn.Sequential(nn.Linear(5, 1)).double()
    found = measure(model, torch.rand(4, 5, dtype=torch.float64))
    for name in ("bound_b", "bound_b_bias"):
        assert found[name].value == pytest.approx(found["mls"].value, rel=1e-12)
    assert found["log_lvr"].value == pytest.approx(found["log_lvr_bound_jacobian"].value, abs=1e-12)


def cancelling_network():
    """f = 10 (y₁ + y₂), y = x by a 1×1 kernel: at x = (100, −100) its gradient cancels, J does not.

    J = (10, 10); the kernel's gradient is 10·100 − 10·100 = 0, the bias's 20; the linear layer's
    (100, −100) and 1. So S = 0 + 20² + 20000 + 1.
    """
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (1.0, 0.0, 10.0, 0.0), strict=True):
            parameter.fill_(value)
    return model, torch.tensor([[[[100.0, -100.0]]]], dtype=torch.float64)


def test_the_released_heuristic_fails_where_a_kernels_gradient_cancels():
    found = measure(*cancelling_network())
    assert found["mls"].value == pytest.approx(math.sqrt(200), rel=1e-12)
    assert found["sharpness"].value == pytest.approx(20401, rel=1e-12)
    assert found["bound_b_released"].value == pytest.approx(0, abs=1e-9)
    scale = math.sqrt(2) / math.sqrt(20000 + 1e-4)  # ||K||_F sqrt(P) / sqrt(||x||² + eps)
    assert found["bound_d_released"].value == pytest.approx(scale * math.sqrt(20401), rel=1e-12)
    assert found["bound_d_released"].value < found["mls"].value / 9


def test_the_released_bounds_take_frobenius_norms_in_all_layers_of_a_convolutional_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    inputs = torch.rand(4, 1, 3, 3, dtype=torch.float64)
    found = measure(model, inputs)
    kernel, weights = (model[index].weight.norm() ** 2 for index in (0, 3))
    hidden = model[:3](inputs).square().sum(1)
    ratios = 4 * kernel / (inputs.square().sum((1, 2, 3)) + 1e-4) + weights / hidden
    expected = (ratios.mean() * found["sharpness"].value).sqrt().item()
    assert found["nmls_bound_released"].value == pytest.approx(expected, rel=1e-12)


def test_without_convolutions_the_released_bounds_are_the_published_ones():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    found = measure(model, torch.rand(4, 4, dtype=torch.float64))
    for name in ("bound_d", "nmls_bound", "log_nvr_bound"):
        assert found[f"{name}_released"].value == found[name].value


def test_where_the_heuristic_fails_ours_is_not_defined_or_holds():
    found = measure(*cancelling_network())
    assert math.isnan(found["bound_b"].value)  # two positions, one row of patches
    # with the row of ones σ(U) = (sqrt(20000), sqrt(2)), and the bound is the value itself
    assert found["bound_b_bias"].value == pytest.approx(found["mls"].value, rel=1e-10)
    assert found["bound_d_bias"].value > found["mls"].value


def test_a_preprocessed_input_has_no_bound_by_the_first_layer():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(2 * x)

    found = measure(Scaled().double(), torch.rand(4, 3, dtype=torch.float64))
    assert math.isnan(found["bound_d"].value)
    assert found["nmls"].value <= found["nmls_bound_bias"].value
    assert any("x is not the first layer's input" in flag for flag in found.flags)
