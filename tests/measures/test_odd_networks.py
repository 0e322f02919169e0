"""Unusual networks: the right number or an error of one line, by every public call."""

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.errors import NumericalError, UserError
from flatness.measures.hessian import hessian_trace, top_eigenvalue
from flatness.measures.measure import measure
from flatness.measures.worst_case import plain_worst_case_sharpness, strong_worst_case_sharpness
from measures.odd_networks import (
    RANDOM,
    SOUND,
    Around,
    Checkpointed,
    ascent,
    hessian,
    network,
    sharpness,
    slope,
)

#: Wrong types are handed over on purpose.
pytestmark = pytest.mark.usefixtures("as_for_users")

HOW = {"rho": 0.05, "restarts": 2, "batch_size": 4, "seed": 1}
ASCENT = HOW | {"step_size": 0.05, "steps": 3}

#: every public call on a model, inputs and targets
CALLS: dict[str, Callable] = {
    "measure": measure,
    "trace": lambda m, x, y: hessian_trace(m, x, y, estimates=2, products=4),
    "eigenvalue": top_eigenvalue,
    "ascent": lambda m, x, y: plain_worst_case_sharpness(m, functional.mse_loss, (x, y), **ASCENT),
    "strong": lambda m, x, y: strong_worst_case_sharpness(m, functional.mse_loss, (x, y), **HOW),
}
BY_INPUTS = ("measure", "trace", "eigenvalue")


@pytest.mark.parametrize("name", SOUND)
def test_sharpness_is_that_of_the_definition(name):
    model, inputs, _ = network(name)
    found = measure(model, inputs)
    assert found["sharpness"].value == pytest.approx(sharpness(model, inputs), rel=1e-9)
    assert found["mls"].value == pytest.approx(slope(model, inputs), rel=1e-9)


@pytest.mark.parametrize("name", SOUND)
def test_the_hessians_numbers_are_those_of_the_definition(name):
    model, inputs, targets = network(name)
    exact = hessian(model, inputs, targets)
    scale = max(float(exact.abs().max()), 1e-300)
    size = len(exact) + len(exact) % 2
    trace = hessian_trace(model, inputs, targets, products=max(4, size))
    assert abs(trace.value - float(exact.trace())) < 1e-9 * scale * len(exact)
    assert trace.standard_error == 0
    top = max(float(torch.linalg.eigvalsh(exact)[-1]), 0.0)
    assert abs(top_eigenvalue(model, inputs, targets, tolerance=1e-10) - top) < 1e-8 * scale


@pytest.mark.parametrize("name", SOUND)
def test_adaptive_sharpness_is_that_of_the_definition(name):
    model, inputs, targets = network(name)
    data = inputs, targets
    model.eval()
    expected = ascent(model, functional.mse_loss, data, **ASCENT)
    found = plain_worst_case_sharpness(model, functional.mse_loss, data, **ASCENT)
    assert found.value == pytest.approx(expected, rel=1e-9, abs=1e-15)
    strong = strong_worst_case_sharpness(model, functional.mse_loss, data, **HOW)
    assert strong.value >= found.value - 1e-12


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["counts its calls", "keeps what it computed", "in place",
                                  "instance norm with statistics, in training mode"])  # fmt: skip
def test_the_model_and_the_generators_are_left_as_they_were(name, call):
    model, inputs, targets = network(name)
    model(inputs)
    state = copy.deepcopy(model.state_dict())
    kept = [vars(module).copy() for module in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    CALLS[call](model, inputs, targets)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert all(vars(m) == old for m, old in zip(model.modules(), kept, strict=True))
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert (np.random.get_state()[1] == generators[2]).all()


def around_autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, around_autocast])
@pytest.mark.parametrize("call", CALLS)
def test_settings_around_a_call_do_not_matter(call, around):
    model, inputs, targets = network("multi-head attention")
    model, inputs, targets = model.float(), inputs.float(), targets.float()
    expected = CALLS[call](model, inputs, targets)
    with around():
        found = CALLS[call](model, inputs.clone(), targets.clone())
    if call == "measure":
        expected, found = expected["sharpness"], found["sharpness"]
    assert found == expected


def test_a_checkpoint_is_no_obstacle_to_the_hessian():
    torch.manual_seed(0)
    plain, model = Around().double(), Checkpointed().double()
    model.load_state_dict(plain.state_dict())
    inputs = torch.randn(3, 4, dtype=torch.float64)
    for call in ("trace", "eigenvalue"):
        found, expected = (CALLS[call](one, inputs, inputs[:, :2]) for one in (model, plain))
        assert found == expected


def refused(call, model, inputs, targets, error=UserError) -> str:
    """The one line of the error that a call ends in."""
    with pytest.raises(error) as caught:
        CALLS[call](model, inputs, targets)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RANDOM)
def test_a_random_network_is_refused_whatever_draws(name, seed):
    torch.manual_seed(seed)
    model = RANDOM[name]().double()
    inputs = torch.randn(5, 4, dtype=torch.float64)
    for call in BY_INPUTS if model.training else CALLS:
        message = refused(call, model, inputs, inputs[:, :2])
        assert "draws random numbers" in message
        assert ("call model.eval() first" in message) == model.training
    if model.training:  # the ascents measure in evaluation mode
        same = copy.deepcopy(model).eval()
        data = inputs, inputs[:, :2]
        assert plain_worst_case_sharpness(model, functional.mse_loss, data, **ASCENT) == (
            plain_worst_case_sharpness(same, functional.mse_loss, data, **ASCENT)
        )
        assert model.training


class Own(Around):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x):
        return super().forward(x + torch.randn(x.shape, generator=self.generator))


class Raising(Around):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


class Changing(Around):
    def forward(self, x):
        self.first.weight.data.mul_(0.5)
        return super().forward(x)


class Returning(Around):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


def changed(change):
    """A network whose first weight is something else."""
    model = Around().double()
    model.first.weight = nn.Parameter(change(model.first.weight.detach()), requires_grad=False)
    return model


REFUSED = {
    "not a module": (lambda: functional.relu, CALLS),
    "no model": (lambda: None, CALLS),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(2)), CALLS),
    "on no device": (lambda: Around().to("meta"), CALLS),
    "complex parameters": (lambda: changed(lambda w: w.to(torch.complex128)), CALLS),
    "whole parameters": (lambda: changed(lambda w: w.to(torch.int8)), CALLS),
    "half precision": (lambda: Around().half(), ["trace", "eigenvalue", "ascent", "strong"]),
    "parameters of two types": (lambda: changed(lambda w: w.float()), CALLS),
    "parameters that are not finite": (lambda: changed(lambda w: w / 0), CALLS),
    "an error": (lambda: Raising(ValueError("one\ntwo")), CALLS),
    "an error without a message": (lambda: Raising(KeyError()), CALLS),
    "other features": (lambda: nn.Linear(7, 2).double(), CALLS),
    "a generator of its own": (lambda: Own().double(), CALLS),
    "in replicas": (lambda: nn.DataParallel(Around()).double(), CALLS),
    "scripted": (lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 2))).double(), CALLS),
    "computes again in the backward pass": (
        lambda: Checkpointed().double(),
        ["measure", "ascent", "strong"],
    ),
    "changes itself": (lambda: Changing().double(), CALLS),
    "no gradient": (lambda: Returning(torch.Tensor.detach).double(), CALLS),
    "no parameters": (lambda: nn.Unflatten(1, (2, 2)), ["trace", "eigenvalue", "ascent", "strong"]),
    "a tuple": (lambda: Returning(lambda y: (y, y)).double(), CALLS),
    "one number": (lambda: Returning(torch.Tensor.mean).double(), BY_INPUTS),
    "one row too few": (lambda: Returning(lambda y: y[1:]).double(), BY_INPUTS),
    "classes": (lambda: Returning(lambda y: y.argmax(1)).double(), BY_INPUTS),
    "other types": (lambda: Returning(torch.Tensor.float).double(), BY_INPUTS),
    "nothing": (lambda: Returning(lambda y: y[:, :0]).double(), BY_INPUTS),
    "centred over the batch": (lambda: Around(lambda h: h - h.mean(0)).double(), BY_INPUTS),
    "batch norm in training mode": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).double(),
        BY_INPUTS,
    ),
    "batch norm without statistics": (
        lambda: (
            nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False))
            .double()
            .eval()
        ),
        BY_INPUTS,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_measured_is_refused_in_a_line(name):
    make, calls = REFUSED[name]
    inputs = torch.randn(5, 4, dtype=torch.float64)
    for call in calls:
        refused(call, make(), inputs, inputs[:, :2])


#: inputs and targets that cannot be right
DATA = {
    "no tensors": lambda x, y: (x.tolist(), y.tolist()),
    "half precision": lambda x, y: (x.half(), y),
    "complex": lambda x, y: (x.to(torch.complex128), y),
    "targets of half precision": lambda x, y: (x, y.half()),
    "whole numbers": lambda x, y: (x.long(), y),
    "sparse": lambda x, y: (x.to_sparse(), y),
    "on no device": lambda x, y: (x.to("meta"), y),
    "no samples": lambda x, y: (x[:0], y[:0]),
    "fewer targets": lambda x, y: (x, y[1:]),
    "no dimension": lambda x, y: (x[0, 0], y[0, 0]),
    "wide targets": lambda x, y: (x, torch.cat([y, y], dim=1)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_right_are_refused_in_a_line(name, call):
    model, inputs, targets = network("no bias")
    refused(call, model, *DATA[name](inputs, targets))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_data_that_are_not_finite_are_refused_in_a_line(value, call):
    model, inputs, targets = network("no bias")
    wrong = inputs.clone()
    wrong[-1, -1] = value
    refused(call, model, wrong, targets, NumericalError)
    wrong = targets.clone()
    wrong[-1, -1] = value
    refused(call, model, inputs, wrong, NumericalError)


def raising(outputs, targets):
    raise RuntimeError("one\ntwo")


LOSSES = {
    "of each sample": lambda o, t: (o - t).square().mean(1),
    "a number of Python's": lambda o, t: float((o - t).square().mean()),
    "none": lambda o, t: None,
    "no gradient": lambda o, t: (o - t).square().mean().detach(),
    "whole": lambda o, t: (o.argmax(1) == 0).sum(),
    "complex": lambda o, t: (o - t).mean() * 1j,
    "raising": raising,
    "random": lambda o, t: functional.dropout(o - t).square().mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_not_one_number_is_refused(name):
    model, *data = network("no bias")
    for call, how in ((plain_worst_case_sharpness, ASCENT), (strong_worst_case_sharpness, HOW)):
        with pytest.raises(UserError) as caught:
            call(model, LOSSES[name], data, **how)
        assert "\n" not in str(caught.value)


def test_tokens_and_classes_are_data_of_an_ascent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 3)).double()
    data = torch.randint(5, (6, 2)), torch.randint(3, (6,))
    found = plain_worst_case_sharpness(model, functional.cross_entropy, data, **ASCENT)
    assert found.value == pytest.approx(ascent(model, functional.cross_entropy, data, **ASCENT))


def test_a_reason_is_that_of_the_layer():
    model, inputs, _ = network("pruned bias")
    (flag,) = (text for text in measure(model, inputs).flags if text.startswith("NMLS"))
    assert "layer first computes its weight or bias from other parameters" in flag
    model, inputs, _ = network("sequence-first, length 1")
    (flag,) = (text for text in measure(model, inputs).flags if text.startswith("NMLS"))
    assert "has not one row of inputs a sample" in flag
    model, inputs, _ = network("timm's linear layer")
    assert measure(model, inputs).flags == ()
