"""Faults of PyTorch: each is shown bare, then gone around. Right values are float64 derivatives."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from checkout import shipped
from flatness.measures.hessian import hessian_trace
from flatness.measures.measure import measure
from flatness.measures.workarounds import mended, never_alone, plain
from flatness.studies.transformers.config import VitModel
from flatness.studies.transformers.models import build

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MALLOC_CHECK_": "3"}

BARE = """
import torch
torch.set_num_threads(1)
for _ in range(6):
    layer = torch.nn.Conv2d(3, 16, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
    images = torch.rand(25, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    layer(images).square().sum().backward()
    exact = torch.nn.Conv2d(3, 16, 1, stride=2, bias=False).double()
    exact.weight.data.copy_(layer.weight.detach())
    exact(images.double()).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-3, atol=1e-2)
"""

#: A model of a user: channels-last, with a convolution by module and one by function.
MODEL = """
import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Conv2d(3, 6, 1, stride=2)
        self.called = nn.Conv2d(6, 12, 1, stride=(2, 1), bias=False)
        self.first = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.first(x).contiguous(memory_format=torch.channels_last)
        x = functional.silu(self.module(x))
        x = functional.conv2d(input=x, weight=self.called.weight, stride=(2, 1))
        return self.head(functional.silu(x).mean((2, 3)))

net = Net().eval().to(memory_format=torch.channels_last)
images = torch.rand(25, 3, 32, 32).contiguous(memory_format=torch.channels_last)
targets = torch.rand(25, 4)
"""

MEASURED = {
    "a user's model": MODEL
    + """
from flatness.measures.worst_case import plain_worst_case_sharpness
from flatness.measures.hessian import hessian_trace, top_eigenvalue
from flatness.measures.measure import measure

def all_of(dtype):
    data = images.to(dtype), targets.to(dtype)
    model = net.to(dtype)
    found = measure(model, data[0])
    options = dict(rho=0.1, step_size=0.1, steps=3, restarts=2, batch_size=25)
    return [
        *(found[name].value for name in ("sharpness", "average_case_sharpness", "mls")),
        plain_worst_case_sharpness(model, functional.mse_loss, data, **options).value,
        top_eigenvalue(model, *data),
    ], hessian_trace(model, *data, estimates=2, products=4)

(found, trace), (right, _) = all_of(torch.float32), all_of(torch.float64)
assert max(abs(f / r - 1) for f, r in zip(found, right)) < 1e-3, (found, right)
assert torch.tensor(trace.value).isfinite()
""",
    "transformers": """
import torch
from flatness.studies.transformers.images import small_images
from flatness.studies.transformers.measure import evaluate, measure
from flatness.studies.transformers.models import build
from flatness.studies.transformers.train import train
from flatness.records.tensors import Scratch
from studies.transformers.tiny_transformers import MEASURING, TRAINING, striped_images
from measures.test_workarounds import FASTVIT
import math, tempfile
data = striped_images()
module = build(FASTVIT, 4, seed=0)
with tempfile.TemporaryDirectory() as folder, Scratch(folder, "a") as state:
    losses = train(module, small_images(data, "train", 32, "cpu"), TRAINING, state, FASTVIT)
assert all(math.isfinite(loss) for loss in losses)
module.eval().requires_grad_(False)
test = small_images(data, "test", 32, "cpu")
evaluate(module, [test.take(torch.arange(20))])
assert math.isfinite(measure(module, test, MEASURING).normalized_mls)
""",
}

#: The smallest model of the demo's family with a strided 1 × 1 convolution of 3 channels.
FASTVIT = VitModel(
    name="fastvit_small",
    constructor="fastvit_t8",
    arguments={"layers": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16], "mlp_ratios": [1, 1, 1, 1]},
    image_size=32,
)


def run_with_avx2(script):
    if not torch.cpu._is_avx2_supported():
        pytest.skip("this processor has no AVX2")
    environment = os.environ | AVX2 | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def test_the_bare_convolution_overwrites_memory():
    assert run_with_avx2(BARE).returncode != 0


@pytest.mark.parametrize("name", MEASURED)
def test_strided_convolutions_of_few_channels_are_safe(name):
    done = run_with_avx2(MEASURED[name])
    assert done.returncode == 0, done.stderr


def test_a_narrow_strided_convolution_runs_plain_and_the_same():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 1, stride=2).to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    with mended():
        found = layer(images)
    assert found.stride() == torch.empty(found.shape).stride()
    torch.testing.assert_close(found, layer(images))


def test_plain_restores_the_strides_of_a_one_by_one_kernel():
    kernel = torch.rand(5, 3, 1, 1).clone(memory_format=torch.channels_last)
    assert kernel.contiguous().stride() != (3, 1, 1, 1)  # what it is there for
    assert plain(kernel).stride() == (3, 1, 1, 1)


@pytest.mark.parametrize("config", ["demo", "laptop"])
def test_the_models_with_such_layers_are_those_that_the_docstring_names(config):
    models = [VitModel(**m) for m in shipped(config)["transformers"]["trained"]["models"]]
    with torch.device("meta"):
        narrow = {
            model.constructor
            for model in models
            if any(is_narrow_and_strided(m) for m in build(model, 10, seed=0).modules())
        }
    assert narrow == {m.constructor for m in models if m.constructor.startswith("fastvit")}


def is_narrow_and_strided(module):
    if not isinstance(module, nn.Conv2d):
        return False
    return module.in_channels < 8 and module.kernel_size == (1, 1) and max(module.stride) > 1


LAYOUTS = [(a, b) for a in (False, True) for b in (False, True)]


def laid_out(images, last):
    return images.contiguous(memory_format=torch.channels_last) if last else plain(images)


def norm_of(kind):
    torch.manual_seed(0)
    norm = kind(4, affine=True).double().eval()
    with torch.no_grad():
        norm.weight.normal_()
        if norm.running_var is not None:
            norm.running_var.uniform_(0.5, 2)
    return norm


def gradient(function, images, weights, batched):
    leaf = images.clone().requires_grad_()
    weights = weights.unsqueeze(0) if batched else weights
    (found,) = torch.autograd.grad(function(leaf), leaf, weights, is_grads_batched=batched)
    return found[0] if batched else found


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_a_sample_has_the_derivative_of_its_forward_pass(kind, count, batched):
    norm = norm_of(kind)
    generator = torch.Generator().manual_seed(1)
    images, weights, direction = (
        torch.randn(count, 4, 3, 5, dtype=torch.float64, generator=generator) for _ in range(3)
    )
    moved = norm(images + 1e-6 * direction) - norm(images - 1e-6 * direction)
    right = float((moved * weights).sum()) / 2e-6
    bare = []
    for of_images, of_weights in LAYOUTS:
        x, u = laid_out(images, of_images), laid_out(weights, of_weights)
        found = gradient(never_alone(norm), x, u, batched)
        assert float((found * direction).sum()) == pytest.approx(right, rel=1e-7)
        bare.append(float((gradient(norm, x, u, batched) * direction).sum()))
    if count > 1:
        assert bare == pytest.approx([right] * 4, rel=1e-7)


def test_the_bare_backward_pass_of_one_sample_is_scrambled():
    norm = norm_of(nn.InstanceNorm2d)
    images, weights = torch.randn(2, 1, 4, 3, 5, dtype=torch.float64)
    weights = laid_out(weights, True)
    alone, beside = (gradient(f, images, weights, False) for f in (norm, never_alone(norm)))
    assert not torch.allclose(alone, beside, rtol=1e-2)


def literal_sharpness(net, inputs):
    """S and adaptive sharpness by central differences, weight by weight."""
    plain_sum = adaptive = 0.0
    with torch.no_grad():
        for parameter in net.parameters():
            flat = parameter.view(-1)
            for index in range(flat.numel()):
                kept = float(flat[index])
                outputs = []
                for step in (1e-6, -1e-6):
                    flat[index] = kept + step
                    outputs.append(net(inputs))
                flat[index] = kept
                squared = float(((outputs[0] - outputs[1]) / 2e-6).square().sum()) / len(inputs)
                plain_sum += squared
                adaptive += kept**2 * squared / 2
    return plain_sum, adaptive


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_a_network_that_begins_with_a_norm_is_measured_as_defined(norm, chunk):
    torch.manual_seed(0)
    net = nn.Sequential(
        norm(3, affine=True), nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), norm(4, affine=True),
        nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    ).double().eval()  # fmt: skip
    for module in net:
        if isinstance(module, norm) and module.running_var is not None:
            module.running_var.uniform_(0.5, 2)
    inputs = torch.randn(3, 3, 5, 5, dtype=torch.float64)
    right = literal_sharpness(net, inputs)
    found = measure(net, inputs, chunk=chunk)
    assert found["sharpness"].value == pytest.approx(right[0], rel=1e-6)
    assert found["average_case_sharpness"].value == pytest.approx(right[1], rel=1e-6)
    rows = torch.autograd.functional.jacobian(lambda x: net(x).sum(0), inputs)  # (N, n, ...)
    norms = torch.linalg.matrix_norm(rows.transpose(0, 1).flatten(2), 2)
    assert found["mls"].value == pytest.approx(float(norms.mean()), rel=1e-9)


def normed_linear(v, g):
    return torch._weight_norm(v, g, 0).tanh()


def test_the_second_derivative_of_weight_norm_is_wrong_bare_and_right_mended():
    torch.manual_seed(0)
    leaves = [torch.rand(*shape).double().requires_grad_() for shape in ((3, 4), (3, 1))]
    check = torch.autograd.gradgradcheck
    assert not check(normed_linear, leaves, raise_exception=False)
    with mended():
        assert check(normed_linear, leaves)


def test_the_hard_sigmoid_has_a_second_derivative_only_if_mended():
    x = torch.tensor([-4.0, -1.0, 0.5, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(functional.hardsigmoid(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        slope.sum().backward()
    with mended():
        for inplace in (False, True):
            value = functional.hardsigmoid(x.clone(), inplace=inplace)
            assert torch.equal(value, functional.hardsigmoid(x))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Hardsigmoid(), nn.Linear(5, 2)).double()
    data = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    assert hessian_trace(model, *data, products=4).value > 0
