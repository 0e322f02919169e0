"""Correlations with their uncertainty: Kendall's τ-b, Pearson's r, Spearman's ρ.

Bootstrap intervals and permutation p-values come from scipy; the statistics handed to it are
vectorised over resamples. What is drawn are groups of models that share something random, such as
initial weights: drawing single models would take them for independent. For τ the signs of all pairs
are formed once: with c_i the number of times model i was drawn, a resample's concordance is
cᵀ(A∘B)c.
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
#: Fewer groups have too few different resamples: the interval would be far too short.
MINIMUM_GROUPS = 5


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient over n models.

    Attributes:
        method: "kendall" (τ-b), "pearson" or "spearman".
        estimate: the coefficient; NaN below 3 models and where one variable is constant.
        low: lower end of the bootstrap interval; NaN with the estimate, and below 5 groups.
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
    groups: np.ndarray | None = None,
    given: np.ndarray | None = None,
    resamples: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Correlates two finite variables.

    Args:
        x: shape (n,), one value a model.
        y: shape (n,).
        method: coefficient.
        groups: shape (n,), equal for models that are not independent; None where all are. The
            interval heeds them; both p-values take models for independent.
        given: shape (n,), a covariate held fixed: Spearman's partial correlation.
        resamples: bootstrap resamples, and permutations.
        confidence: level of the interval.
        seed: seed of both.

    Returns:
        The coefficient, its percentile bootstrap interval and both p-values; all NaN below 3
        models, 4 with a covariate, and where a variable is constant, since no order exists then.

    Raises:
        NumericalError: a value is not finite.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NumericalError("a correlation over values that are not finite; exclude them first")
    kind, least = method, MINIMUM_MODELS
    if given is not None:
        x, y = held_fixed(x, y, np.asarray(given, dtype=float))
        kind, least = "pearson", MINIMUM_MODELS + 1
    if len(x) < least or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(method, *[float("nan")] * 5, n=len(x))
    coefficient = _STATISTICS[kind](x, y)
    draws = {"resamples": resamples, "seed": seed}
    low, high = bootstrap_interval(
        lambda models: coefficient(models, models),
        np.arange(len(x)) if groups is None else groups,
        confidence=confidence,
        **draws,
    )
    estimate, p_value = _ASYMPTOTIC[kind](x, y)
    if given is not None:
        p_value = _partial_p(estimate, len(x))
    return Correlation(
        method=method,
        estimate=float(estimate),
        low=float(np.maximum(low, -1.0)),  # rounding may carry a resample's r beyond 1
        high=float(np.minimum(high, 1.0)),
        p_value=float(p_value),
        p_permutation=permutation_p(coefficient, len(x), **draws),
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


def _partial_p(estimate: float, n: int) -> float:
    """Two-sided p-value of a partial correlation: one degree of freedom goes to the covariate."""
    rest = max(1 - estimate**2, np.finfo(float).tiny)
    return float(2 * stats.t.sf(abs(estimate) * np.sqrt((n - 3) / rest), n - 3))


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    """Draws groups of models with replacement, all models of a group with it.

    A resample in which the statistic is NaN, as where a variable is constant, is left out.

    Args:
        statistic: takes models by number, (r, m), and returns (r,).
        groups: (n,), the group of each model.
        resamples: how many.
        confidence: level of the interval.
        seed: of the draws.

    Returns:
        Both ends of the percentile interval; NaN below 5 groups.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < MINIMUM_GROUPS:
        return np.nan, np.nan
    by_group = np.argsort(group, kind="stable")
    starts = sizes.cumsum() - sizes

    def models_of(draws: np.ndarray) -> np.ndarray:
        drawn = draws.ravel()
        many = sizes[drawn]
        within = np.arange(many.sum()) - np.repeat(many.cumsum() - many, many)
        return by_group[np.repeat(starts[drawn], many) + within].reshape(len(draws), -1)

    def of_groups(draws: np.ndarray, axis: int) -> np.ndarray:
        flat = draws.reshape(-1, len(sizes))
        values, totals = np.empty(len(flat)), sizes[flat].sum(1)
        for total in np.unique(totals):
            values[totals == total] = statistic(models_of(flat[totals == total]))
        return values.reshape(draws.shape[:-1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (np.arange(len(sizes)),),
            of_groups,
            vectorized=True,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def permutation_p(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n: int,
    *,
    resamples: int,
    seed: int,
) -> float:
    """Two-sided p-value of a statistic when one variable's models change places.

    Args:
        statistic: takes the models of either variable by number, (r, n) each, and returns (r,).
        n: models.
        resamples: permutations.
        seed: of the permutations.

    Returns:
        The p-value.
    """
    models = np.arange(n)
    result = stats.permutation_test(
        (models,),
        lambda order, axis: statistic(np.broadcast_to(models, order.shape), order),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        batch=1 + 10_000_000 // n**2,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def mean_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The t interval of a mean over independent values, (n,); NaN for fewer than two."""
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.sem(values) * stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    return float(values.mean() - half), float(values.mean() + half)


# Each function below takes the variables of n models and returns a statistic of index arrays
# (…, n): which model each x, and which model each y, is taken from.


def _kendall(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    sign_x = np.sign(x[:, None] - x[None, :])
    sign_y = np.sign(y[:, None] - y[None, :])

    def resampled(models: np.ndarray) -> np.ndarray:
        flat = models.reshape(-1, models.shape[-1])
        counts = np.zeros((len(flat), len(x)))
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
    return lambda i, j: pearson(x[i], y[j])


def _spearman(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda i, j: pearson(stats.rankdata(x[i], axis=-1), stats.rankdata(y[j], axis=-1))


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's r along the last axis; NaN where a variable is constant."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


_STATISTICS = {"kendall": _kendall, "pearson": _pearson, "spearman": _spearman}
_ASYMPTOTIC = {"kendall": stats.kendalltau, "pearson": stats.pearsonr, "spearman": stats.spearmanr}
