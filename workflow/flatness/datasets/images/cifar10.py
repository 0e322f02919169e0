"""CIFAR-10: 50,000 and 10,000 colour images of 32x32, 10 classes."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from flatness.datasets.sources import Source

SOURCE = Source(
    folder="cifar-10-batches-py",
    address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    licence="free for research; cite Krizhevsky 2009",
    archive="md5:c58f30108f718f92721af3b95e74349a",
    files={
        "batches.meta": ("sha256:f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
        "data_batch_1": ("sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        "data_batch_2": ("sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        "data_batch_3": ("sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        "data_batch_4": ("sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        "data_batch_5": ("sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
        "test_batch": ("sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    },
)


def read(root: Path) -> dict[str, Tensor]:
    """The tensors, from the verified files below `root`."""
    tensors = {}
    for part in ("train", "test"):
        batches = CIFAR10(root, train=part == "train")
        tensors[f"{part}_inputs"] = torch.from_numpy(batches.data).permute(0, 3, 1, 2)
        tensors[f"{part}_targets"] = torch.tensor(batches.targets)
    return tensors
