from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from flatness.studies.chen.patch_convolution import PatchConvolution, with_patch_convolutions


def values_and_gradients(layer, inputs):
    inputs = inputs.clone().requires_grad_()
    outputs = layer(inputs)
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return outputs, *torch.autograd.grad(
        (outputs.sin() * weights).sum(), [inputs, *layer.parameters()]
    )


@pytest.mark.parametrize(
    ("kernel", "padding"), [(3, 2), (5, 0), (3, 1), (1, 0), ((3, 2), (0, 1)), ((2, 5), (1, 3))]
)
@pytest.mark.parametrize("outputs", [4, 70])
def test_it_is_the_convolution_with_its_gradients(kernel, padding, outputs):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, outputs, kernel, padding=padding).double()
    patched = with_patch_convolutions(nn.Sequential(layer))[0]
    assert type(patched) is PatchConvolution
    assert [name for name, _ in patched.named_parameters()] == ["weight", "bias"]
    inputs = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    found, expected = (values_and_gradients(one, inputs) for one in (patched, layer))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("outputs", [3, 70])
def test_stacked_it_is_every_model_on_its_own(outputs):
    torch.manual_seed(0)
    models = [
        nn.Sequential(
            OrderedDict(
                a=nn.Conv2d(2, outputs, (3, 2), padding=(2, 1)),
                b=nn.Conv2d(outputs, 3, (2, 3), padding=(0, 2)),
            )
        ).double()
        for _ in range(4)
    ]
    inputs = torch.randn(4, 5, 2, 6, 6, dtype=torch.float64)
    patched = with_patch_convolutions(models[0])

    def loss(weights, images):
        return functional_call(patched, weights, (images,)).sin().sum()

    names = [name for name, _ in models[0].named_parameters()]
    stacked = {
        name: torch.stack([model.get_parameter(name).detach() for model in models])
        for name in names
    }
    gradients, losses = vmap(grad_and_value(loss))(stacked, inputs)
    for index, model in enumerate(models):
        value = model(inputs[index]).sin().sum()
        own = torch.autograd.grad(value, list(model.parameters()))
        torch.testing.assert_close(losses[index], value.detach(), rtol=0, atol=1e-12)
        for name, gradient in zip(names, own, strict=True):
            torch.testing.assert_close(gradients[name][index], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"bias": False}, {"padding": "same"},
        {"padding": 3}, {"padding": 1, "padding_mode": "reflect"},
    ],
)  # fmt: skip
def test_other_convolutions_stay(options):
    layer = nn.Conv2d(2, 4, 3, **options)
    assert type(with_patch_convolutions(nn.Sequential(layer))[0]) is nn.Conv2d
