"""A seeded stochastic block model with class-dependent words, in place of Cora.

700 nodes in 7 equal classes. Nodes are joined independently, more often within a class. Each class
has 20 of the 200 words; a node has its class's words more often than others. The split follows
Planetoid: 20 nodes per class to train on, 20 to validate, 40 to test.
"""

import numpy as np
import torch
from torch import Tensor

#: Sizes and rates of the stochastic block model, after Cora's: 7 classes, about 4 edges a node,
#: 8 in 10 of them within a class; an eighth of Cora's words.
CLASSES = 7
CLASS_SIZE = 100
WORDS = 200
OWN_WORDS = 20
EDGE_WITHIN = 0.03
EDGE_BETWEEN = 0.0013
WORD_RATE = 0.04
OWN_WORD_RATE = 0.28


def make() -> dict[str, Tensor]:
    """The graph, the same each time."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), CLASS_SIZE)
    generator.shuffle(labels)
    same = labels[:, None] == labels[None, :]
    joined = generator.random(same.shape) < np.where(same, EDGE_WITHIN, EDGE_BETWEEN)
    upper = np.triu(joined, k=1)
    edges = np.stack(np.nonzero(upper | upper.T))
    own = np.arange(WORDS)[None, :] // OWN_WORDS == labels[:, None]
    words = generator.random(own.shape) < np.where(own, OWN_WORD_RATE, WORD_RATE)
    return {
        "inputs": torch.tensor(words).to(torch.uint8),
        "targets": torch.tensor(labels),
        "edge_index": torch.tensor(edges),
    } | _planetoid_masks(labels)


def _planetoid_masks(labels: np.ndarray) -> dict[str, Tensor]:
    """Masks by a node's rank within its class: the nodes are already in random order."""
    rank = np.empty_like(labels)
    for label in range(CLASSES):
        rank[labels == label] = np.arange(CLASS_SIZE)
    return {
        "train_mask": torch.tensor(rank < 20),
        "val_mask": torch.tensor((rank >= 20) & (rank < 40)),
        "test_mask": torch.tensor((rank >= 40) & (rank < 80)),
    }
