"""Abalone: 4177 rows; sex one-hot (M, F, I) and 7 measurements; target rings."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from flatness.datasets.sources import Source

SOURCE = Source(
    folder="abalone",
    address="https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/",
    licence="CC BY 4.0; UCI Machine Learning Repository, doi 10.24432/C55C7W",
    files={
        "abalone.data": ("sha256:de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"),
    },
)


def read(root: Path) -> dict[str, Tensor]:
    """The rows, from the verified file below `root`."""
    table = pd.read_csv(root / "abalone" / "abalone.data", header=None)
    sex = torch.stack([torch.tensor((table[0] == letter).to_numpy()) for letter in "MFI"], dim=1)
    numbers = torch.tensor(table.iloc[:, 1:].to_numpy(dtype=float))
    inputs = torch.cat([sex.to(numbers.dtype), numbers[:, :-1]], dim=1)
    return {"inputs": inputs, "targets": numbers[:, -1:]}
