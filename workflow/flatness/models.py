"""The networks of the compression study: MLP, LeNet-5 and a VGG-11 without normalisation.

Parameters come in forward order, weight before bias: MLP 898,510; LeNet-5 62,006; VGG-11 97,018.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from flatness.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
OUTPUTS = 10


def mlp(*, activation: str = "relu") -> nn.Sequential:
    """784–500–500–500–10 with PyTorch's default initial weights; takes (n, 1, 28, 28).

    Args:
        activation: "relu" (the grid of models) or "tanh" (trends and tightness of the bounds).

    Returns:
        The network.

    Raises:
        UserError: no such activation.
    """
    if activation not in ACTIVATIONS:
        raise UserError(f"activation: no {activation!r}; choose from {', '.join(ACTIVATIONS)}")
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for index, width in enumerate((784, 500, 500), start=1):
        layers.append((f"fc{index}", nn.Linear(width, 500)))
        layers.append((f"activation{index}", ACTIVATIONS[activation]()))
    layers.append(("fc4", nn.Linear(500, OUTPUTS)))
    return nn.Sequential(OrderedDict(layers))


def lenet5() -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling, Xavier-normal weights, zero biases; takes (n, 3, 32, 32).

    Returns:
        The network.
    """
    layers = OrderedDict(
        conv1=nn.Conv2d(3, 6, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(400, 120),
        relu3=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu4=nn.ReLU(),
        fc3=nn.Linear(84, OUTPUTS),
    )
    for layer in layers.values():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)


def vgg11() -> nn.Sequential:
    """The study's VGG-11: five 3×3 convolutions with padding 2, each ReLU and 2×2 max-pooling.

    Channels 16, 16, 32, 64, 64, then 256–128–10; conv weights N(0, 2/(k² C_out)), conv biases
    zero, linear layers PyTorch's default; takes (n, 3, 32, 32).

    Returns:
        The network.
    """
    layers: list[tuple[str, nn.Module]] = []
    channels = 3
    for index, width in enumerate((16, 16, 32, 64, 64), start=1):
        conv = nn.Conv2d(channels, width, 3, padding=2)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * width)))
        nn.init.zeros_(conv.bias)
        layers += [(f"conv{index}", conv), (f"relu{index}", nn.ReLU())]
        layers.append((f"pool{index}", nn.MaxPool2d(2)))
        channels = width
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(256, 128)), ("relu6", nn.ReLU())]
    layers.append(("fc2", nn.Linear(128, OUTPUTS)))
    return nn.Sequential(OrderedDict(layers))


MODELS: dict[str, Callable[..., nn.Sequential]] = {"mlp": mlp, "lenet5": lenet5, "vgg11": vgg11}


def build(name: str, *, seed: int, **options: str) -> nn.Sequential:
    """Builds a network with the initial weights of a seed; the global generator is left as it was.

    Args:
        name: "mlp", "lenet5" or "vgg11".
        seed: of the initial weights.
        **options: of the network: `activation` of the MLP.

    Returns:
        The network, float32, in training mode.

    Raises:
        UserError: no such network, or it has no such option.
    """
    if name not in MODELS:
        raise UserError(f"model: no {name!r}; choose from {', '.join(MODELS)}")
    unknown = set(options) - set(MODELS[name].__kwdefaults__ or {})
    if unknown:
        raise UserError(f"model {name} has no option {', '.join(sorted(unknown))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](**options)
