"""The pairwise scatter matrix of a family: points below the diagonal, Pearson's r above it."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.chen.draw.common import (
    MARKERS,
    Checkpoints,
    Correlations,
    colours,
    pearson,
    pearson_text,
    read_checkpoints,
    setting_order,
    share_legend,
    shown,
    size,
    subject,
)
from flatness.studies.chen.measured_rows import FamilyCorrelation
from flatness.studies.chen.quantities import SCATTER_LABELS, last_on_train
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

#: How bright red, green and blue look (Rec. 709).
LUMINANCE = (0.2126, 0.7152, 0.0722)


def draw_scatter(
    checkpoints: Checkpoints, correlations: Correlations, png: Png, svg: Svg, dpi: Dpi = 150
) -> None:
    """Draws every pair of quantities of one family, one point per model."""
    models = last_on_train(read_checkpoints(checkpoints))
    table = read_tables(correlations, FamilyCorrelation)
    names = list(SCATTER_LABELS)
    used = np.isfinite(models[names]).all(axis=1)
    with figure_style():
        figure, axes = plt.subplots(
            len(names), len(names), figsize=(10, 10.4), layout="constrained"
        )
        for row, y in enumerate(names):
            for column, x in enumerate(names):
                axis = axes[row, column]
                if row > column:
                    draw_points(axis, models[np.isfinite(models[[x, y]]).all(axis=1)], x, y)
                elif row == column:
                    draw_histogram(axis, models[x])
                else:
                    draw_coefficient(axis, pearson(table, x, y))
                label_edges(axis, row, column, len(names))
        note = f"{subject(models)}: {shown(models, used)}\n{size(models)}"
        share_legend(figure, axes[1, 0], note)
        figure.align_ylabels(axes[:, 0])
        save_figure(figure, png, svg, dpi=dpi, demo=bool(models["demo"].any()))


def draw_points(axis: Axes, models: pd.DataFrame, x: str, y: str) -> None:
    """One point per model, coloured by setting."""
    levels = setting_order(models)
    palette = colours(levels)
    for level, marker in zip(levels, cycle(MARKERS), strict=False):
        part = models[models["setting"] == level]
        axis.plot(part[x], part[y], marker, ls="", ms=3.2, mew=0, color=palette[level], label=level)


def draw_histogram(axis: Axes, values: pd.Series) -> None:
    """How the models spread."""
    finite = values[np.isfinite(values)]
    if len(finite):
        axis.hist(finite, bins="sqrt" if np.ptp(finite) > 0 else 1, color="0.7")


def draw_coefficient(axis: Axes, found: tuple[float, float, float]) -> None:
    """Pearson's r and its interval on a background whose colour tells sign and size."""
    dark = False
    if np.isfinite(found[0]):
        colour = sns.color_palette("vlag", as_cmap=True)((round(found[0], 2) + 1) / 2)
        axis.set_facecolor(colour)
        dark = np.dot(colour[:3], LUMINANCE) < 0.5
    axis.text(
        0.5,
        0.5,
        pearson_text(found).removeprefix("r = "),
        transform=axis.transAxes,
        ha="center",
        va="center",
        fontsize=8,
        color="white" if dark else "black",
    )
    sns.despine(ax=axis, left=True, bottom=True)
    axis.set(xticks=[], yticks=[])


def label_edges(axis: Axes, row: int, column: int, size: int) -> None:
    """Names on the outer edges only; ticks only where there is room to read them."""
    names = list(SCATTER_LABELS.values())
    axis.tick_params(labelsize=6, length=2)
    axis.locator_params(nbins=3)
    axis.ticklabel_format(style="sci", scilimits=(-2, 3)) if row >= column else None
    axis.xaxis.get_offset_text().set_fontsize(6)
    axis.yaxis.get_offset_text().set_fontsize(6)
    if row < size - 1:
        axis.set_xticklabels([])
    if column > 0 or row == 0:
        axis.set_yticklabels([])
    if row == size - 1:
        axis.set_xlabel(names[column], fontsize=8)
    if column == 0:
        axis.set_ylabel(names[row], fontsize=8)
