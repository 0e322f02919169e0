import pytest
import torch
from torch import nn

from flatness.errors import UserError
from flatness.networks.build import build


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("mlp", 898_510, (1, 28, 28)),
        ("lenet5", 62_006, (3, 32, 32)),
        ("vgg11", 97_018, (3, 32, 32)),
    ],
)
def test_has_the_published_number_of_parameters_in_forward_order(name, count, shape):
    model = build(name, seed=0)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    kinds = [parameter.rpartition(".")[2] for parameter, _ in model.named_parameters()]
    assert kinds == ["weight", "bias"] * (len(kinds) // 2)
    modules = [parameter.partition(".")[0] for parameter, _ in model.named_parameters()]
    assert modules[::2] == [
        n for n, m in model.named_children() if isinstance(m, nn.Linear | nn.Conv2d)
    ]


def test_vgg_follows_the_description_layer_by_layer():
    model = build("vgg11", seed=0)
    kinds = [type(module).__name__ for module in model]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 5 + ["Flatten", "Linear", "ReLU", "Linear"]
    convolutions = [m for m in model if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16, 16, 32, 64, 64]
    assert all(m.padding == (2, 2) and m.kernel_size == (3, 3) for m in convolutions)
    assert all(m.bias.abs().max() == 0 for m in convolutions)
    last = convolutions[-1].weight
    assert last.square().mean().item() == pytest.approx(2 / (9 * 64), rel=0.03)


def test_lenet_starts_xavier_normal_with_zero_biases():
    model = build("lenet5", seed=0)
    assert all(m.bias.abs().max() == 0 for m in model if isinstance(m, nn.Conv2d | nn.Linear))
    assert model.fc1.weight.square().mean().item() == pytest.approx(2 / 520, rel=0.03)
    assert model.conv2.weight.square().mean().item() == pytest.approx(2 / (25 * 22), rel=0.1)


def test_mlp_has_the_activation_asked_for():
    tanh = build("mlp", seed=0, activation="tanh")
    assert [type(m).__name__ for m in tanh][2::2] == ["Tanh"] * 3
    assert [type(m).__name__ for m in build("mlp", seed=0)][2::2] == ["ReLU"] * 3


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build("lenet5", seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fc1.weight"], other["fc1.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet"}, "no 'resnet'; choose from lenet5, mlp, vgg11"),
        ({"name": "lenet5", "activation": "tanh"}, "lenet5 has no option activation"),
        ({"name": "mlp", "activation": "elu"}, "no 'elu'; choose from relu, tanh"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        build(**arguments, seed=0)
