"""Gradients that are wrong, or that rounding leaves wrong, end in no number or in the right one."""

import pytest
import torch
from torch import nn

from flatness.errors import NumericalError, UserError
from flatness.measures.measure import measure


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Wrong(torch.autograd.Function):
    """The identity; its backward pass is 0.1 % off where `wrong_in` says so of the gradient."""

    @staticmethod
    def forward(x, wrong_in):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.wrong_in = inputs[1]

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1.001 if ctx.wrong_in(gradient) else 1), None


class WrongBackward(Wrong):
    """The same, with a forward derivative, which is right."""

    @staticmethod
    def jvp(ctx, tangent, _):
        return tangent.clone()


class Bent(nn.Module):
    def __init__(self, kind, wrong_in=lambda gradient: True):
        super().__init__()
        self.kind, self.wrong_in = kind, wrong_in

    def forward(self, x):
        return self.kind.apply(x, self.wrong_in)


def small(*middle):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Tanh(), *middle, nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("count", [1, 2, 20])
def test_a_wrong_backward_pass_is_refused(count):
    with pytest.raises(NumericalError, match=r"gradient by the inputs \(behind layer 0\)"):
        measure(small(Bent(WrongBackward)), rand(count, 3, 6, 6))


class Apart(nn.Module):
    """A parameter outside of layers; its own gradient alone is wrong."""

    def __init__(self):
        super().__init__()
        self.scale, self.bend = nn.Parameter(torch.ones(4, 1, 1)), Bent(WrongBackward)

    def forward(self, x):
        return x * self.bend(self.scale)


def test_a_wrong_gradient_of_one_parameter_is_named():
    with pytest.raises(NumericalError, match=r"gradient by parameter 2\.scale"):
        measure(small(Apart()), rand(5, 3, 6, 6))


def test_a_layer_whose_output_a_hook_changes_is_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    model[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    with pytest.raises(UserError, match="layer 0"):
        measure(model, rand(5, 4))


def lies_channels_last(gradient):
    return gradient.dim() == 4 and gradient.stride(1) == 1


def test_a_layout_that_is_wrong_gives_way_to_plain_layout():
    bent = small(Bent(WrongBackward, lies_channels_last), nn.Conv2d(4, 4, 1))
    right = small(nn.Identity(), nn.Conv2d(4, 4, 1))
    right.load_state_dict(bent.state_dict())
    inputs = rand(5, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    found, exact = measure(bent, inputs), measure(right, inputs)
    for name in ("sharpness", "average_case_sharpness", "mls", "nmls"):
        assert found[name].value == pytest.approx(exact[name].value, rel=1e-9), name


class Square(torch.autograd.Function):
    """Has no forward derivative, and a right backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


class Squaring(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operation_without_a_forward_derivative_is_measured(dtype):
    inputs = rand(5, 3, 6, 6).to(dtype)
    found, right = (
        measure(small(Squaring(function)).to(dtype), inputs)
        for function in (Square.apply, torch.square)
    )
    assert found["sharpness"].value == pytest.approx(right["sharpness"].value, rel=1e-5)


class FarOff(Wrong):
    """No forward derivative; the backward pass is 10 % off."""

    @staticmethod
    def backward(ctx, gradient):
        return 1.1 * gradient, None


def test_an_operation_that_is_wrong_and_has_no_forward_derivative_is_refused():
    with pytest.raises(NumericalError, match="gradient by the inputs"):
        measure(small(Bent(FarOff)), rand(5, 3, 6, 6))


def test_squares_that_overflow_float32_are_summed_in_float64():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3))
    with torch.no_grad():
        net[3].weight *= 1e19
    inputs = torch.randn(5, 4)
    found, right = measure(net, inputs), measure(net.double(), inputs.double())
    assert right["sharpness"].value > 1e38
    for name in ("sharpness", "average_case_sharpness", "mls"):
        assert found[name].value == pytest.approx(right[name].value, rel=1e-5), name


def test_squares_that_vanish_in_float32_are_summed_in_float64():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False))
    inputs = 1e-21 * torch.randn(5, 4)
    found, right = measure(net, inputs), measure(net.double(), inputs.double())
    assert right["sharpness"].value < 1e-37
    for name in ("sharpness", "average_case_sharpness", "mls", "input_invariant_mls"):
        assert found[name].value == pytest.approx(right[name].value, rel=1e-5, abs=0), name


def test_squares_that_overflow_float64_are_refused():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        net[2].weight *= 1e160
    with pytest.raises(NumericalError, match=r"overflows torch\.float64"):
        measure(net, rand(5, 4))


def test_rounding_in_float32_is_no_reason_to_refuse_a_network():
    for seed in range(60):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding="same", dilation=2), nn.GroupNorm(16, 16),
            nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
        inputs = torch.randn(2, 1, 8, 8)
        found = measure(net, inputs, quantities=["sharpness"])["sharpness"].value
        right = measure(net.double(), inputs.double(), quantities=["sharpness"])
        assert found == pytest.approx(right["sharpness"].value, rel=1e-2)
