"""Estimates with standard errors: the jackknife for smooth functions of sample means."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error.

    Attributes:
        value: the estimate.
        standard_error: in the same unit; NaN for a single sample or an infinite value.
    """

    value: float
    standard_error: float


UNDEFINED = Estimate(math.nan, math.nan)


def jackknife(function: Callable[..., np.ndarray], *columns: Float[Tensor, " n"]) -> Estimate:
    """The value of a smooth function of means over samples, and its jackknife standard error.

        SE² = (n−1)/n · Σ_i (T_(i) − mean T_(·))²,   T_(i) the value without sample i

    To first order this is the delta method's standard error; for a plain mean it is exactly s/√n.

    Args:
        function: takes the means of the columns, elementwise, as arrays of shape (1,) and (n,).
        *columns: one value per sample, each (n,).

    Returns:
        The estimate; its standard error is NaN at n = 1.
    """
    table = np.stack([_array(column) for column in columns])
    n = table.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # log(0) and inf − inf are valid results
        (value,) = function(*table.mean(1, keepdims=True))
        without = function(*_means_without(table))
        variance = (n - 1) / n * np.square(without - without.mean()).sum()
    return Estimate(float(value), math.sqrt(variance) if n > 1 else math.nan)


def mean(column: Float[Tensor, " n"]) -> Estimate:
    """The mean over samples, (n,), and its standard error s/√n; NaN at n = 1."""
    values = _array(column)
    with np.errstate(invalid="ignore"):
        error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan
        return Estimate(float(values.mean()), error)


def log_mean_exp(column: Float[Tensor, " n"]) -> Estimate:
    """The log of the mean of exponentials of (n,) logs; −inf if all logs are −inf."""
    column = column.double()
    top = float(column.max())
    if not math.isfinite(top):
        return Estimate(top, math.nan)
    return jackknife(lambda m: top + np.log(m), (column - top).exp())


def _array(column: Tensor) -> np.ndarray:
    return column.detach().cpu().double().numpy()


def _means_without(table: np.ndarray) -> np.ndarray:
    """Leave-one-out means of rows, from sums at both ends, since total − x_i may cancel."""
    zero = np.zeros((len(table), 1))
    before = np.concatenate([zero, table[:, :-1].cumsum(1)], axis=1)
    after = np.concatenate([table[:, :0:-1].cumsum(1)[:, ::-1], zero], axis=1)
    return (before + after) / (table.shape[1] - 1)
