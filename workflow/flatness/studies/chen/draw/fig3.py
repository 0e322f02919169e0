"""Figure 3: MLS and NMLS against their bounds, one point per model."""

from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
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
from flatness.studies.chen.matched import END, MATCHED, at_loss, at_name
from flatness.studies.chen.measured_rows import FamilyCorrelation
from flatness.studies.chen.quantities import last_on_train
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

PANELS = (
    ("mls", "bound_d_released", "MLS", "bound D"),
    ("nmls", "nmls_bound_released", "NMLS", "NMLS bound"),
)
MATCHED_AT = at_name(MATCHED)
HEADINGS = {END: "at the end of training", MATCHED_AT: f"at training loss {MATCHED:g}"}
#: Letters a line above a panel.
COLUMN = 46
#: What r is over, in the words of the table and of the figure.
LEVELS = {"models": "all", "settings": "within a seed", "seeds": "within a setting"}


def draw_fig3(
    checkpoints: Checkpoints, correlations: Correlations, png: Png, svg: Svg, dpi: Dpi = 150
) -> None:
    """Draws MLS and NMLS against their bounds, one point per model, one column per family.

    Each pair stands at equal steps and at equal losses, with r over all models, over the settings
    of a seed and over the seeds of a setting.
    """
    measured = read_checkpoints(checkpoints)
    table = read_tables(correlations, FamilyCorrelation)
    families, levels = list(measured["family"].unique()), setting_order(measured)
    with figure_style():
        figure, axes = plt.subplots(
            4, len(families), figsize=(3.1 * len(families), 11), layout="constrained", squeeze=False
        )
        for column, family in zip(axes.T, families, strict=True):
            part, found = (frame[frame["family"] == family] for frame in (measured, table))
            compared = {END: last_on_train(part), MATCHED_AT: at_loss(part, MATCHED)}
            cells = [(panel, at) for panel in PANELS for at in compared]
            for axis, ((value, bound, name, bound_name), at) in zip(column, cells, strict=True):
                models = compared[at]
                used = np.isfinite(models[[value, bound]]).all(axis=1)
                if used.any():
                    text = levels_text(found[found["at"] == at], value, bound)
                    draw_bound(axis, models, levels, text, value, bound)
                    axis.set(xlabel=bound_name, ylabel=name)
                else:
                    axis.axis("off")
                note = "not measured along training"
                if len(models):
                    note = fill(shown(models, used), COLUMN)
                axis.set_title(f"{HEADINGS[at]}\n{note}", fontsize=7)
            heading = f"{subject(part)}\n{fill(size(part[part['sampled'] == 'train']), COLUMN)}"
            column[0].set_title(f"{heading}\n{column[0].get_title()}", fontsize=7)
        share_legend(figure, axes[0, 0], "setting", 3)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(measured["demo"].any()))


def levels_text(correlations: pd.DataFrame, x: str, y: str) -> str:
    """R with its interval over all models, within seeds and within settings, a line each.

    Args:
        correlations: rows of `FamilyCorrelation` of one family, at one point of training.
        x: one quantity.
        y: the other.

    Returns:
        Lines such as "all: r = 0.87 [0.80, 0.92]".
    """
    return "\n".join(
        f"{words}: {pearson_text(pearson(correlations, x, y, over))}".replace("\n", " ")
        for over, words in LEVELS.items()
    )


def draw_bound(
    axis: Axes, models: pd.DataFrame, levels: list[str], text: str, value: str, bound: str
) -> None:
    """Draws one value against its bound, coloured by setting, with a text in the corner.

    Models that do not interpolate are hollow.
    """
    finite = models[np.isfinite(models[[value, bound]]).all(axis=1)]
    for level, marker in zip(levels, cycle(MARKERS), strict=False):
        own = finite[finite["setting"] == level]
        colour = colours(levels)[level]
        options = {"marker": marker, "s": 20, "edgecolors": colour, "linewidths": 0.8}
        inside = own[own["interpolated"]]
        axis.scatter(inside[bound], inside[value], color=colour, label=level, **options)
        hollow = own[~own["interpolated"]]
        axis.scatter(hollow[bound], hollow[value], facecolors="none", **options)
    axis.text(
        0.04,
        0.97,
        text,
        transform=axis.transAxes,
        va="top",
        fontsize=7,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top + 0.4 * (top - bottom))  # room for the text
    axis.ticklabel_format(style="sci", axis="both", scilimits=(-2, 4))
