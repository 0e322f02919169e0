import pytest
import torch
from torch import nn

from flatness.studies.epfl.networks import LeNet5, fcnn, stack, stacked_fcnn, xavier


@pytest.mark.parametrize("elu_output", [False, True])
def test_a_stack_of_fcnns_equals_its_modules(elu_output):
    torch.manual_seed(0)
    models = [fcnn(10, elu_output=elu_output).double() for _ in range(3)]
    inputs = torch.randn(3, 7, 10, dtype=torch.float64)
    outputs = stacked_fcnn(
        stack([model.state_dict() for model in models]), inputs, elu_output=elu_output
    )
    for model, own_inputs, own_outputs in zip(models, inputs, outputs, strict=True):
        assert torch.allclose(model(own_inputs), own_outputs, rtol=1e-12, atol=1e-14)


def test_the_written_fcnn_has_a_linear_output_and_the_released_one_an_elu():
    assert [type(layer) for layer in fcnn(10)[1::2]] == [nn.ReLU, nn.ReLU]
    assert [type(layer) for layer in fcnn(10, elu_output=True)[1::2]] == [nn.ELU] * 3


def test_parameter_counts():
    def count(model):
        return sum(weights.numel() for weights in model.parameters())

    assert count(fcnn(10)) == 11 * 64 + 65 * 64 + 65
    convolutions = 12 * 26 + 32 * (12 * 25 + 1) + 2 * (12 + 32)
    assert count(LeNet5()) == convolutions + 513 * 256 + 257 * 128 + 129 * 10


def test_lenet5_scores_ten_classes():
    assert LeNet5()(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_xavier_draws_within_its_bound_and_zeroes_biases():
    model = xavier(LeNet5())
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            kernel = module.weight[0, 0].numel() if module.weight.dim() == 4 else 1
            fans = sum(module.weight.shape[:2]) * kernel
            bound = (6 / fans) ** 0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert module.bias.abs().max() == 0
