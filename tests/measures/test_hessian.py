"""The Hessian's trace and top eigenvalue against an explicit Hessian."""

import pytest
import torch
from torch import nn

from flatness.errors import NumericalError, UserError
from flatness.measures.hessian import hessian_trace, top_eigenvalue
from flatness.measures.measure import measure
from measures.test_average_case import case, hessian


def test_trace_converges_within_its_standard_error():
    model, inputs, targets = case()
    exact = torch.trace(hessian(model, inputs, targets)[0]).item()
    found = hessian_trace(model, inputs, targets, estimates=40, products=10)
    assert 0 < found.standard_error < 0.1 * exact
    assert abs(found.value - exact) < 3 * found.standard_error


def test_more_products_give_a_smaller_error():
    model, inputs, targets = case()
    errors = [
        hessian_trace(model, inputs, targets, estimates=20, products=k).standard_error
        for k in (4, 24)
    ]
    assert errors[1] < errors[0] / 2


def test_trace_is_the_sharpness_at_interpolation_and_not_away_from_it():
    model, inputs, targets = case()
    sharpness = measure(model, inputs)["sharpness"].value
    with torch.no_grad():
        fitted = model(inputs)
    found = hessian_trace(model, inputs, fitted, estimates=30, products=24)
    assert found.value == pytest.approx(sharpness, rel=1e-6)  # rank 10: nothing left to sample
    exact = torch.trace(hessian(model, inputs, -50 * targets)[0]).item()
    away = hessian_trace(model, inputs, -50 * targets, estimates=40, products=24)
    assert abs(away.value - exact) < 3 * away.standard_error
    assert abs(away.value - sharpness) > 3 * away.standard_error


def test_top_eigenvalue_is_the_largest_not_the_largest_in_size():
    model, inputs, targets = case()
    H = hessian(model, inputs, -30 * targets)[0]
    values = torch.linalg.eigvalsh(H)
    assert -values[0] > values[-1] > 0  # strong negative curvature, away from interpolation
    found = top_eigenvalue(model, inputs, -30 * targets, tolerance=1e-8)
    assert found == pytest.approx(values[-1].item(), rel=1e-6)


def test_wrong_arguments_are_refused():
    model, inputs, targets = case()
    with pytest.raises(UserError, match="estimates is 1; it must be a whole number, at least 2"):
        hessian_trace(model, inputs, targets, estimates=1)
    with pytest.raises(UserError, match="products is 9; it must be an even number"):
        hessian_trace(model, inputs, targets, products=9)
    with pytest.raises(UserError, match="one-hot rows"):
        top_eigenvalue(model, inputs, targets[:, 0])


def found_both(model, inputs, targets):
    trace = hessian_trace(model, inputs, targets, products=10)
    return trace.value, top_eigenvalue(model, inputs, targets, tolerance=1e-8)


class Unused(torch.nn.Module):
    """A model with a layer that forward() does not call."""

    def __init__(self, used):
        super().__init__()
        self.first = torch.nn.Linear(3, 3).double()
        self.used = used

    def forward(self, inputs):
        return self.used(inputs)


def test_a_parameter_that_is_not_used_adds_nothing():
    model, inputs, targets = case()
    assert found_both(Unused(model), inputs, targets) == found_both(model, inputs, targets)


def test_a_model_that_uses_no_parameter_is_refused():
    _, inputs, targets = case()
    model = Unused(lambda x: x[:, :2])
    with pytest.raises(UserError, match="the loss depends on no parameter"):
        top_eigenvalue(model, inputs, targets)


def test_a_parameter_that_is_not_finite_is_named():
    model, inputs, targets = case()
    with torch.no_grad():
        model[2].bias[1] = torch.nan
    with pytest.raises(NumericalError, match=r"parameter 2\.bias is not finite"):
        top_eigenvalue(model, inputs, targets)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x.float(), y), UserError, "inputs are torch.float32, the parameters"),
        (lambda x, y: (x, y.float()), UserError, "targets are torch.float32, the parameters"),
        (lambda x, y: (x / 0, y), NumericalError, "inputs are not finite"),
        (lambda x, y: (x, y / 0), NumericalError, "targets are not finite"),
        (lambda x, y: (x[:0], y[:0]), UserError, r"inputs: shape \(0, 3\); needs samples"),
        (lambda x, y: (x, y[:, 0]), UserError, r"shape \(5,\), the outputs' is \(5, 2\)"),
    ],
)
def test_inputs_and_targets_that_cannot_be_right_are_refused(change, error, message):
    model, inputs, targets = case()
    with pytest.raises(error, match=message) as caught:
        hessian_trace(model, *change(inputs, targets), products=10)
    assert caught.type is error and "\n" not in str(caught.value)


def test_one_number_per_sample_is_the_same_as_a_column():
    model, inputs, targets = case()
    column = torch.nn.Sequential(model, torch.nn.Linear(2, 1).double())
    flat = torch.nn.Sequential(column, torch.nn.Flatten(0))
    expected = found_both(column, inputs, targets[:, :1])
    for same in (targets[:, 0], targets[:, :1]):
        assert found_both(flat, inputs, same) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(UserError, match=r"shape \(5, 2\), the outputs' is \(5,\)"):
        top_eigenvalue(flat, inputs, targets)


def test_no_grad_around_it_does_not_matter():
    model, inputs, targets = case()
    expected = found_both(model, inputs, targets)
    with torch.no_grad():
        assert found_both(model, inputs, targets) == expected


def test_a_hessian_of_low_rank_is_found_exactly():
    model, inputs, _ = case()
    with torch.no_grad():
        fitted = model(inputs[:1])
    exact = torch.trace(hessian(model, inputs[:1], fitted)[0]).item()  # one sample: rank 2
    found = hessian_trace(model, inputs[:1], fitted, products=10)
    assert found.value == pytest.approx(exact, rel=1e-6)


def test_with_as_many_products_as_parameters_the_trace_is_exact():
    model, inputs, targets = case()
    exact = torch.trace(hessian(model, inputs, targets)[0]).item()
    found = hessian_trace(model, inputs, targets, products=26)
    assert (found.value, found.standard_error) == (pytest.approx(exact, rel=1e-12), 0)


@pytest.mark.parametrize("width", [3, 40])  # formed in full, and not
def test_a_hessian_of_zeros_has_trace_and_eigenvalue_zero(width):
    model = torch.nn.Linear(width, 2, bias=False).double()
    zero = torch.zeros(4, width, dtype=torch.float64)
    assert hessian_trace(model, zero, zero[:, :2], products=4).value == 0
    assert top_eigenvalue(model, zero, zero[:, :2]) == 0


def test_a_rank_below_the_products_vectors_is_no_obstacle():
    model = torch.nn.Linear(40, 1, bias=False).double()  # its Hessian is Σ x xᵀ / n
    inputs = torch.zeros(3, 40, dtype=torch.float64)
    inputs[0, 0], inputs[1, 1] = 1.0, 2.0
    found = hessian_trace(model, inputs, inputs[:, :1], products=30)
    assert found.value == pytest.approx(5 / 3, rel=1e-10)
    assert top_eigenvalue(model, inputs, inputs[:, :1]) == pytest.approx(4 / 3, rel=1e-4)


def explicit_hessian(net, inputs, targets):
    """By central differences of the gradient, which weight norm leaves right."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    point = torch.cat([p.detach().flatten() for p in parameters])

    def gradient(at):
        leaf = at.clone().requires_grad_()
        parts = leaf.split([p.numel() for p in parameters])
        state = {n: c.view_as(p) for n, c, p in zip(names, parts, parameters, strict=True)}
        outputs = torch.func.functional_call(net, state, (inputs,))
        loss = (outputs - targets).square().sum() / (2 * len(inputs))
        return torch.autograd.grad(loss, leaf)[0]

    steps = 1e-6 * torch.eye(len(point), dtype=point.dtype)
    found = torch.stack([(gradient(point + s) - gradient(point - s)) / 2e-6 for s in steps])
    return (found + found.T) / 2


@pytest.mark.parametrize(
    "weight_norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_weight_norm_has_the_hessian_of_its_differences(weight_norm):
    torch.manual_seed(0)
    net = nn.Sequential(weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, targets = torch.randn(12, 4).double(), torch.randn(12, 3).double()
    exact = explicit_hessian(net, inputs, targets)
    top = top_eigenvalue(net, inputs, targets, tolerance=1e-8)
    assert top == pytest.approx(float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-6)
    trace = hessian_trace(net, inputs, targets, estimates=20, products=30)
    assert trace.value == pytest.approx(float(exact.trace()), abs=4 * trace.standard_error)


class Crooked(torch.autograd.Function):
    """Doubles in the backward pass alone: its second derivative is no derivative of a function."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.cumsum(-1)


class CrookedLayer(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, Crooked.apply(self.weight), self.bias)


@pytest.mark.parametrize("of", [hessian_trace, top_eigenvalue])
def test_a_hessian_that_is_not_symmetric_is_refused_by_its_parameter(of):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), CrookedLayer(6, 3)).double()
    inputs, targets = torch.randn(12, 4).double(), torch.randn(12, 3).double()
    with pytest.raises(NumericalError, match=r"not symmetric.*parameter 2\.weight"):
        of(net, inputs, targets)


@pytest.mark.parametrize("count", [1, 4])
def test_few_images_behind_a_norm_have_the_hessian_of_their_differences(monkeypatch, count):
    monkeypatch.setattr("flatness.measures._batches.CHUNK", 3)  # 4 samples: two and two
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.InstanceNorm2d(3, affine=True), nn.Tanh(), nn.Conv2d(3, 2, 2),
        nn.Tanh(), nn.Flatten(), nn.Linear(8, 2),
    ).double().to(memory_format=torch.channels_last)  # fmt: skip
    inputs, targets = torch.randn(count, 2, 4, 4).double(), torch.randn(count, 2).double()
    exact = explicit_hessian(net, inputs.repeat(2, 1, 1, 1), targets.repeat(2, 1))
    found = top_eigenvalue(net, inputs, targets, tolerance=1e-9)
    assert found == pytest.approx(float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-5)
