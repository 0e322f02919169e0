"""The images on which a family is trained and measured."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.datasets.normalised import load, scale_pixels, subset_classes_and_size
from flatness.errors import UserError
from flatness.networks import OUTPUTS
from flatness.networks.build import build
from flatness.studies.chen.config import GridTraining, Measurement

#: Images evaluated at once, which bounds memory.
CHUNK = 1000


@dataclass(frozen=True)
class Labelled:
    """Images with their labels.

    Attributes:
        inputs: (n, C, H, W), pixels in [0, 1].
        labels: int64 (n,).
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> Tensor:
        """One-hot targets (n, 10) of the inputs' dtype."""
        return functional.one_hot(self.labels, OUTPUTS).to(self.inputs.dtype)

    def take(self, index: Tensor) -> "Labelled":
        """The images at `index` (a tensor of row numbers or a mask)."""
        return Labelled(self.inputs[index], self.labels[index])


@dataclass(frozen=True)
class Images:
    """The images of one family: its training images and all test images of its classes."""

    train: Labelled
    test: Labelled
    demo: bool


def load_images(
    path: Path, experiment: GridTraining | Measurement, dtype: torch.dtype = torch.float32
) -> Images:
    """Reads a family's images.

    Args:
        path: normalised data file.
        experiment: names data set, classes, training size and device.
        dtype: of the pixels.

    Returns:
        Images on the experiment's device, in channels-last memory where that is faster.

    Raises:
        UserError: the file holds another data set.
    """
    dataset = load(path)
    if dataset.name != experiment.dataset:
        raise UserError(f"{path}: holds {dataset.name}, {experiment.dataset} was asked for")
    dataset = subset_classes_and_size(dataset, experiment.classes, experiment.train_size)

    def part(name: str) -> Labelled:
        inputs = scale_pixels(dataset.tensors[f"{name}_inputs"], dtype).to(experiment.device)
        labels = dataset.tensors[f"{name}_targets"].to(experiment.device)
        return Labelled(inputs.to(memory_format=memory_format(experiment.network)), labels)

    return Images(part("train"), part("test"), dataset.demo)


def build_network(experiment: GridTraining | Measurement, seed: int) -> nn.Module:
    """The experiment's network with a seed's initial weights, on its device."""
    options = {"activation": experiment.activation} if experiment.network == "mlp" else {}
    model = build(experiment.network, seed=seed, **options)
    return model.to(experiment.device, memory_format=memory_format(experiment.network))


def memory_format(network: str) -> torch.memory_format:
    """Convolutions run faster channels-last: VGG by a quarter, LeNet-5 by a tenth."""
    return torch.contiguous_format if network == "mlp" else torch.channels_last


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs (n, 10), computed in chunks."""
    return torch.cat([model(chunk) for chunk in inputs.split(CHUNK)])


def loss_and_accuracy(model: nn.Module, images: Labelled) -> tuple[float, float]:
    """Mean squared error over images and outputs, and the share classified correctly."""
    outputs = predict(model, images.inputs)
    loss = functional.mse_loss(outputs, images.targets)
    return float(loss), float((outputs.argmax(1) == images.labels).double().mean())


def measured_samples(images: Labelled, count: int) -> Labelled:
    """The first `count` images of an order drawn with seed 0: the same for every model.

    A smaller count gives a subset of a larger one.

    Args:
        images: the images to draw from.
        count: how many.

    Returns:
        The sample.

    Raises:
        UserError: fewer images than asked for.
    """
    if count > len(images):
        raise UserError(f"samples: {count} asked for, the family has {len(images)} images")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.take(order[:count].to(images.labels.device))
