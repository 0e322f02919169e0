"""Data sets as every study reads them: one normalised file each, and the papers' splits.

The files are written by `flatness.datasets.fetch`; nothing here downloads or unpickles.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatness.errors import DataError, UserError
from flatness.records.tensors import load_tensors, save_tensors

#: Names of the tensors that a data set of each kind holds.
KEYS = {
    "images": ("train_inputs", "train_targets", "test_inputs", "test_targets"),
    "table": ("inputs", "targets"),
    "graph": ("inputs", "targets", "edge_index", "train_mask", "val_mask", "test_mask"),
}


@dataclass(frozen=True)
class Dataset:
    """One data set in memory.

    Attributes:
        name: as in `flatness.datasets.fetch`, such as "cifar10".
        demo: whether it replaces published data; results must then say so.
        tensors: by kind. Images: `train_inputs`, `test_inputs` uint8 (n, C, H, W);
            `train_targets`, `test_targets` int64 (n,). Table: `inputs` float64 (n, 10), `targets`
            float64 (n, 1). Graph: `inputs` uint8 (n, words), `targets` int64 (n,), `edge_index`
            int64 (2, edges), `train_mask`, `val_mask`, `test_mask` bool (n,).
        sources: maps the names of the original files to checksums ("sha256:..." or "md5:...");
            empty for demo data.
    """

    name: str
    demo: bool
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str] = field(default_factory=dict)


def save(path: Path, dataset: Dataset) -> None:
    """Writes a data set as the normalised file that `load` reads, atomically."""
    metadata: dict[str, Any] = {
        "name": dataset.name,
        "demo": dataset.demo,
        "sources": dict(dataset.sources),
    }
    save_tensors(path, dataset.tensors, metadata)


def load(path: Path) -> Dataset:
    """Reads a normalised data file. No code in the file can run.

    Args:
        path: a file written by `python -m flatness fetch`.

    Returns:
        The data set.

    Raises:
        DataError: the file is missing, damaged, or was not made by `fetch`; names it.
    """
    tensors, metadata = load_tensors(path)
    whole = any(set(tensors) == set(keys) for keys in KEYS.values())
    if not whole or not {"name", "demo", "sources"} <= metadata.keys():
        raise DataError(
            f"{path}: not a data set written by `python -m flatness fetch`; delete it and fetch it"
        )
    return Dataset(metadata["name"], metadata["demo"], tensors, metadata["sources"])


def subset_classes_and_size(
    dataset: Dataset,
    classes: Sequence[int] | None = None,
    train_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Keeps some classes of an image data set, and a class-balanced part of its training images.

    Labels keep their numbers, so that one-hot targets keep their width. With the same classes and
    seed, a smaller `train_size` gives a subset of a larger one. All test images are kept.

    Args:
        dataset: images.
        classes: labels to keep; None keeps all.
        train_size: training images to keep, drawn at random within each class, as equal in
            number between classes as the data allow; None keeps all.
        seed: of the draw.

    Returns:
        The smaller data set; images in their original order.

    Raises:
        UserError: a class does not occur, or there are fewer training images than requested.
    """
    tensors = dict(dataset.tensors)
    known = set(tensors["train_targets"].tolist())
    kept = sorted(known if classes is None else set(classes))
    if not kept or not set(kept) <= known:
        raise UserError(f"{dataset.name}: classes {kept} asked for, there are {sorted(known)}")
    for part in ("train", "test"):
        index = torch.isin(tensors[f"{part}_targets"], torch.tensor(kept)).nonzero().squeeze(1)
        if part == "train" and train_size is not None:
            index = index[
                _balanced(tensors["train_targets"][index], train_size, seed, dataset.name)
            ]
        for key in (f"{part}_inputs", f"{part}_targets"):
            tensors[key] = tensors[key][index]
    return replace(dataset, tensors=tensors)


def _balanced(targets: Tensor, size: int, seed: int, name: str) -> Tensor:
    """Index (size,) of a class-balanced random subset, ascending."""
    if not 1 <= size <= len(targets):
        raise UserError(
            f"{name}: train_size {size} asked for, these classes have {len(targets)} training "
            "images; choose between 1 and that"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    turn = torch.empty_like(targets)
    for label in targets.unique():
        members = order[targets[order] == label]
        turn[members] = torch.arange(len(members))
    # One of each class in turn: balanced, and nested in `size`.
    return order[torch.argsort(turn[order], stable=True)][:size].sort().values


def scale_pixels(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels 0..255 as numbers in [0, 1]; shape is kept."""
    return images.to(dtype) / 255


def abalone_split(rows: int, split: int = 0) -> tuple[Tensor, Tensor]:
    """An 80/20 split of a table: scikit-learn's shuffle.

    Args:
        rows: rows of the table.
        split: 0 is the one that all FCNN models of the report share, of random state 42; others
            have the random states after it.

    Returns:
        Row numbers to train on and to test on, int64, in shuffled order.
    """
    # What train_test_split(test_size=0.2, random_state=42) does: importing scikit-learn would cost
    # every job more than a second.
    order = torch.from_numpy(np.random.RandomState(42 + split).permutation(rows))
    test_rows = math.ceil(rows / 5)
    return order[test_rows:], order[:test_rows]


def standardise(inputs: Tensor, targets: Tensor, train_index: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts and scales every column by the mean and standard deviation of the training rows.

    The deviation divides by n, as scikit-learn's StandardScaler does; a constant column is only
    shifted.

    Args:
        inputs: (n, features).
        targets: (n, outputs).
        train_index: rows the statistics come from.

    Returns:
        Inputs and targets, all rows, same shapes.
    """
    return _standardised(inputs, train_index), _standardised(targets, train_index)


def _standardised(table: Tensor, train_index: Tensor) -> Tensor:
    train = table[train_index]
    deviation = train.std(dim=0, correction=0)
    scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return (table - train.mean(dim=0)) / scale
