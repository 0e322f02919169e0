"""Correlations of the compression study: over models, along training, and how tight bounds are."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.chen.inequalities import DENSE_NETWORKS, INEQUALITIES, TOLERANCE, log10_ratio
from flatness.chen.measured_rows import BoundTightness, FamilyCorrelation, MeasuredCheckpoint
from flatness.chen.quantities import SCATTER_LABELS, last_on_train, one_factor, with_derived
from flatness.config import Statistics
from flatness.frozen import canonical_json, content_hash
from flatness.statistics import MINIMUM_MODELS, correlate
from flatness.tables import provenance, read_tables, write_table

METHODS = ("pearson", "spearman", "kendall")

#: Pairs over models beyond those of the scatter matrix.
FURTHER_PAIRS = (
    ("mls", "bound_b_released"),
    ("mls", "bound_c_released"),
    ("mls", "adaptive_sharpness"),
    ("nmls", "adaptive_sharpness"),
    ("root_sharpness", "adaptive_sharpness"),
    ("generalisation_gap", "adaptive_sharpness"),
    ("sharpness", "hessian_trace"),
    ("mls", "test_loss"),
    ("root_sharpness", "test_loss"),
)

#: What learning rate, batch size and sharpness are said to move.
COMPRESSION = ("nmls", "mls", "log_volume_top3", "local_dimensionality")

#: Pairs that are looked at among models of one seed, and among models of one setting.
WITHIN_PAIRS = (
    *(("root_sharpness", y) for y in COMPRESSION),
    ("mls", "bound_d_released"),
    ("nmls", "nmls_bound_released"),
)


def correlate_family(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    measurements: Annotated[list[Path], typer.Option(help="measurement tables, one a block")],
    checkpoints: Annotated[Path, typer.Option(help="table of all checkpoints to write")],
    correlations: Annotated[Path, typer.Option(help="table of correlations to write")],
    bounds: Annotated[Path, typer.Option(help="table of bounds against values to write")],
) -> None:
    """Puts a family's measurements into one table, and correlates and compares their columns."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_tables(measurements, MeasuredCheckpoint).sort_values(
        ["setting", "seed", "step", "sampled"], ignore_index=True
    )
    experiment = content_hash(
        {"statistics": canonical_json(settings), "rows": sorted(measured["experiment"].unique())}
    )
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo")}
    common |= provenance(experiment, device=measured["device"].iloc[0])
    table = with_derived(measured)
    models = last_on_train(table)
    found = [
        *over_models(models, settings),
        *within(models, "seed", settings),
        *within(models, "setting", settings),
        *over_checkpoints(table, settings),
    ]
    rows = [FamilyCorrelation(**common, confidence=settings.confidence, **row) for row in found]
    write_table(checkpoints, [MeasuredCheckpoint(**row) for row in measured.to_dict("records")])
    write_table(correlations, rows)
    write_table(bounds, [BoundTightness(**common, **row) for row in tightness(table)])


def over_models(models: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Correlations over models at the end of training.

    Args:
        models: one row a model, with derived columns.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: each pair of the scatter matrix and `FURTHER_PAIRS` with
        every method; then learning rate and batch size with sharpness and compression, alone and
        with the training loss held fixed.
    """
    for x, y in (*combinations(SCATTER_LABELS, 2), *FURTHER_PAIRS):
        for method in METHODS:
            yield _over(models, "models", x, y, method, settings)
    for factor in ("learning_rate", "batch_size"):
        part = one_factor(models, factor)
        other = "batch_size" if factor == "learning_rate" else "learning_rate"
        held = part[other].iloc[0] if len(part) else np.nan
        over = f"models at {other.replace('_', ' ')} {held:g}"
        for y in ("root_sharpness", *COMPRESSION):
            for covariate in ("", "train_loss"):
                yield _over(part, over, factor, y, "spearman", settings, covariate)


def _over(
    models: pd.DataFrame,
    over: str,
    x: str,
    y: str,
    method: str,
    settings: Statistics,
    covariate: str = "",
) -> dict[str, Any]:
    """One correlation over models; NaN where fewer than three can be used."""
    names = list(dict.fromkeys([x, y, *([covariate] if covariate else [])]))
    finite = np.isfinite(models[names]).all(axis=1)
    used = models[finite]
    row = {"over": over, "x": x, "y": y, "covariate": covariate, "method": method}
    row |= {"n": len(used), "interpolated": int(used["interpolated"].sum())}
    row |= _excluded(models[~finite])
    if len(used) < MINIMUM_MODELS:
        return row | _coefficients(*[np.nan] * 5)
    a, b = used[x].to_numpy(float), used[y].to_numpy(float)
    if covariate:
        a, b = held_fixed(a, b, used[covariate].to_numpy(float))
        method = "pearson"
    result = correlate(
        a,
        b,
        method=method,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    return row | _coefficients(
        result.estimate, result.low, result.high, result.p_value, result.p_permutation
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


def within(models: pd.DataFrame, group: str, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Tells what settings do to models from what initial weights do.

    Over all models both are mixed: models of one seed share initial weights and differ by setting,
    models of one setting differ by seed.

    Args:
        models: one row a model, with derived columns.
        group: "seed" or "setting": what the models of a group share.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: `WITHIN_PAIRS` by Pearson's r of each group with three or
        more models, averaged over groups; nothing where there is no such group.
    """
    over = {"seed": "settings", "setting": "seeds"}[group]
    for x, y in WITHIN_PAIRS:
        finite = np.isfinite(models[[x, y]]).all(axis=1)
        found = [_pearson(part, x, y) for _, part in models[finite].groupby(group)]
        values = np.array([r for r in found if np.isfinite(r)])
        if not len(values):
            continue
        row = {"over": over, "x": x, "y": y, "covariate": "", "method": "pearson"}
        row |= {"n": len(values), "interpolated": int(models[finite]["interpolated"].sum())}
        yield row | _excluded(models[~finite]) | _mean_over_runs(values, settings)


def _pearson(models: pd.DataFrame, x: str, y: str) -> float:
    """Pearson's r; NaN for fewer than three models, or where a quantity does not vary."""
    a, b = models[x].to_numpy(), models[y].to_numpy()
    if len(models) < MINIMUM_MODELS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.pearsonr(a, b)[0])


def over_checkpoints(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Whether compression follows sharpness along training.

    Checkpoints of one run follow each other, so they are not independent: each run gives one
    coefficient, and runs are what the interval and the p-values are over.

    Args:
        table: rows with derived columns; runs with at least 4 checkpoints are used.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: sharpness with each measure of compression, alone and with
        the training loss held fixed; nothing where no run was measured along training.
    """
    table = table[table["sampled"] == "train"]
    runs = [run for _, run in table.groupby(["setting", "seed"]) if len(run) >= 4]
    if not runs:
        return
    for y in COMPRESSION:
        for covariate in ("", "train_loss"):
            names = ["root_sharpness", y, "train_loss"]
            whole = [run for run in runs if np.isfinite(run[names]).all(axis=None)]
            found = [_along(run, y, covariate) for run in whole]
            used = [run for run, r in zip(whole, found, strict=True) if np.isfinite(r)]
            left_out = [run.iloc[[-1]] for run in runs if not any(run is other for other in used)]
            row = {"over": "checkpoints", "x": "root_sharpness", "y": y}
            row |= {"covariate": covariate, "method": "spearman", "n": len(used)}
            row["interpolated"] = sum(bool(run["interpolated"].iloc[-1]) for run in used)
            row |= _excluded(pd.concat(left_out) if left_out else runs[0].iloc[:0])
            yield row | _mean_over_runs(np.array(found)[np.isfinite(found)], settings)


def _along(run: pd.DataFrame, y: str, covariate: str) -> float:
    """Spearman's (partial) correlation of √S and y over one run's checkpoints; NaN if constant."""
    a, b = run["root_sharpness"].to_numpy(), run[y].to_numpy()
    if covariate:
        a, b = held_fixed(a, b, run[covariate].to_numpy())
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.pearsonr(a, b)[0] if covariate else stats.spearmanr(a, b)[0])


def _mean_over_runs(values: np.ndarray, settings: Statistics) -> dict[str, float]:
    """Mean of the runs' or groups' coefficients, its t interval, t-test and sign-flip test."""
    if len(values) < MINIMUM_MODELS:
        return _coefficients(*[np.nan] * 5)
    if np.ptp(values) == 0:
        return _coefficients(float(values[0]), *[np.nan] * 4)
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(settings.confidence)
    flips = stats.permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=settings.resamples,
        rng=np.random.default_rng(settings.seed),
    )
    return _coefficients(
        float(values.mean()),
        max(float(interval.low), -1.0),
        min(float(interval.high), 1.0),
        float(test.pvalue),
        float(flips.pvalue),
    )


def tightness(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each bound against what it bounds, over all measured checkpoints.

    Args:
        table: rows of `MeasuredCheckpoint`.

    Yields:
        Columns of `BoundTightness`; bounds that are nowhere finite are left out.
    """
    dense = table["network"].isin(DENSE_NETWORKS).all()
    for inequality in INEQUALITIES:
        ratio = log10_ratio(table, inequality)
        ratio = ratio[np.isfinite(ratio)]
        if not len(ratio):
            continue
        violations = int((ratio < -TOLERANCE).sum())
        yield {
            "value": inequality.value,
            "bound": inequality.bound,
            "kind": "theorem" if inequality.theorem or dense else "heuristic",
            "median_log10_ratio": float(ratio.median()),
            "lowest_log10_ratio": float(ratio.min()),
            "violations": violations,
            "violation_rate": violations / len(ratio),
            "n": len(ratio),
        }


def _coefficients(
    estimate: float, low: float, high: float, p_value: float, p_permutation: float
) -> dict[str, float]:
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "p_value": p_value,
        "p_permutation": p_permutation,
    }


def _excluded(left_out: pd.DataFrame) -> dict[str, Any]:
    reasons = left_out["reason"].replace("", "a quantity is not finite or does not vary")
    counts = reasons.value_counts()
    text = "; ".join(f"{count} × {reason}" for reason, count in counts.items())
    return {"excluded": len(left_out), "reasons": text}
