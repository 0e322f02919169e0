"""Correlations with their uncertainty: Kendall's τ-b, Pearson's r, Spearman's ρ.

Bootstrap intervals over models and permutation p-values come from scipy; the statistics handed to
it are vectorised over resamples. For τ the signs of all pairs are formed once: with c_i the number
of times model i was drawn, a resample's concordance is cᵀ(A∘B)c.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from flatness.errors import NumericalError

Method = Literal["kendall", "pearson", "spearman"]
MINIMUM_MODELS = 3


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient over n models.

    Attributes:
        method: "kendall" (τ-b), "pearson" or "spearman".
        estimate: the coefficient; NaN below 3 models and where one variable is constant.
        low: lower end of the bootstrap interval; NaN with the estimate.
        high: upper end.
        p_value: two-sided, asymptotic (exact for small n without ties), as scipy gives it.
        p_permutation: two-sided permutation p-value.
        n: models.
    """

    method: Method
    estimate: float
    low: float
    high: float
    p_value: float
    p_permutation: float
    n: int

    def columns(self, name: str = "estimate") -> dict[str, float]:
        """The coefficient, under a name, with `low`, `high`, `p_value` and `p_permutation`."""
        rest = ("low", "high", "p_value", "p_permutation")
        return {name: self.estimate} | {column: getattr(self, column) for column in rest}


def correlate(
    x: np.ndarray,
    y: np.ndarray,
    *,
    method: Method,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Correlates two finite variables.

    Args:
        x: shape (n,), one value a model.
        y: shape (n,).
        method: coefficient.
        resamples: bootstrap resamples, and permutations.
        confidence: level of the interval.
        seed: seed of both.

    Returns:
        The coefficient, its percentile bootstrap interval and both p-values; all NaN below 3
        models, and where a variable is constant, since no order exists then.

    Raises:
        NumericalError: a value is not finite.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NumericalError("a correlation over values that are not finite; exclude them first")
    if len(x) < MINIMUM_MODELS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(method, *[float("nan")] * 5, n=len(x))
    asymptotic = {
        "kendall": stats.kendalltau,
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
    }[method](x, y)
    low, high = _bootstrap_interval(x, y, method, resamples, confidence, seed)
    return Correlation(
        method=method,
        estimate=float(asymptotic.statistic),
        low=low,
        high=high,
        p_value=float(asymptotic.pvalue),
        p_permutation=_permutation_p(x, y, method, resamples, seed),
        n=len(x),
    )


def held_fixed(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of x and y less what the ranks of z explain linearly.

    Their Pearson correlation is Spearman's partial correlation of x and y given z.

    Args:
        x: (n,), one value a model or checkpoint.
        y: (n,).
        z: (n,), the covariate.

    Returns:
        Two residuals (n,); exactly 0 where z explains all, up to rounding.
    """
    ranks = [stats.rankdata(values) for values in (x, y, z)]
    design = np.column_stack([np.ones(len(z)), ranks[2]])
    residuals = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    a, b = (np.where(np.abs(r) < 1e-9 * len(z), 0.0, r) for r in residuals)
    return a, b


def _bootstrap_interval(
    x: np.ndarray, y: np.ndarray, method: Method, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Resamples pairs.

    A resample in which a variable is constant has no coefficient and is left out.

    Returns:
        Both ends of the percentile interval.
    """
    statistic = _STATISTICS[method](x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(len(x)),),
            lambda models, axis: statistic(models, models),
            vectorized=True,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    tail = (1 - confidence) / 2
    ends = np.nanquantile(result.bootstrap_distribution, [tail, 1 - tail])
    low, high = np.clip(ends, -1.0, 1.0)  # rounding may carry a resample's r beyond 1
    return float(low), float(high)


def _permutation_p(
    x: np.ndarray, y: np.ndarray, method: Method, resamples: int, seed: int
) -> float:
    statistic = _STATISTICS[method](x, y)
    models = np.arange(len(x))
    result = stats.permutation_test(
        (models,),
        lambda order, axis: statistic(np.broadcast_to(models, order.shape), order),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        batch=1 + 10_000_000 // len(x) ** 2,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


# Each function below takes the variables of n models and returns a statistic of index arrays
# (…, n): which model each x, and which model each y, is taken from.


def _kendall(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    sign_x = np.sign(x[:, None] - x[None, :])
    sign_y = np.sign(y[:, None] - y[None, :])

    def resampled(models: np.ndarray) -> np.ndarray:
        flat = models.reshape(-1, len(x))
        counts = np.zeros(flat.shape)
        np.add.at(counts, (np.arange(len(flat))[:, None], flat), 1)
        concordance, pairs_x, pairs_y = (
            ((counts @ matrix) * counts).sum(-1)
            for matrix in (sign_x * sign_y, np.abs(sign_x), np.abs(sign_y))
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return (concordance / np.sqrt(pairs_x * pairs_y)).reshape(models.shape[:-1])

    def permuted(order_x: np.ndarray, order_y: np.ndarray) -> np.ndarray:
        a = sign_x[order_x[..., :, None], order_x[..., None, :]]
        b = sign_y[order_y[..., :, None], order_y[..., None, :]]
        untied = np.sqrt(np.abs(sign_x).sum() * np.abs(sign_y).sum())
        return np.einsum("...ij,...ij->...", a, b) / untied

    return lambda i, j: resampled(i) if i is j else permuted(i, j)


def _pearson(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda i, j: _pearson_of(x[i], y[j])


def _spearman(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda i, j: _pearson_of(stats.rankdata(x[i], axis=-1), stats.rankdata(y[j], axis=-1))


def _pearson_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


_STATISTICS = {"kendall": _kendall, "pearson": _pearson, "spearman": _spearman}
