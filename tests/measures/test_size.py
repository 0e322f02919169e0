"""Many outputs under a budget of memory, and data and models of other kinds, in `measure`."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from flatness.errors import UserError
from flatness.measures import _samples
from flatness.measures._jacobians import Backward
from flatness.measures._layers import gradient_squares, quadratic_forms
from flatness.measures._network import take_apart
from flatness.measures.measure import measure

OUTPUTS = 40


class Residual(nn.Module):
    """The input reaches the output beside the first layer, and batch norm has parameters."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 6, 3, stride=2, groups=3)
        self.last = nn.Linear(6 * 9, OUTPUTS)

    def forward(self, x):
        h = torch.tanh(self.second(x + self.norm(self.first(x)).relu()))
        return self.last(h.flatten(1))


NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=3, dilation=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, OUTPUTS),
    ),
    "residual": Residual,
}  # fmt: skip


def made(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().double().eval()
    return model, torch.randn(5, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_of_outputs_give_what_all_outputs_give(name):
    model, inputs = made(name)
    network = take_apart(model, inputs[:1])
    widest = max([math.prod(layer.input_shape) for layer in network.layers] + [3 * 64])
    little = 3.01 * 8 * network.outputs * widest  # enough for the widest Jacobian, thrice
    plan = _samples._plan(network, inputs, None, little)
    assert plan.outputs < network.outputs
    if len(network.layers) > 1:
        assert len(plan.groups) > 1
    whole = measure(model, inputs)
    cut = measure(model, inputs, memory=little)
    assert cut.flags == whole.flags
    for quantity, estimate in whole.items():
        assert cut[quantity].value == pytest.approx(estimate.value, rel=1e-9, nan_ok=True)
        error = cut[quantity].standard_error
        assert error == pytest.approx(estimate.standard_error, rel=1e-6, nan_ok=True)
    for field in dataclasses.fields(whole.samples):
        expected, found = (getattr(m.samples, field.name) for m in (whole, cut))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_too_little_memory_is_reported_in_one_line():
    model, inputs = made("convolutions")
    with pytest.raises(UserError, match="three times as much is needed"):
        measure(model, inputs, memory=1000)


SHAPES = {
    "padded": (nn.Conv2d(8, 6, 3, padding=1), (8, 3, 3)),
    "grouped": (nn.Conv2d(8, 6, 3, stride=2, groups=2), (8, 7, 7)),
    "dilated": (nn.Conv2d(4, 5, 3, dilation=2, bias=False), (4, 6, 6)),
    "linear at places": (nn.Linear(20, 7), (5, 20)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_quadratic_forms_give_the_gradients_squares(name):
    torch.manual_seed(0)
    module, shape = SHAPES[name]
    width = module(torch.zeros(1, *shape)).numel()
    model = nn.Sequential(module, nn.Flatten(), nn.Tanh(), nn.Linear(width, OUTPUTS)).double()
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    network = take_apart(model, inputs[:1])
    (rows,) = Backward(network, inputs, OUTPUTS)()
    layer, seen = network.layers[0], rows.layers[0]
    forms = quadratic_forms(layer, seen.inputs, OUTPUTS)
    assert forms is not None
    formed = gradient_squares(layer, seen.inputs, seen.output_rows)
    found = gradient_squares(layer, seen.inputs, seen.output_rows, forms)
    for field in dataclasses.fields(found):
        torch.testing.assert_close(getattr(found, field.name), getattr(formed, field.name))


def equal(found, expected):
    values = [(found[name].value, estimate.value) for name, estimate in expected.items()]
    torch.testing.assert_close(
        torch.tensor([v for v, _ in values]), torch.tensor([v for _, v in values]), equal_nan=True
    )


@dataclasses.dataclass
class Returned:
    logits: torch.Tensor
    hidden: torch.Tensor


RETURNS = {
    "a tuple": (lambda y, h: (y, h), lambda out: out[0]),
    "a dictionary": (lambda y, h: {"logits": y, "hidden": h}, lambda out: out["logits"]),
    "a dataclass": (Returned, lambda out: out.logits),
}


class Returning(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.first, self.last, self.how = nn.Linear(4, 6), nn.Linear(6, 3), how

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.how(self.last(hidden), hidden)


@pytest.mark.parametrize("name", RETURNS)
def test_outputs_are_picked(name):
    how, pick = RETURNS[name]
    torch.manual_seed(0)
    model = Returning(how).double()
    inputs = torch.randn(6, 4, dtype=torch.float64)
    targets = torch.randn(6, 3, dtype=torch.float64)
    plain = Returning(lambda y, _: y).double()
    plain.load_state_dict(model.state_dict())
    equal(measure(model, inputs, targets, outputs=pick), measure(plain, inputs, targets))
    assert not model._forward_hooks
    with pytest.raises(UserError, match=r"measure\(outputs=...\)"):
        measure(model, inputs)


def test_a_loader_is_its_samples():
    model, inputs = made("convolutions")
    whole = measure(model, inputs)
    equal(measure(model, DataLoader(inputs, batch_size=2)), whole)
    pairs = DataLoader(TensorDataset(inputs, torch.zeros(5)), batch_size=2)
    equal(measure(model, pairs), whole)
    equal(measure(model, [inputs[:1], inputs[1:]]), whole)


BATCHES = {
    "none": ([], "no batches"),
    "words": (["cat"], "a batch gives a str"),
    "dictionaries": ([{"x": torch.zeros(1, 3, 8, 8)}], "a batch gives a dict"),
    "of two shapes": ([torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 9, 9)], "do not fit together"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_that_cannot_be_joined_are_refused(name):
    batches, reason = BATCHES[name]
    with pytest.raises(UserError, match=reason):
        measure(made("convolutions")[0], batches)
    with pytest.raises(UserError, match="targets go with inputs in a tensor"):
        measure(made("convolutions")[0], batches, torch.zeros(5, OUTPUTS))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_single_with_a_flag(kind):
    model, inputs = made("convolutions")
    model = model.to(kind)
    found = measure(model, inputs.to(kind))
    assert f"parameters in {kind}: measured in float32, on a copy" in found.flags
    assert {p.dtype for p in model.parameters()} == {kind}
    equal(found, measure(model.float(), inputs.to(kind).float()))


RESNET = """
import json, resource, sys, torch, torchvision, flatness
torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=1000).eval()
images = torch.randn(1, 3, 64, 64)
found = flatness.measure(model, images, memory=float(sys.argv[1]))
values = {name: estimate.value for name, estimate in found.items()}
print(json.dumps([values, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.mark.slow
def test_a_thousand_outputs_of_a_residual_network_fit_in_memory():
    found, peaks = [], []
    for memory in ("1e9", "4e9"):
        command = [sys.executable, "-W", "ignore", "-c", RESNET, memory]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        values, peak = json.loads(shown)
        found.append(values)
        peaks.append(peak)
    assert peaks[0] < 2.5e9
    assert peaks[1] < 4e9
    for name, value in found[0].items():
        # the rank counts singular values above rounding: one of an image's thousand may be at it
        near = {"abs": 1} if name == "rank" else {"rel": 1e-6}
        assert value == pytest.approx(found[1][name], nan_ok=True, **near), name
