"""The pools' dense and convolutional networks, and the FCNN as a stack of models."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.measures.ascent import Parameters
from flatness.records.checkpoints import checkpoint_name, load_checkpoints

FCNN_WIDTHS = (64, 64, 1)
#: Images that LeNet-5 is evaluated on at once.
EVALUATION_BATCH = 500

#: Inputs (n, 1, 28, 28) and int64 targets (n,).
Batch = tuple[Tensor, Tensor]


def fcnn(features: int, *, elu_output: bool = False) -> nn.Sequential:
    """The FCNN: features–64–64–1.

    Args:
        features: inputs.
        elu_output: False uses ReLU between the layers, True uses ELU after every layer, even the
            last.

    Returns:
        The module, with PyTorch's default initial weights.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((features, *FCNN_WIDTHS)):
        layers += [nn.Linear(inputs, outputs), nn.ELU() if elu_output else nn.ReLU()]
    return nn.Sequential(*(layers if elu_output else layers[:-1]))


def stacked_fcnn(parameters: Parameters, inputs: Tensor, *, elu_output: bool = False) -> Tensor:
    """Outputs of a stack of `fcnn`s in one batched product per layer.

    Args:
        parameters: named as in `fcnn`, with a leading dimension M.
        inputs: (M, b, features).
        elu_output: as in `fcnn`.

    Returns:
        (M, b, 1).
    """
    activation = functional.elu if elu_output else functional.relu
    hidden = inputs
    for layer in range(0, 2 * len(FCNN_WIDTHS), 2):
        weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
        hidden = torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))
        if elu_output or layer < 2 * len(FCNN_WIDTHS) - 2:
            hidden = activation(hidden)
    return hidden


class LeNet5(nn.Module):
    """LeNet-5 with batch norm and dropout, for 28×28 grey images and 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 12, 5), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(12, 32, 5), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(128, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (b, 10) of images (b, 1, 28, 28)."""
        return self.classifier(self.features(images).flatten(1))


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in evaluation mode; the model is left in it."""
    model.eval()
    loss = right = torch.zeros((), dtype=torch.float64, device=targets.device)
    for images, labels in zip(
        inputs.split(EVALUATION_BATCH), targets.split(EVALUATION_BATCH), strict=True
    ):
        scores = model(images)
        loss = loss + functional.cross_entropy(scores, labels, reduction="sum")
        right = right + (scores.argmax(1) == labels).sum()
    return float(loss / len(targets)), float(right / len(targets))


def xavier(model: nn.Module) -> nn.Module:
    """Draws Xavier-uniform weights and zero biases for every dense and conv layer, in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def load_stack(path: Path) -> tuple[Parameters, list[int], list[str]]:
    """Reads a block's weights.

    Args:
        path: checkpoints that `train-epfl` wrote.

    Returns:
        Tensors of all models (M, ...), their seeds, and why each diverged, empty if it did not.

    Raises:
        DataError: the file is missing, unreadable or damaged; names it.
    """
    models, metadata = load_checkpoints(path)
    seeds = metadata["seeds"]
    return stack([models[checkpoint_name(seed)] for seed in seeds]), seeds, metadata["reasons"]


def stack(models: Sequence[Parameters]) -> Parameters:
    """Stacks the tensors of several models along a leading dimension M."""
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}
