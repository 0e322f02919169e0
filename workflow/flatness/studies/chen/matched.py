"""Comparisons of models at the same training loss.

Settings reach a given loss after different numbers of steps. So at equal steps, models also differ
in the progress of their training.
"""

import numpy as np
import pandas as pd

from flatness.studies.chen.quantities import last_on_train

#: Training losses at which models are compared; the config can request checkpoints there.
LOSSES = (1e-2, 1e-3, 3e-4, 1e-4)
#: The loss at which models are correlated: it is below interpolation, and soon reached.
MATCHED = 3e-4
END = "end of training"


def at_name(loss: float) -> str:
    """How tables name the models at one training loss, such as "loss 0.0003"."""
    return f"loss {loss:g}"


def compared_at(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The models at the end of training, and at each of `LOSSES`.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.

    Returns:
        One row per model and entry, measured on training images.
    """
    return {END: last_on_train(table)} | {at_name(loss): at_loss(table, loss) for loss in LOSSES}


def at_loss(table: pd.DataFrame, loss: float) -> pd.DataFrame:
    """Every model at the moment when its training loss first falls to a value.

    Between the first checkpoint at or below the loss and the checkpoint before it, every number is
    interpolated linearly in the logarithm of the loss.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        loss: training loss.

    Returns:
        One row per model that was measured along training. The numbers of a model that does not
        reach the loss, or whose first checkpoint is past it, are NaN, and its `reason` says so.
    """
    train = table[table["sampled"] == "train"].sort_values("step")
    runs = [run for _, run in train.groupby(["setting", "seed"]) if len(run) > 1]
    crossings = [_crossing(run, loss) for run in runs]
    return pd.DataFrame(crossings, columns=table.columns).astype(table.dtypes)


def _crossing(run: pd.DataFrame, loss: float) -> pd.Series:
    """One model's row; `run` is its checkpoints by step."""
    losses = run["train_loss"].to_numpy()
    below = np.flatnonzero(losses <= loss)
    last = run.iloc[-1].copy()
    if not len(below) or below[0] == 0:
        why = f"training loss stays above {loss:g}" if not len(below) else "measured too late"
        last["reason"] = last["reason"] or why
        numbers = run.select_dtypes("float").columns.drop("learning_rate")
        last[numbers] = np.nan
        return last
    before, after = run.iloc[below[0] - 1], run.iloc[below[0]].copy()
    tiny = np.finfo(float).tiny
    high, low = np.log([max(row["train_loss"], tiny) for row in (before, after)])
    share = (high - np.log(loss)) / (high - low)
    for name in run.select_dtypes("float").columns:
        with np.errstate(invalid="ignore"):  # −∞ on both sides
            after[name] = before[name] + share * (after[name] - before[name])
    return after
