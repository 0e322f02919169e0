"""The Hessian's trace and top eigenvalue against an explicit Hessian."""

import pytest
import torch

from flatness.errors import NumericalError, UserError
from flatness.measures.hessian import hessian as hessian_of
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


def test_one_object_gives_trace_and_top_eigenvalue_of_the_loss_it_names():
    model, inputs, targets = case()
    H = hessian(model, inputs, targets)[0]
    found = hessian_of(model, inputs, targets, seed=1)
    trace = found.trace(estimates=40, products=10)
    assert abs(trace.value - torch.trace(H).item()) < 3 * trace.standard_error
    assert trace == hessian_trace(model, inputs, targets, estimates=40, products=10, seed=1)
    largest = torch.linalg.eigvalsh(H)[-1].item()
    assert found.top_eigenvalue(tolerance=1e-8) == pytest.approx(largest, rel=1e-6)
    assert "1/(2n) Σ" in found.convention


def test_chunks_of_samples_do_not_matter(monkeypatch):
    model, inputs, targets = case()
    whole = hessian_trace(model, inputs, targets, products=10).value
    monkeypatch.setattr("flatness.measures.hessian.CHUNK", 2)
    assert hessian_trace(model, inputs, targets, products=10).value == pytest.approx(
        whole, rel=1e-9
    )


def test_the_global_generator_is_left_as_it_was():
    model, inputs, targets = case()
    before = torch.get_rng_state()
    first = hessian_trace(model, inputs, targets, products=10, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert hessian_trace(model, inputs, targets, products=10, seed=3) == first


def test_wrong_arguments_are_refused():
    model, inputs, targets = case()
    with pytest.raises(UserError, match="at least 2 estimates"):
        hessian_trace(model, inputs, targets, estimates=1)
    with pytest.raises(UserError, match=r"an even number of .*fewer than the 26 param"):
        hessian_trace(model, inputs, targets, products=30)
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
    with pytest.raises(UserError, match="the outputs depend on no parameter"):
        top_eigenvalue(model, inputs, targets)


@pytest.mark.parametrize("module", [torch.nn.Dropout(), torch.nn.BatchNorm1d(2)])
def test_training_mode_is_refused_and_running_statistics_stay(module):
    model, inputs, targets = case()
    model = torch.nn.Sequential(model, module).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"call model\.eval\(\) first"):
        hessian_trace(model, inputs, targets, products=10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    hessian_trace(model.eval(), inputs, targets, products=10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


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


def test_a_number_a_sample_is_the_same_as_a_column():
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


def test_a_hessian_of_zero_is_reported():
    model = torch.nn.Linear(3, 2, bias=False).double()
    zero = torch.zeros(4, 3, dtype=torch.float64)
    with pytest.raises(NumericalError, match="rank below 2; ask for fewer products"):
        hessian_trace(model, zero, zero[:, :2], products=4)
