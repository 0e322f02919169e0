"""Stand-ins for the published data sets that need no download: `make` runs on them."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn.functional import interpolate

from flatness.data import Dataset

#: Sizes and rates of the stochastic block model, after Cora's: 7 classes, about 4 edges a node,
#: 8 in 10 of them within a class; an eighth of Cora's words.
SBM_CLASSES = 7
SBM_CLASS_SIZE = 100
SBM_WORDS = 200
SBM_OWN_WORDS = 20
SBM_EDGE_WITHIN = 0.03
SBM_EDGE_BETWEEN = 0.0013
SBM_WORD_RATE = 0.04
SBM_OWN_WORD_RATE = 0.28


def diabetes() -> Dataset:
    """scikit-learn's diabetes table, in place of Abalone: 442 rows, 10 inputs, one target."""
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    tensors = {"inputs": torch.tensor(inputs), "targets": torch.tensor(targets)[:, None]}
    return Dataset("diabetes", True, tensors)


def digits() -> Dataset:
    """scikit-learn's 1797 digits as 1x28x28 pixels, in place of FashionMNIST."""
    return Dataset("digits", True, _digits(side=28, channels=1))


def digits32() -> Dataset:
    """scikit-learn's 1797 digits as 3x32x32 pixels, in place of CIFAR-10."""
    return Dataset("digits32", True, _digits(side=32, channels=3))


def _digits(side: int, channels: int) -> dict[str, Tensor]:
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


def sbm() -> Dataset:
    """A seeded stochastic block model with class-dependent words, in place of Cora.

    700 nodes in 7 equal classes. Nodes are joined independently, more often within a class. Each
    class has 20 words of its own among 200; a node has its class's words more often than others.
    Split as Planetoid's: 20 nodes a class to train on, 20 to validate, 40 to test.

    Returns:
        The data set.
    """
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(SBM_CLASSES), SBM_CLASS_SIZE)
    generator.shuffle(labels)
    same = labels[:, None] == labels[None, :]
    joined = generator.random(same.shape) < np.where(same, SBM_EDGE_WITHIN, SBM_EDGE_BETWEEN)
    upper = np.triu(joined, k=1)
    edges = np.stack(np.nonzero(upper | upper.T))
    own = np.arange(SBM_WORDS)[None, :] // SBM_OWN_WORDS == labels[:, None]
    words = generator.random(own.shape) < np.where(own, SBM_OWN_WORD_RATE, SBM_WORD_RATE)
    tensors = {
        "inputs": torch.tensor(words).to(torch.uint8),
        "targets": torch.tensor(labels),
        "edge_index": torch.tensor(edges),
    }
    return Dataset("sbm", True, tensors | _planetoid_masks(labels))


def _planetoid_masks(labels: np.ndarray) -> dict[str, Tensor]:
    """Masks by a node's rank within its class: the nodes are already in random order."""
    rank = np.empty_like(labels)
    for label in range(SBM_CLASSES):
        rank[labels == label] = np.arange(SBM_CLASS_SIZE)
    return {
        "train_mask": torch.tensor(rank < 20),
        "val_mask": torch.tensor((rank >= 20) & (rank < 40)),
        "test_mask": torch.tensor((rank >= 40) & (rank < 80)),
    }


#: Makers by the names in `flatness.sources.DEMO`.
MAKERS: dict[str, Callable[[], Dataset]] = {
    "diabetes": diabetes,
    "digits": digits,
    "digits32": digits32,
    "sbm": sbm,
}
