"""The MLP of the compression study."""

from collections import OrderedDict

from torch import nn

from flatness.errors import UserError
from flatness.networks import OUTPUTS

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(*, activation: str = "relu") -> nn.Sequential:
    """784–500–500–500–10 with PyTorch's default initial weights; takes (n, 1, 28, 28).

    Args:
        activation: "relu" (the grid of models) or "tanh" (trends and tightness of the bounds).

    Returns:
        The network, of 898,510 parameters.

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
