"""The VGG-11 of the compression study, without normalisation."""

import math
from collections import OrderedDict

from torch import nn

from flatness.networks import OUTPUTS


def vgg11() -> nn.Sequential:
    """Five 3×3 convolutions with padding 2, each 2×2 max-pooling and ReLU, and two linear layers.

    ReLU follows the pooling: the same function to the bit, on a quarter of the values.

    Channels 16, 16, 32, 64, 64, then 256–128–10; conv weights N(0, 2/(k² C_out)), conv biases
    zero, linear layers PyTorch's default; takes (n, 3, 32, 32).

    Returns:
        The network, of 97,018 parameters.
    """
    layers: list[tuple[str, nn.Module]] = []
    channels = 3
    for index, width in enumerate((16, 16, 32, 64, 64), start=1):
        conv = nn.Conv2d(channels, width, 3, padding=2)
        nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * width)))
        nn.init.zeros_(conv.bias)
        layers += [(f"conv{index}", conv), (f"pool{index}", nn.MaxPool2d(2))]
        layers.append((f"relu{index}", nn.ReLU()))
        channels = width
    layers += [("flatten", nn.Flatten()), ("fc1", nn.Linear(256, 128)), ("relu6", nn.ReLU())]
    layers.append(("fc2", nn.Linear(128, OUTPUTS)))
    return nn.Sequential(OrderedDict(layers))
