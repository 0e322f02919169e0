"""Images as model inputs: normalised, at the model's resolution."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import torch
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn
from torch.nn import functional
from torchvision.datasets import ImageFolder

from flatness.datasets.normalised import Dataset, scale_pixels

BATCH = 250


class LabelledImages(Protocol):
    """Images that can be selected by number."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Model inputs (n, C, H, W) and labels (n,) of some of them."""


@dataclass(frozen=True)
class SmallImages:
    """Images of a normalised data file, kept as bytes until they are selected.

    Attributes:
        pixels: (n, 3, height, width), uint8.
        labels: (n,), int64.
        mean: (3, 1, 1), of the training images' channels, in [0, 1].
        deviation: (3, 1, 1), their standard deviation.
        size: pixels of the model's input; other sizes are resampled bilinearly.
        device: where the model runs.
    """

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    deviation: Tensor
    size: int
    device: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pixels)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Model inputs (n, 3, size, size) and labels (n,) of some of them."""
        inputs = (scale_pixels(self.pixels[index]) - self.mean) / self.deviation
        if inputs.shape[-1] != self.size:
            inputs = functional.interpolate(inputs, self.size, mode="bilinear", antialias=True)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs.to(self.device), self.labels[index].to(self.device)


def small_images(dataset: Dataset, part: str, size: int | None, device: str) -> SmallImages:
    """One part of a data set, normalised by its training images.

    Args:
        dataset: images.
        part: "train" or "test".
        size: pixels of the model's input; None keeps the images' own.
        device: where the model runs.

    Returns:
        The images.
    """
    pixels = dataset.tensors["train_inputs"]
    # From a histogram: exact, and no float copy of the whole set.
    count = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in pixels.unbind(1)])
    share = count.double() / count.sum(1, keepdim=True)
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ value
    deviation = (share @ value**2 - mean**2).sqrt()
    return SmallImages(
        pixels=dataset.tensors[f"{part}_inputs"],
        labels=dataset.tensors[f"{part}_targets"],
        mean=mean.float().view(3, 1, 1),
        deviation=deviation.float().view(3, 1, 1),
        size=size or pixels.shape[-1],
        device=device,
    )


@dataclass(frozen=True)
class FolderImages:
    """Images of a folder of class folders, through a model's own timm transform."""

    folder: ImageFolder
    device: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.folder)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Model inputs (n, 3, size, size) and labels (n,) of some of them."""
        inputs, labels = zip(*(self.folder[i] for i in index.tolist()), strict=True)
        stacked = torch.stack(inputs).contiguous(memory_format=torch.channels_last)
        return stacked.to(self.device), torch.tensor(labels, device=self.device)


def imagenet_images(folder: Path, model: nn.Module, device: str) -> FolderImages:
    """ImageNet's validation images with a pretrained model's transform.

    Args:
        folder: one folder per class; sorted by name they are timm's classes.
        model: a pretrained timm model.
        device: where the model runs.

    Returns:
        The images.
    """
    settings = resolve_data_config(model=model)
    return FolderImages(ImageFolder(folder, create_transform(**settings)), device)


def draw_index(images: LabelledImages, size: int | None, seed: int) -> Tensor:
    """Numbers of the first `size` images in random order; all if there are fewer.

    Args:
        images: to draw from.
        size: how many; None takes all.
        seed: of the order, so that every model sees the same images.

    Returns:
        (size,), int64.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return order[:size]


def batches(images: LabelledImages, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of some images, a few at a time."""
    for part in index.split(BATCH):
        yield images.take(part)


def endless_batches(
    images: LabelledImages, size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of `size` images: no image repeats before all have been used.

    Args:
        images: to draw from.
        size: images in a batch; all if there are fewer.
        seed: of the orders; the first is that of `draw_index`.

    Yields:
        Inputs and labels.
    """
    size = min(size, len(images))
    for turn in count(seed):
        for index in draw_index(images, None, turn).split(size):
            if len(index) == size:
                yield images.take(index)
