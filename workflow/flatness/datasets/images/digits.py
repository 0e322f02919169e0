"""scikit-learn's 1797 digits as 1x28x28 pixels, in place of FashionMNIST."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import interpolate


def make() -> dict[str, Tensor]:
    """The images."""
    return scaled_digits(side=28, channels=1)


def scaled_digits(side: int, channels: int) -> dict[str, Tensor]:
    """The digits at another size.

    Args:
        side: width and height in pixels.
        channels: copies of the grey values.

    Returns:
        The tensors of a set of images; a fifth of the images are for testing.
    """
    grey, labels = load_digits(return_X_y=True)
    small = torch.tensor(grey).reshape(-1, 1, 8, 8) * (255 / 16)
    large = interpolate(small, size=(side, side), mode="bilinear")
    images = large.round().to(torch.uint8).repeat(1, channels, 1, 1)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels
    )
    targets = torch.tensor(labels)
    return {
        "train_inputs": images[train],
        "train_targets": targets[train],
        "test_inputs": images[test],
        "test_targets": targets[test],
    }
