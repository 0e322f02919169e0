"""Reads the published files into tensors.

Some of the files are pickles, which run code when loaded: every function here is given a private
folder into which `flatness.fetch` has put verified files only.
"""

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.io import read_planetoid_data
from torchvision.datasets import CIFAR10
from torchvision.datasets.mnist import read_image_file, read_label_file


def abalone(root: Path) -> dict[str, Tensor]:
    """Abalone: 4177 rows; sex one-hot (M, F, I) and 7 measurements; target rings."""
    table = pd.read_csv(root / "abalone" / "abalone.data", header=None)
    sex = torch.stack([torch.tensor((table[0] == letter).to_numpy()) for letter in "MFI"], dim=1)
    numbers = torch.tensor(table.iloc[:, 1:].to_numpy(dtype=float))
    inputs = torch.cat([sex.to(numbers.dtype), numbers[:, :-1]], dim=1)
    return {"inputs": inputs, "targets": numbers[:, -1:]}


def cora(root: Path) -> dict[str, Tensor]:
    """Cora: 2708 papers, 1433 words present or absent, 7 classes, the public split 140/500/1000."""
    graph = read_planetoid_data(str(root / "cora"), "cora")
    return {
        "inputs": graph.x.to(torch.uint8),
        "targets": graph.y,
        "edge_index": graph.edge_index,
        "train_mask": graph.train_mask,
        "val_mask": graph.val_mask,
        "test_mask": graph.test_mask,
    }


def fashion_mnist(root: Path) -> dict[str, Tensor]:
    """FashionMNIST: 60,000 and 10,000 grey images of 28x28, 10 classes."""
    folder = root / "fashion-mnist"
    tensors = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_image_file(_unzipped(folder / f"{prefix}-images-idx3-ubyte.gz"))
        tensors[f"{part}_inputs"] = images[:, None]
        tensors[f"{part}_targets"] = read_label_file(
            _unzipped(folder / f"{prefix}-labels-idx1-ubyte.gz")
        )
    return tensors


def _unzipped(path: Path) -> str:
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    return str(plain)


def cifar10(root: Path) -> dict[str, Tensor]:
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32, 10 classes."""
    tensors = {}
    for part in ("train", "test"):
        batches = CIFAR10(root, train=part == "train")
        tensors[f"{part}_inputs"] = torch.from_numpy(batches.data).permute(0, 3, 1, 2)
        tensors[f"{part}_targets"] = torch.tensor(batches.targets)
    return tensors


#: Readers by the names in `flatness.sources.PUBLISHED`.
READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "abalone": abalone,
    "cora": cora,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}
