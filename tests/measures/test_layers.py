"""Operator norms against explicit matrices, by both ways of finding an eigenvalue."""

import pytest
import torch
from torch import nn

from flatness.measures._layers import DENSE_SIZE, operator_norm
from flatness.measures._network import take_apart
from measures.measures_oracle import matrix_of

CASES = {
    "wide linear": (nn.Linear(30, 20), (30,)),
    "tall linear": (nn.Linear(20, 30), (20,)),
    "large linear": (nn.Linear(150, 170), (150,)),
    "small convolution": (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 5)),
    "large convolution": (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 10, 10)),
    "reflecting convolution": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 9, 9)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_operator_norm_is_that_of_the_explicit_matrix(name, dtype, tolerance):
    module, shape = CASES[name]
    expected = torch.linalg.matrix_norm(matrix_of(module.double(), shape), 2).item()
    model = nn.Sequential(module.to(dtype))
    (layer,) = take_apart(model, torch.zeros(1, *shape, dtype=dtype)).layers
    assert operator_norm(layer) == pytest.approx(expected, rel=tolerance)


def test_both_ways_of_finding_an_eigenvalue_are_tried():
    sizes = [torch.Size(shape).numel() for _, shape in CASES.values()]
    assert min(sizes) <= DENSE_SIZE < max(sizes)


def test_a_kernel_of_zeros_has_norm_zero():
    module = nn.Linear(3, 2)
    nn.init.zeros_(module.weight)
    (layer,) = take_apart(nn.Sequential(module), torch.zeros(1, 3)).layers
    assert operator_norm(layer) == 0


def test_tiny_kernels_do_not_underflow():
    module = nn.Linear(200, 300)
    expected = torch.linalg.matrix_norm(module.weight.double(), 2).item()
    with torch.no_grad():
        module.weight *= 1e-30
    (layer,) = take_apart(nn.Sequential(module), torch.zeros(1, 200)).layers
    assert operator_norm(layer) == pytest.approx(1e-30 * expected, rel=1e-5)
