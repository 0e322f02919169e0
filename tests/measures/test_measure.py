"""The fast path against the literal definitions, on every network and on odd small ones."""

import math

import pytest
import torch
from torch import nn

from flatness.errors import UserError
from flatness.measures.measure import QUANTITIES, measure
from flatness.networks.build import build
from measures.measures_oracle import oracle

SHAPES = {"mlp": (1, 28, 28), "lenet5": (3, 32, 32), "vgg11": (3, 32, 32)}
NETWORKS = [("mlp", "relu"), ("mlp", "tanh"), ("lenet5", None), ("vgg11", None)]
SAMPLED = "average_case_sharpness_sampled"


def network(name, activation, dtype=torch.float64):
    options = {"activation": activation} if activation else {}
    model = build(name, seed=1, **options).to(dtype)
    generator = torch.Generator().manual_seed(0)
    return model, torch.rand(2, *SHAPES[name], generator=generator, dtype=torch.float64).to(dtype)


def assert_agree(found, expected, tolerance):
    """Relative errors; of a logarithm the absolute error, which is its argument's relative one."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        absolute = tolerance if name.startswith("log_") else 0.0
        close = pytest.approx(value, rel=tolerance, abs=absolute, nan_ok=True)
        assert found[name].value == close, name


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda p: "-".join(filter(None, p)))
def case(request):
    model, inputs = network(*request.param)
    return request.param, oracle(model, inputs)


def test_every_quantity_in_float64(case):
    arguments, expected = case
    assert_agree(measure(*network(*arguments)), expected, 1e-9)
    assert set(expected) == set(QUANTITIES) - {SAMPLED}


def test_every_quantity_in_float32(case):
    arguments, expected = case
    assert_agree(measure(*network(*arguments, dtype=torch.float32)), expected, 1e-4)


SMALL = {
    "grouped, strided, dilated": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=(2, 1), groups=2),
        nn.Tanh(),
        nn.Conv2d(4, 6, 2, padding="same", bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(3),
    ),
    "reflecting and circular padding": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"),
        nn.Conv2d(3, 2, 2, padding="valid", padding_mode="circular"),
        nn.Flatten(),
        nn.LazyLinear(4),
    ),
    "as many patches as positions": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 4, stride=2), nn.Tanh(), nn.Conv2d(3, 3, 2), nn.Flatten(), nn.LazyLinear(2)
    ),
    "a bias makes the difference": lambda: nn.Sequential(
        nn.Conv2d(1, 2, (2, 4), stride=(2, 1)), nn.Flatten(), nn.LazyLinear(2)
    ),
    "no biases": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False)
    ),
    "activations in place": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2)
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name):
    torch.manual_seed(0)
    model = SMALL[name]().double()
    inputs = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    if name == "a bias makes the difference":  # 9 positions, 8 entries and a bias
        inputs = torch.rand(3, 1, 6, 6, dtype=torch.float64)
    model(inputs)
    found = measure(model, inputs)
    assert_agree(found, oracle(model, inputs), 1e-9)
    if name == "as many patches as positions":
        assert math.isfinite(found["bound_b"].value) and math.isfinite(found["nmls_bound"].value)
    if name == "a bias makes the difference":
        assert math.isnan(found["bound_b"].value) and math.isfinite(found["bound_b_bias"].value)


def test_chunks_do_not_matter():
    model, inputs = network("lenet5", None)
    inputs = torch.cat([inputs, inputs.flip(2), inputs.flip(3)])
    whole, parts = measure(model, inputs), measure(model, inputs, chunk=4)
    for name in whole:
        assert parts[name].value == pytest.approx(whole[name].value, rel=1e-11, nan_ok=True), name
        error = whole[name].standard_error
        assert parts[name].standard_error == pytest.approx(error, rel=1e-8, nan_ok=True), name


def test_only_what_is_asked_for():
    model, inputs = network("mlp", "relu")
    found = measure(model, inputs, quantities=["mls", "sharpness"])
    assert set(found) == {"sharpness", "mls"}
    assert found.norms.isnan().all()
    assert found["mls"] == measure(model, inputs)["mls"]


def test_layers_add_up_to_the_network():
    model, inputs = network("lenet5", None)
    found = measure(model, inputs)
    assert list(found.per_layer) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    for name in ("sharpness", "nmls", "average_case_sharpness"):
        total = sum(layer[name].value for layer in found.per_layer.values())
        assert total == pytest.approx(found[name].value, rel=1e-12)
    assert found.samples.layer_mls.shape == (2, 5)
    assert found.samples.mls.mean() == pytest.approx(found["mls"].value)


def literal_sharpness(model, inputs):
    parameters = dict(model.named_parameters())
    total = 0.0
    for x in inputs.split(1):
        for output in model(x).flatten():
            gradients = torch.autograd.grad(output, parameters.values(), retain_graph=True)
            total += sum(g.square().sum() for g in gradients)
    return total.item() / len(inputs)


class Attention(nn.Module):
    """Parameters used outside Linear's forward, layers seeing sequences, norms, skips."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = self.embed(x)
        a = self.norm(h)
        return self.head((h + self.attention(a, a, a, need_weights=False)[0]).mean(1))


GENERAL = {
    "attention": (Attention, (5, 3)),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2)
        ),
        (2, 6, 6),
    ),
    "a layer called twice": (
        lambda: nn.Sequential(*[nn.Linear(4, 4), nn.Tanh()] * 2, nn.Linear(4, 2)),
        (4,),
    ),
    "one-dimensional convolution": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.LazyLinear(2)),
        (2, 6),
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2)
        ),
        (4,),
    ),
}


@pytest.mark.parametrize("name", GENERAL)
def test_other_modules_take_the_general_path(name):
    torch.manual_seed(0)
    make, shape = GENERAL[name]
    model = make().double()
    inputs = torch.rand(3, *shape, dtype=torch.float64)
    model.eval()(inputs)
    found = measure(model, inputs)
    expected = literal_sharpness(model, inputs)
    assert found["sharpness"].value == pytest.approx(expected, rel=1e-10)
    assert any(flag.startswith("parameters outside of linear") for flag in found.flags)
    complete = name == "batch norm"
    assert math.isnan(found["nmls"].value) != complete
    assert any("NMLS" in flag for flag in found.flags) != complete
    slopes = [torch.linalg.matrix_norm(torch.func.jacrev(model)(x).flatten(0, 1).flatten(1), 2)
              for x in inputs.split(1)]  # fmt: skip
    assert found["mls"].value == pytest.approx(sum(slopes).item() / 3, rel=1e-10)


def test_frozen_parameters_count_and_nothing_of_the_model_changes():
    model, inputs = network("lenet5", None)
    expected = measure(model, inputs)["sharpness"].value
    model.conv1.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert measure(model, inputs)["sharpness"].value == expected
    assert all(torch.equal(before[n], p) and p.grad is None for n, p in model.named_parameters())
    assert not model.conv1.weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_frozen_copy_measured_without_gradients_enabled_is_the_same():
    model, inputs = network("mlp", "tanh")
    with torch.no_grad():
        assert measure(model, inputs)["mls"] == measure(model, inputs)["mls"]


def test_a_name_in_place_of_a_list_is_refused():
    model, inputs = nn.Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64)
    with pytest.raises(UserError, match="quantities is 'sharpness'; pass a list"):
        measure(model, inputs, quantities="sharpness")
    with pytest.raises(KeyError, match="it needs targets"):
        measure(model, inputs)["average_case_sharpness_sampled"]


def test_a_rank_below_the_outputs_has_a_flag():
    model, inputs = nn.Linear(3, 4).double(), torch.randn(5, 3, dtype=torch.float64)
    found = measure(model, inputs)
    assert found["log_lvr"].value == -math.inf
    assert "5 of 5 samples have a Jacobian of rank below 4" in " ".join(found.flags)


@pytest.mark.parametrize("name", ["mlp", "lenet5"])
def test_a_quantity_is_the_same_alone(name):
    model, inputs = network(name, "relu" if name == "mlp" else None)
    for quantity, together in measure(model, inputs).items():
        alone = measure(model, inputs, quantities=[quantity])[quantity]
        assert alone.value == pytest.approx(together.value, rel=1e-9, nan_ok=True), quantity
        assert alone.standard_error == pytest.approx(together.standard_error, rel=1e-6, nan_ok=True)
