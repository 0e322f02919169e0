"""What benchmarks share: CPU time, and networks trained on made-up data."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.networks.build import build

Result = TypeVar("Result")
Loss = Callable[[Tensor, Tensor], Tensor]

SHAPES = {"mlp": (1, 28, 28), "lenet5": (3, 32, 32), "vgg11": (3, 32, 32)}
#: Steps of training: some, and to interpolation of few samples.
TRAINED, FITTED = 50, 400


def timed(work: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """What a call returns, and its CPU seconds."""
    start = time.process_time()
    return work(*arguments), time.process_time() - start


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """CPU seconds of a call."""
    return timed(work, *arguments)[1]


def data(name: str, n: int) -> tuple[Tensor, Tensor]:
    """Made-up images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, *SHAPES[name], generator=generator)
    return images, torch.randint(10, (n,), generator=generator)


def trained(name: str, n: int, loss: Loss, steps: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network after some steps of Adam on its data, with inputs and one-hot targets."""
    model, (inputs, labels) = build(name, seed=0).eval(), data(name, n)
    targets = functional.one_hot(labels, 10).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, inputs, targets
