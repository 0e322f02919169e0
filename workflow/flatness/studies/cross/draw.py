"""The figure `cross_measures`: τ of every measure with test loss and gap, one block a paper."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from flatness.records.tables import read_table
from flatness.studies.cross.measures import LOSSES
from flatness.studies.cross.rows import CrossCorrelation
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title

#: Rows of the heat map, as they are called in it.
MEASURE_LABELS = {
    "worst_case_strong": "worst-case adaptive\nsharpness (strong)",
    "worst_case_written": "worst-case adaptive\nsharpness (written)",
    "worst_case_released": "worst-case adaptive\nsharpness (released)",
    "average_case_sharpness": "average-case adaptive\nsharpness",
    "root_sharpness": "sharpness √S",
    "mls": "MLS",
    "nmls": "NMLS",
    "bound_d_released": "MLS bound D",
    "nmls_bound_released": "NMLS bound",
    "normalized_mls": "normalized MLS",
    "log_volume_top3": "log volume",
    "local_dimensionality": "local dimensionality",
    "relative_flatness": "relative flatness",
}
LOSS_LABELS = {"test_loss": "test\nloss", "loss_gap": "loss gap"}
STUDY_TITLES = {
    "chen": "Models of Chen, Recanatesi and Shea-Brown",
    "epfl": "Models of Hammoud, Liossatos and Nicollier",
}
SIGNIFICANT = 0.05
COLOURS = "RdBu_r"
NORM = Normalize(-1, 1)


def draw_measures(
    correlations: Annotated[Path, typer.Option(help="table of correlate-cross")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws the heat map: rows are measures, columns families and pools by kind of loss."""
    table = read_table(correlations, CrossCorrelation)
    table = table[table["method"] == "kendall"]
    blocks = [(study, part) for study, part in table.groupby("study", sort=True)]
    heights = [part["measure"].nunique() + 2.5 for _, part in blocks]
    widest = max(part["models"].nunique() for _, part in blocks)
    with figure_style():
        figure, axes = plt.subplots(
            len(blocks),
            1,
            figsize=(2.2 + 1.25 * widest, 1.2 + 0.33 * sum(heights)),
            height_ratios=heights,
            layout="constrained",
            squeeze=False,
        )
        for axis, (study, part) in zip(axes[:, 0], blocks, strict=True):
            draw_block(axis, part, widest)
            axis.set_title(STUDY_TITLES[study], fontweight="bold", loc="left", pad=40)
        bar = figure.colorbar(
            ScalarMappable(NORM, COLOURS), ax=axes[-1, 0], location="bottom", aspect=40, pad=0.02
        )
        bar.set_label(
            f"Kendall's τ over models;  * q < {SIGNIFICANT:g}, of intervals over seeds;\n"
            "hatched: not defined, or the same for all models",
            fontsize=9,
        )
        save_figure(figure, png, svg, dpi=dpi, demo=bool(table["demo"].any()))


def draw_block(axis: Axes, table: pd.DataFrame, widest: int) -> None:
    """Draws one paper's models.

    Args:
        axis: where to draw.
        table: rows of `CrossCorrelation`, Kendall's, of one study.
        widest: families or pools of the widest block, so that cells are alike in all.
    """
    groups = list(table["models"].unique())
    measures = [name for name in MEASURE_LABELS if name in set(table["measure"])]
    cells = table.set_index(["measure", "models", "loss"])
    for row, measure in enumerate(measures):
        for column, key in enumerate((group, loss) for group in groups for loss in LOSSES):
            place = (measure, *key)
            draw_cell(axis, column, row, cells.loc[place] if place in cells.index else None)
    axis.set_xlim(0, len(LOSSES) * widest)
    axis.set_ylim(len(measures), 0)
    axis.set_yticks(np.arange(len(measures)) + 0.5, [MEASURE_LABELS[name] for name in measures])
    columns = [LOSS_LABELS[loss] for _ in groups for loss in LOSSES]
    axis.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axis.tick_params(length=0, labelsize=8.5)
    axis.spines[:].set_visible(False)
    for index, group in enumerate(groups):
        part = table[table["models"] == group]
        axis.text(
            len(LOSSES) * (index + 0.5),
            -0.15,
            _heading(group, part),
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
        axis.axvline(len(LOSSES) * (index + 1), color="white", linewidth=4)


def _heading(group: str, table: pd.DataFrame) -> str:
    """Network, data set and number of models, a line each."""
    models, dataset = title(group), title(table["dataset"].iloc[0])
    return f"{models}\n{dataset}\nn = {table['n'].max()}"


def draw_cell(axis: Axes, column: int, row: int, found: pd.Series | None) -> None:
    """Draws one cell: its colour and τ, a star where q is small, hatching where there is no τ."""
    if found is None or not np.isfinite(found["estimate"]):
        axis.add_patch(
            plt.Rectangle(
                (column, row), 1, 1, facecolor="0.93", edgecolor="0.75", hatch="////", lw=0
            )
        )
        return
    tau = found["estimate"]
    colour = plt.get_cmap(COLOURS)(NORM(tau))
    axis.add_patch(plt.Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white"))
    star = "*" if found["q_value"] < SIGNIFICANT else ""
    axis.text(
        column + 0.5,
        row + 0.5,
        f"{tau:+.2f}{star}".replace("-", "−"),
        ha="center",
        va="center",
        fontsize=8.5,
        color="white" if abs(tau) > 0.5 else "black",
        fontweight="bold" if star else "normal",
    )
