"""Figure 1 of the EPFL report: test loss against worst-case sharpness, one panel per pool."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.epfl.published import scatter
from flatness.studies.epfl.rows import PoolCorrelation, PoolModel
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title


def draw_fig1(
    models: Annotated[list[Path], typer.Option(help="tables of models, one per pool")],
    correlations: Annotated[list[Path], typer.Option(help="tables of correlations, one per pool")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws the scatter of each pool with τ, its interval and the published τ in the title."""
    points = read_tables(models, PoolModel)
    table = read_tables(correlations, PoolCorrelation)
    table = table[table["measure"] == "worst_case_sharpness"]
    with figure_style():
        figure, axes = plt.subplots(
            1, len(table), figsize=(3.6 * len(table), 4.1), layout="constrained", squeeze=False
        )
        for axis, (_, correlation) in zip(axes[0], table.iterrows(), strict=True):
            draw_pool(axis, points[points["pool"] == correlation["pool"]], correlation)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(table["demo"].any()))


def draw_pool(axis: Axes, points: pd.DataFrame, correlation: pd.Series) -> None:
    """Draws one pool's scatter.

    Args:
        axis: where to draw.
        points: rows of `PoolModel` of one pool.
        correlation: the pool's row of `PoolCorrelation`.
    """
    if not correlation["demo"]:
        draw_published(axis, correlation["pool"])
    used = points[points["used"]]
    axis.errorbar(
        used["worst_case_sharpness"],
        used["test_loss"],
        xerr=used["worst_case_sharpness_se"],
        fmt="none",
        ecolor="0.8",
        elinewidth=0.8,
        zorder=1,
    )
    sns.scatterplot(data=used, x="worst_case_sharpness", y="test_loss", ax=axis, s=22, zorder=2)
    axis.set_xlabel("adaptive worst-case sharpness (± s.e.)", labelpad=12)
    axis.set_ylabel("test loss")
    axis.ticklabel_format(style="sci", axis="x", scilimits=(-2, 3), useMathText=True)
    left_out = f", {correlation['excluded']} left out" if correlation["excluded"] else ""
    axis.set_title(
        f"{title(correlation['pool'])} on {title(correlation['dataset'])}, "
        f"{correlation['n']} models{left_out}\n"
        f"τ = {correlation['tau']:+.3f} [{correlation['low']:+.2f}, {correlation['high']:+.2f}], "
        f"p = {correlation['p_value']:.2g}{reliable(correlation)}\n"
        f"published: τ = {correlation['published_tau']:+.3f} "
        f"[{correlation['published_low']:+.2f}, {correlation['published_high']:+.2f}], "
        f"p = {correlation['published_p']:.2g}"
    )


def reliable(correlation: pd.Series) -> str:
    """The line on reliability and corrected τ; empty if there is no standard error."""
    if np.isnan(correlation["reliability"]):
        return ""
    return (
        f"\nreliability {correlation['reliability']:.2f}, "
        f"so about {correlation['tau_corrected']:+.3f} without noise"
    )


def draw_published(axis: Axes, pool: str) -> None:
    """Draws the published scatter behind ours, its sharpness on an axis of its own at the top.

    The published sharpness is that of the released code, up to 500 times the written one.

    Args:
        axis: where our scatter is drawn.
        pool: fcnn, lenet5 or gat.
    """
    dots = scatter(pool)
    top = axis.twiny()
    top.plot(
        dots["worst_case_sharpness"], dots["test_loss"], "x", color="C3", ms=4, mew=0.9, alpha=0.6
    )
    top.tick_params(axis="x", colors="C3", labelsize="small")
    top.set_xlabel("published sharpness (crosses)", color="C3", fontsize="small")
    axis.set_zorder(top.get_zorder() + 1)
    axis.patch.set_visible(False)
