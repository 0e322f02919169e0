"""Quantities that the study correlates and draws: derived columns, and labels.

The bounds are the `_released` ones, as in the paper: for dense networks they are the theorems.
"""

import numpy as np
import pandas as pd

from flatness.studies.chen.config import Setting

#: Columns of the pairwise scatter matrices, in the paper's order, with the labels of axes.
SCATTER_LABELS = {
    "local_dimensionality": "local dim.",
    "root_sharpness": "√S",
    "log_volume_top3": "log volume",
    "mls": "MLS",
    "nmls": "NMLS",
    "accuracy_gap": "accuracy gap (%)",
    "bound_d_released": "D",
    "nmls_bound_released": "NMLS bound",
    "relative_flatness": "rel. flatness",
}

#: Panels of the trend figures, in the paper's order.
TREND_LABELS = {
    "train_loss": "train loss",
    "nmls": "NMLS",
    "root_sharpness": "sharpness √S",
    "log_volume_top3": "log volume",
    "mls": "MLS",
    "log_local_dimensionality": "log local dim.",
}

#: The chain A ≤ B ≤ C ≤ D and its last factor.
CHAIN_LABELS = {
    "mls": "A: MLS",
    "bound_b_released": "B",
    "bound_c_released": "C",
    "bound_d_released": "D: MLS bound",
    "root_sharpness": "√S",
}


#: Quantities that learning rate, batch size and sharpness are claimed to change.
COMPRESSION = ("nmls", "mls", "log_volume_top3", "local_dimensionality")


def with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Adds √S and the log of the (mean) local dimensionality.

    Args:
        table: rows of `MeasuredCheckpoint`.

    Returns:
        A copy with two more columns.
    """
    return table.assign(
        root_sharpness=np.sqrt(table["sharpness"]),
        log_local_dimensionality=np.log(table["local_dimensionality"]),
    )


def along_training(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that were measured along training.

    Of the others only the start, the end and the matched losses are measured: fewer than half as
    many checkpoints as of the run of their family with the most. Runs that diverged stay, so that
    they are counted.

    Args:
        table: checkpoints measured on one kind of sample.

    Returns:
        Their rows; none where every run was measured once.
    """
    run = table.groupby(["family", "setting", "seed"])
    checkpoints = run["step"].transform("nunique")
    most = checkpoints.groupby(table["family"]).transform("max")
    diverged = run["diverged"].transform("any")
    return table[(checkpoints > 1) & (diverged | (2 * checkpoints >= most))]


def one_factor(table: pd.DataFrame, factor: str) -> pd.DataFrame:
    """The rows in which only one factor of the grid varies.

    Settings with momentum, decay or another optimizer are left out. The other factor is fixed at
    the value that occurs with most values of this factor; of several such values, at the most
    frequent.

    Args:
        table: rows with `learning_rate`, `batch_size` and `setting`.
        factor: "learning_rate" or "batch_size"; "setting" keeps every row.

    Returns:
        Part of the table.
    """
    if factor == "setting":
        return table
    plain = [
        Setting(learning_rate=rate, batch_size=size).name == name
        for rate, size, name in zip(
            table["learning_rate"], table["batch_size"], table["setting"], strict=True
        )
    ]
    table = table[np.array(plain, dtype=bool)]
    other = {"learning_rate": "batch_size", "batch_size": "learning_rate"}[factor]
    met = table.groupby(other)[factor].agg(["nunique", "size"]).sort_values(["nunique", "size"])
    return table[table[other] == met.index[-1]] if len(met) else table


def last_on_train(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model: the end of training, measured on training images."""
    return table[table["last"] & (table["sampled"] == "train")]


def steps_behind(rows: pd.DataFrame) -> int:
    """Steps of the longest training up to the rows that are compared; 0 without one.

    Args:
        rows: of `MeasuredCheckpoint`; those of models that do not reach a loss have none.

    Returns:
        The number of steps.
    """
    return int(rows["step"].where(np.isfinite(rows["train_loss"]), 0).max()) if len(rows) else 0
