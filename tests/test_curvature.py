"""The Hessian's trace and top eigenvalue against an explicit Hessian."""

import pytest
import torch

from flatness.curvature import hessian_trace, top_eigenvalue
from flatness.errors import NumericalError, UserError
from flatness.measures import measure
from test_average_case import case, hessian


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


def test_chunks_of_samples_do_not_matter(monkeypatch):
    model, inputs, targets = case()
    whole = hessian_trace(model, inputs, targets, products=10).value
    monkeypatch.setattr("flatness.curvature.CHUNK", 2)
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
