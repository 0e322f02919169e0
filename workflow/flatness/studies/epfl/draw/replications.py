"""The τ of every replication of each pool, with the published τ."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.epfl.rows import Replication, TauDistribution
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title, value


def draw_replications(
    replications: Annotated[list[Path], typer.Option(help="tables of replications, one per pool")],
    distributions: Annotated[list[Path], typer.Option(help="tables of distributions, by pool")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws each pool's sorted τ with mean, intervals and the published value."""
    taus = read_tables(replications, Replication)
    table = read_tables(distributions, TauDistribution)
    with figure_style():
        figure, axes = plt.subplots(
            1,
            len(table),
            figsize=(max(3.4 * len(table), 4.6), 4.2),
            layout="constrained",
            squeeze=False,
            sharex=True,
        )
        for axis, (_, summary) in zip(axes[0], table.iterrows(), strict=True):
            draw_pool(axis, taus[taus["pool"] == summary["pool"]], summary)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(table["demo"].any()))


def draw_pool(axis: Axes, taus: pd.DataFrame, summary: pd.Series) -> None:
    """Draws one pool's replications, sorted by τ.

    Args:
        axis: where to draw.
        taus: rows of `Replication` of one pool.
        summary: the pool's row of `TauDistribution`.
    """
    sorted_taus = taus.dropna(subset="tau").sort_values("tau")
    order = np.arange(1, len(sorted_taus) + 1)
    level = f"{100 * summary['confidence']:g} %"
    bands = {
        "predictive_": (f"{level} of single replications", "0.92"),
        "": (f"{level} interval of the mean", "0.75"),
    }
    for prefix, (label, colour) in bands.items():
        low, high = (summary[f"{prefix}{end}"] for end in ("low", "high"))
        # an empty span for a lone replication, so that the legend is the same
        span = (low, high) if np.isfinite(low + high) else (np.nan, np.nan)
        axis.axvspan(*span, color=colour, lw=0, label=label, zorder=0)
    axis.axvline(summary["mean_tau"], color="0.3", lw=1.2, label="mean", zorder=1)
    published = summary["published_tau"]
    axis.axvline(published, color="C3", ls="--", lw=1.2, label="published τ", zorder=3)
    axis.errorbar(
        sorted_taus["tau"],
        order,
        xerr=[sorted_taus["tau"] - sorted_taus["low"], sorted_taus["high"] - sorted_taus["tau"]],
        fmt="o",
        ms=3,
        elinewidth=0.5,
        ecolor="C0",
        label="τ of a replication, with its interval",
        zorder=2,
    )
    axis.axvline(0, color="0.6", lw=0.6, zorder=1)
    axis.set_ylim(0, len(order) + 1)
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("Kendall's τ of sharpness and test loss")
    axis.set_ylabel("replications, by τ")
    axis.set_title(describe(summary))


def describe(summary: pd.Series) -> str:
    """Counts, mean τ with interval, published τ and where it falls."""
    left_out = f", {summary['excluded']} without τ" if summary["excluded"] else ""
    mean = value(*summary[["mean_tau", "low", "high"]], digits=3)
    return (
        f"{title(summary['pool'])} on {title(summary['dataset'])}, "
        f"{summary['replications']} × {summary['replication_size']} models{left_out}\n"
        f"as {summary['trained']}: mean τ = {mean}\n"
        f"{', '.join([corrected(summary), *splits(summary)])}\n"
        f"published: τ = {summary['published_tau']:+.3f}, "
        f"{place(summary['percentile'], summary['replications'])}"
    )


def corrected(summary: pd.Series) -> str:
    """The mean τ corrected for the noise of the restarts, where the noise is known."""
    tau = summary["mean_tau_corrected"]
    return f"corrected {tau:+.3f}" if np.isfinite(tau) else "noise of restarts unknown"


def splits(summary: pd.Series) -> list[str]:
    """Such as "12 splits (sd .05)"; nothing for the report's alone."""
    if summary["splits"] == 1:
        return []
    part = f" (sd {summary['split_sd']:.2f})" if np.isfinite(summary["split_sd"]) else ""
    return [f"{summary['splits']} splits{part}"]


def place(percentile: float, replications: int) -> str:
    """Such as "above 7 of 20": a count, as a small percentile reads like a p-value.

    Args:
        percentile: (k + 1)/(R + 1) for k replications not above the published τ.
        replications: R.

    Returns:
        How many replications the published τ lies above; "all", or "it" for the only one,
        where it lies outside of them.
    """
    under = round(percentile * (replications + 1)) - 1
    if under in (0, replications):
        others = "it" if replications == 1 else f"all {replications}"
        return f"{'above' if under else 'below'} {others}"
    return f"above {under} of {replications}"
