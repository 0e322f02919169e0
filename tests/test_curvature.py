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
    assert abs(found.value - sharpness) < 3 * found.standard_error
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
    with pytest.raises(UserError, match="an even number of products.*fewer than the 26 parameters"):
        hessian_trace(model, inputs, targets, products=30)
    with pytest.raises(UserError, match="one-hot rows"):
        top_eigenvalue(model, inputs, targets[:, 0])


def test_a_hessian_of_too_low_a_rank_is_reported():
    model, inputs, targets = case()
    with torch.no_grad():
        for parameter in model[2].parameters():
            parameter.zero_()
    with pytest.raises(NumericalError, match="rank below 12; ask for fewer products"):
        hessian_trace(model, inputs[:1], targets[:1] * 0, products=24)
