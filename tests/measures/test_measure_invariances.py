"""What leaves a measure as it is, and what changes it, and by how much."""

import copy
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from flatness.measures.measure import measure


def relu_network(seed, outputs=3):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, outputs)
    ).double()
    return model, torch.randn(4, 5, dtype=torch.float64)


def assert_same(one, other, names):
    for name in names:
        assert other[name].value == pytest.approx(one[name].value, rel=1e-9, abs=1e-9), name


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_an_orthogonal_change_of_the_inputs_basis_leaves_the_compression(seed):
    model, inputs = relu_network(seed)
    assume(measure(model, inputs).samples.mls.min() > 0)
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    turned = copy.deepcopy(model)
    with torch.no_grad():
        turned[0].weight.copy_(model[0].weight @ Q.T)
    names = ("mls", "log_lvr", "log_volume_top3", "local_dimensionality", "normalized_mls", "nmls")
    assert_same(measure(model, inputs), measure(turned, inputs @ Q.T), names)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10).filter(lambda f: abs(f - 1) > 0.1))
def test_rescaling_a_relu_pair_changes_sharpness_only(seed, factor):
    model, inputs = relu_network(seed)
    rescaled = copy.deepcopy(model)
    with torch.no_grad():
        rescaled[0].weight *= factor
        rescaled[0].bias *= factor
        rescaled[2].weight /= factor
    before, after = measure(model, inputs), measure(rescaled, inputs)
    assert_same(before, after, ("average_case_sharpness", "relative_flatness", "mls"))
    assert abs(after["sharpness"].value / before["sharpness"].value - 1) > 1e-3


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 100))
def test_scaling_the_output(seed, factor):
    model, inputs = relu_network(seed)
    assume(measure(model, inputs).samples.mls.min() > 0)  # no sample with all units off

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return factor * self.inner(x)

    before, after = measure(model, inputs), measure(Scaled(), inputs)
    for name, power in {"sharpness": 2, "mls": 1, "nmls": 1, "jacobian_norm_squared": 2}.items():
        expected = factor**power * before[name].value
        assert after[name].value == pytest.approx(expected, rel=1e-9), name
    shift = 3 * math.log(factor)
    assert after["log_lvr"].value == pytest.approx(before["log_lvr"].value + shift, abs=1e-9)
    assert_same(before, after, ("local_dimensionality", "rank"))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), outputs=st.integers(1, 6))
def test_local_dimensionality_lies_between_one_and_the_outputs(seed, outputs):
    found = measure(*relu_network(seed, outputs))
    assume(found.samples.mls.min() > 0)
    assert 1 - 1e-12 <= found["local_dimensionality"].value <= min(outputs, 5) + 1e-12


def test_standard_errors_are_those_of_measuring_again_without_each_sample():
    model, inputs = relu_network(0)
    found = measure(model, inputs)
    without = [measure(model, torch.cat([inputs[:i], inputs[i + 1 :]])) for i in range(len(inputs))]
    n = len(inputs)
    for name in found:
        values = torch.tensor([part[name].value for part in without], dtype=torch.float64)
        error = math.sqrt((n - 1) / n * (values - values.mean()).square().sum())
        assert found[name].standard_error == pytest.approx(error, rel=1e-7, abs=1e-12), name
