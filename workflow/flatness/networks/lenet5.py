"""The LeNet-5 of the compression study."""

from collections import OrderedDict

from torch import nn

from flatness.networks import OUTPUTS


def lenet5() -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling, Xavier-normal weights, zero biases; takes (n, 3, 32, 32).

    ReLU follows the pooling: the same function to the bit, on a quarter of the values.

    Returns:
        The network, of 62,006 parameters.
    """
    layers = OrderedDict(
        conv1=nn.Conv2d(3, 6, 5),
        pool1=nn.MaxPool2d(2),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(6, 16, 5),
        pool2=nn.MaxPool2d(2),
        relu2=nn.ReLU(),
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
