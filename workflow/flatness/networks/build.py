"""Builds the networks of the compression study with the initial weights of a seed."""

from collections.abc import Callable
from importlib import import_module

import torch
from torch import nn

from flatness.errors import UserError
from flatness.networks import NAMES


def constructor(name: str) -> Callable[..., nn.Module]:
    """The function that makes a network.

    Args:
        name: of the network and of its module in `flatness.networks`.

    Returns:
        The function; its options are keyword-only.

    Raises:
        UserError: no such network.
    """
    if name not in NAMES:
        raise UserError(f"model: no {name!r}; choose from {', '.join(NAMES)}")
    return getattr(import_module(f"flatness.networks.{name}"), name)


def build(name: str, *, seed: int, **options: str) -> nn.Module:
    """Builds a network with the initial weights of a seed; the global generator is left as it was.

    Args:
        name: "mlp", "lenet5", "vgg11" or another module of `flatness.networks`.
        seed: of the initial weights.
        **options: of the network: `activation` of the MLP.

    Returns:
        The network, float32, in training mode; parameters in forward order, weight before bias.

    Raises:
        UserError: no such network, or it has no such option.
    """
    make = constructor(name)
    unknown = set(options) - set(make.__kwdefaults__ or {})
    if unknown:
        raise UserError(f"model {name} has no option {', '.join(sorted(unknown))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(**options)
