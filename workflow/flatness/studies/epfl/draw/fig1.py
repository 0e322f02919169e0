"""Figure 1 of the EPFL report: test loss against worst-case sharpness, one panel a pool."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.epfl.rows import PoolCorrelation, PoolModel
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure, title


def draw_fig1(
    models: Annotated[list[Path], typer.Option(help="tables of models, one a pool")],
    correlations: Annotated[list[Path], typer.Option(help="tables of correlations, one a pool")],
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
            1, len(table), figsize=(3.6 * len(table), 3.7), layout="constrained", squeeze=False
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
        f"p = {correlation['p_value']:.2g}\n"
        f"published: τ = {correlation['published_tau']:+.3f}, p = {correlation['published_p']:.2g}"
    )
