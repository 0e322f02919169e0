"""This library against the conformance suite: every number of every model has a closed form."""

import json
import re

import pytest
import torch
from torch import nn

import flatness
from checkout import ROOT
from flatness.measures.losses import LOSSES

CASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests/data/conformance").glob("*.json"))
}
PAGE = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")


def module(layer):
    if layer["type"] == "relu":
        return nn.ReLU()
    weight = torch.tensor(layer["weight"], dtype=torch.float64)
    linear = nn.Linear(weight.shape[1], weight.shape[0], layer["bias"] is not None).double()
    with torch.no_grad():
        linear.weight.copy_(weight)
        if layer["bias"] is not None:
            linear.bias.copy_(torch.tensor(layer["bias"]))
    return linear


def parts(case):
    model = nn.Sequential(*map(module, case["layers"]))
    kind = torch.int64 if case["loss"] == "cross_entropy" else torch.float64
    inputs = torch.tensor(case["inputs"], dtype=torch.float64)
    return model, inputs, torch.tensor(case["targets"], dtype=kind), case["loss"]


def measured(name):
    def of(model, inputs, _targets, _loss, **_settings):
        return flatness.measure(model, inputs, quantities=[name])[name].value

    return of


def eigenvalues(matrix):
    def of(model, inputs, targets, loss):
        size = sum(p.numel() for p in model.parameters())
        H = flatness.hessian(model, inputs, targets, loss=loss, matrix=matrix)
        return H.eigenvalues(size, tolerance=1e-12).values.tolist()

    return of


def trace(model, inputs, targets, loss):
    return flatness.hessian(model, inputs, targets, loss=loss).trace().value


def mean_square(model, inputs, targets, loss):
    found = flatness.hessian(model, inputs, targets, loss=loss).spectral_density()
    return float((found.weights * found.nodes.square()).sum(1).mean())


def worst_case(model, inputs, targets, loss, **settings):
    rise = flatness.worst_case_sharpness(
        model,
        inputs,
        targets,
        loss=LOSSES[loss].function,
        restarts=1,
        steps=20,
        corners=7,  # there are several maxima
        **settings,
    )
    return rise.value


def loss_value(model, inputs, targets, loss):
    return LOSSES[loss].function(model(inputs), targets).item()


OURS = {
    **{
        name: measured(name)
        for name in (
            "sharpness",
            "mls",
            "nmls",
            "jacobian_norm_squared",
            "local_dimensionality",
            "log_lvr",
        )
    },
    "loss": loss_value,
    "hessian_trace": trace,
    "hessian_eigenvalues": eigenvalues("hessian"),
    "gauss_newton_eigenvalues": eigenvalues("gauss_newton"),
    "spectral_mean_square": mean_square,
    "worst_case": worst_case,
    "worst_case_absolute": worst_case,
    "worst_case_l2": worst_case,
}
NUMBERS = [(name, quantity) for name, case in CASES.items() for quantity in case["expected"]]
#: Ascents end near the maximum, all else is exact but for rounding.
TOLERANCE = {"worst_case_l2": 1e-5}


@pytest.mark.parametrize(("name", "quantity"), NUMBERS)
def test_each_number_is_that_of_its_closed_form(name, quantity):
    case = CASES[name]
    expected = case["expected"][quantity]
    found = OURS[quantity](*parts(case), **expected.get("settings", {}))
    rel = TOLERANCE.get(quantity, 1e-8)
    assert found == pytest.approx(expected["value"], rel=rel, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_certified_bracket_holds_the_closed_form(name, adaptive):
    quantity = "worst_case" if adaptive else "worst_case_absolute"
    case = CASES[name]
    if quantity not in case["expected"]:
        return
    model, inputs, targets, loss = parts(case)
    exact = case["expected"][quantity]["value"]
    found = flatness.certified_sharpness(
        model, inputs, targets, loss=loss, rho=0.1, adaptive=adaptive, corners=8
    )
    assert found.lower == pytest.approx(exact, rel=1e-9)
    assert found.upper >= exact * (1 - 1e-9)


def test_a_library_in_another_convention_does_not_pass():
    case = CASES["linear"]
    model, inputs, targets, _ = parts(case)
    found = eigenvalues("hessian")(model, inputs, targets, "cross_entropy")
    halved = eigenvalues("hessian")(model, inputs, targets, "mse")
    assert found != pytest.approx(case["expected"]["hessian_eigenvalues"]["value"], rel=0.1)
    assert halved == pytest.approx(case["expected"]["hessian_eigenvalues"]["value"])  # 2/N = 1
    one_output = CASES["quadratic"]
    doubled = eigenvalues("hessian")(*parts(one_output)[:3], "mse")
    assert doubled != pytest.approx(one_output["expected"]["hessian_eigenvalues"]["value"], rel=0.1)


def test_the_specification_names_every_quantity_and_every_model():
    assert {quantity for _, quantity in NUMBERS} == set(OURS)
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == set(OURS) | set(CASES)


def test_every_file_has_the_form_that_the_specification_gives():
    for case in CASES.values():
        assert list(case) == ["about", "loss", "layers", "inputs", "targets", "expected"]
        assert case["loss"] in LOSSES and len(case["inputs"]) == len(case["targets"])
        for number in case["expected"].values():
            assert set(number) - {"settings"} == {"value", "because"} and number["because"]
