"""Correlations with their uncertainty: Kendall's τ-b, Pearson's r, Spearman's ρ.

Models that share something random, such as initial weights, are not independent. They form a group,
and intervals are over groups. The interval is the delete-one-group jackknife-t on Fisher's z (Efron
and Tibshirani 1993, chapter 11; Fisher 1921), without resampling. For 20 groups of five models it
has the stated coverage, unlike percentile bootstrap intervals: see `tests/test_coverage.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from flatness.errors import NumericalError

Method = Literal["kendall", "pearson", "spearman"]
MINIMUM_MODELS = 3
#: With fewer groups, the differences between groups are not known well enough.
MINIMUM_GROUPS = 5
#: If jackknife values differ by less than this, they are at a ceiling and have no spread.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """An interval and its test.

    Attributes:
        low: lower end; NaN if there is none.
        high: upper end.
        p_value: two-sided p-value of zero: below 1 − confidence where the interval excludes 0.
    """

    low: float
    high: float
    p_value: float


NO_INTERVAL = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient over n models.

    Attributes:
        method: "kendall" (τ-b), "pearson" or "spearman".
        estimate: the coefficient; NaN below 3 models and where one variable is constant.
        low: lower end of its interval; NaN if the estimate is NaN, below 5 groups, and if no group
            changes the estimate.
        high: upper end.
        p_value: two-sided, of the interval.
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
        x: shape (n,), one value per model.
        y: shape (n,).
        method: coefficient.
        groups: shape (n,), equal for models that are not independent; None if all models are
            independent.
        given: shape (n,), a covariate held fixed: Spearman's partial correlation.
        resamples: permutations.
        confidence: level of the interval.
        seed: of the permutations.

    Returns:
        The coefficient, its interval over groups and both p-values; all NaN below 3 models (4 with
        a covariate) and if a variable is constant. Permutations exchange models of the same group,
        or all models if no group has two.

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
    coefficient = COEFFICIENTS[kind]
    groups = np.arange(len(x)) if groups is None else np.asarray(groups)
    interval = jackknife_interval(
        lambda kept: float(coefficient(x[kept], y[kept])), groups, confidence=confidence
    )
    return Correlation(
        method=method,
        estimate=float(coefficient(x, y)),
        low=interval.low,
        high=interval.high,
        p_value=interval.p_value,
        p_permutation=permutation_p(
            lambda orders: coefficient(x, y[orders]), groups, resamples=resamples, seed=seed
        ),
        n=len(x),
    )


def held_fixed(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of x and y minus the part that the ranks of z explain linearly.

    Their Pearson correlation is Spearman's partial correlation of x and y given z.

    Args:
        x: (n,), one value per model or checkpoint.
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


def jackknife_interval(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    *,
    confidence: float,
    scale: Literal["fisher", "plain"] = "fisher",
) -> Interval:
    """Leaves out one group at a time; uses Student's t on the jackknife's standard error.

    Args:
        statistic: function of the indices of the models that are kept.
        groups: (n,), the group of each model.
        confidence: level of the interval.
        scale: "fisher" for a correlation, whose interval is formed on Fisher's z and so stays
            within ±1; "plain" for any other statistic.

    Returns:
        The interval, around the estimate, and its p-value; all NaN below 5 groups, if the
        statistic is undefined or ±1 without some group, and if no group changes it. At such a
        ceiling the jackknife has no spread, and an interval of zero width would be false.
    """
    names, group = np.unique(groups, return_inverse=True)
    count = len(names)
    if count < MINIMUM_GROUPS:
        return NO_INTERVAL
    there, back = (np.arctanh, np.tanh) if scale == "fisher" else (np.asarray, np.asarray)
    models = np.arange(len(group))
    values = np.array([statistic(models), *(statistic(models[group != g]) for g in range(count))])
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate, *without = there(np.clip(values, -1, 1) if scale == "fisher" else values)
    without = np.array(without)
    if not np.isfinite(estimate + without.sum()) or np.ptp(without) < ROUNDING:
        return NO_INTERVAL
    error = np.sqrt((count - 1) ** 2 / count) * np.std(without, ddof=1)
    half = error * stats.t.ppf((1 + confidence) / 2, count - 1)
    return Interval(
        low=float(back(estimate - half)),
        high=float(back(estimate + half)),
        p_value=float(2 * stats.t.sf(abs(estimate) / error, count - 1)),
    )


def permutation_p(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> float:
    """Two-sided p-value of a statistic under permutations of one variable within groups.

    Permutations keep what groups share, so dependence within groups does no harm. If every group
    has one model, all models are permuted.

    Args:
        statistic: maps orders of the models, (r, n), to values (r,).
        groups: (n,), the group of each model.
        resamples: permutations.
        seed: of the permutations.

    Returns:
        The p-value, at least 2 / (resamples + 1) (Phipson and Smyth 2010).
    """
    _, group = np.unique(groups, return_inverse=True)
    if group.max() + 1 == len(group):
        group = np.zeros_like(group)
    rng, count = np.random.default_rng(seed), len(group)
    # Sorted by group, then at random, the models of a group keep its places.
    places = np.argsort(group, kind="stable")
    observed = statistic(np.arange(count)[None])[0]
    above = below = 0
    batch = 1 + 10_000_000 // count**2
    for start in range(0, resamples, batch):
        keys = group + rng.random((min(batch, resamples - start), count))
        orders = np.empty(keys.shape, dtype=int)
        orders[:, places] = np.argsort(keys, axis=1)
        values = statistic(orders)
        above += int((values >= observed - ROUNDING).sum())
        below += int((values <= observed + ROUNDING).sum())
    return min(1.0, 2 * (1 + min(above, below)) / (resamples + 1))


def mean_interval(values: np.ndarray, confidence: float) -> Interval:
    """The t interval and test of a mean of independent values, (n,); NaN if all are equal."""
    if len(values) < 2 or np.ptp(values) == 0:
        return NO_INTERVAL
    error = stats.sem(values)
    half = error * stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    return Interval(
        low=float(values.mean() - half),
        high=float(values.mean() + half),
        p_value=float(2 * stats.t.sf(abs(values.mean()) / error, len(values) - 1)),
    )


def sign_flip_p(values: np.ndarray, *, resamples: int, seed: int) -> float:
    """Two-sided p-value of the mean of independent values under random signs.

    Args:
        values: (n,), at least two.
        resamples: number of sign patterns to draw; all patterns if there are fewer.
        seed: of the draws.

    Returns:
        The p-value.
    """
    flips = stats.permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return float(flips.pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number (Holm 1979), so that all verdicts hold together.

    Args:
        p_values: (m,); NaN if nothing is tested, which does not count.

    Returns:
        Adjusted p-values (m,), at most 1.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN are sorted last
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


# Coefficients of variables (…, n) along their last axis; NaN where a variable is constant.


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's r."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's ρ: Pearson's r of average ranks."""
    return pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kendall's τ-b."""
    signs = [np.sign(values[..., :, None] - values[..., None, :]) for values in (a, b)]
    untied = [np.abs(sign).sum((-1, -2)) for sign in signs]
    concordance = np.einsum("...ij,...ij->...", *signs)
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordance / np.sqrt(untied[0] * untied[1])


COEFFICIENTS: dict[Method, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "kendall": kendall,
    "pearson": pearson,
    "spearman": spearman,
}
