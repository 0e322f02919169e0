"""Figure 4 of Chen et al.: average-case sharpness against normalized MLS, a colour per family."""

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import typer
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from flatness.records.tables import read_table
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title, value
from flatness.studies.transformers.rows import BETWEEN, WITHIN, PlacedVit, VitCorrelation

PANELS = {
    "exact": "exact: power iteration, pairs ±δ",
    "released": "released: 30 Adam steps, single δ",
}
MARKERS = "osD^vP<X>*phd"
LABELLED = 5  # outliers named in a panel


def draw_fig4(
    models: Annotated[Path, typer.Option(help="table of models, by correlate-transformers")],
    correlations: Annotated[Path, typer.Option(help="table of correlations")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws one panel an estimator, with Pearson's r and Kendall's τ over all models."""
    placed = read_table(models, PlacedVit)
    table = read_table(correlations, VitCorrelation)
    table = table[(table["x"] == "normalized_mls") & (table["y"] == "average_case_sharpness")]
    with figure_style():
        styles = family_styles(placed["family"])
        figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.4), layout="constrained", sharey=True)
        for axis, (estimator, heading) in zip(axes, PANELS.items(), strict=True):
            draw_panel(axis, placed[placed["estimator"] == estimator], styles)
            found = describe(table[table["estimator"] == estimator])
            axis.set_title(f"{subject(placed)}\n{heading}\n{found}", fontsize=8)
            axis.label_outer()
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="none", label=family)
            for family, (colour, marker) in styles.items()
        ]
        handles.append(
            Line2D([], [], color="0.3", marker="o", mfc="none", linestyle="none", label="left out")
        )
        figure.legend(handles=handles, loc="outside right upper", frameon=False, title="family")
        save_figure(figure, png, svg, dpi=dpi, demo=bool(placed["demo"].any()))


def family_styles(families: Iterable[str]) -> dict[str, tuple[tuple[float, ...], str]]:
    """A colour and a marker for each family; unique for up to 60 families."""
    palette = sns.color_palette("colorblind")
    return dict(zip(sorted(set(families)), zip(cycle(palette), cycle(MARKERS)), strict=False))


def draw_panel(
    axis: Axes, points: pd.DataFrame, styles: dict[str, tuple[tuple[float, ...], str]]
) -> None:
    """Draws the models with standard errors, those left out hollow, and names the outliers.

    Args:
        axis: where to draw.
        points: rows of `PlacedVit` of one estimator.
        styles: colour and marker of each family.
    """
    axis.set(
        xlabel="normalized MLS",
        ylabel="average-case adaptive sharpness",
        xscale="log",
        yscale="log",
    )
    axis.xaxis.set_minor_formatter(NullFormatter())  # the labels would overlap
    used = points[points["used"]]
    placeable = (points[["normalized_mls", "average_case_sharpness"]] > 0).all(axis=1)
    if not placeable.any():
        axis.text(0.5, 0.5, "no model to show", ha="center", transform=axis.transAxes)
    for (family, is_used), members in points[placeable].groupby(["family", "used"]):
        colour, marker = styles[family]
        axis.errorbar(
            members["normalized_mls"],
            members["average_case_sharpness"],
            xerr=members["normalized_mls_se"],
            yerr=members["average_case_sharpness_se"],
            color=colour,
            fmt=marker,
            markersize=5,
            markerfacecolor=colour if is_used else "none",
            elinewidth=0.7 if is_used else 0.3,
        )
    outliers = used[used["outlier"]].sort_values("score", key=abs, ascending=False)
    for row in outliers.head(LABELLED).itertuples():
        axis.annotate(
            row.model,
            (row.normalized_mls, row.average_case_sharpness),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=6,
        )


def subject(placed: pd.DataFrame) -> str:
    """The models in words."""
    if placed["pretrained"].any():
        return "pretrained models on ImageNet"
    return f"small models trained here on {title(placed['dataset'].iloc[0])}"


def describe(table: pd.DataFrame) -> str:
    """Numbers of models and correlations over all of them.

    Args:
        table: rows of `VitCorrelation` of one estimator and one pair of quantities.

    Returns:
        Lines for a title.
    """
    whole = table[table["group"] == "all"].set_index("method")
    pearson, kendall = whole.loc["pearson of logarithms"], whole.loc["kendall"]
    left_out = f", {kendall['excluded']} left out" if kendall["excluded"] else ""
    parts = table[table["method"] == "kendall"].set_index("group")
    coefficients = [
        f"{symbol} = {value(*row[['estimate', 'low', 'high']])}"
        for symbol, row in (
            ("Pearson's r of logarithms", pearson),
            ("Kendall's τ", kendall),
            ("τ between families", parts.loc[BETWEEN]),
            ("within families", parts.loc[WITHIN]),
        )
    ]
    return "\n".join([f"n = {kendall['n']} models{left_out}", *coefficients])
