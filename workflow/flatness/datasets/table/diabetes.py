"""scikit-learn's diabetes table, in place of Abalone: 442 rows, 10 inputs, one target."""

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor


def make() -> dict[str, Tensor]:
    """The table, unscaled."""
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    return {"inputs": torch.tensor(inputs), "targets": torch.tensor(targets)[:, None]}
