"""Scale curves: correlations over the same models against the number of training images."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.chen.crossings import INTERPOLATION_LOSS
from flatness.studies.chen.matched import END, MATCHED, at_name
from flatness.studies.chen.quantities import SCATTER_LABELS
from flatness.studies.chen.scale import CLAIMED, NEGLIGIBLE, ScaleCorrelation
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title

#: Where models are compared: how titles and the legend say it, and the style of the line. Every
#: model that interpolates reaches the first loss; the second is that of the claims at equal loss.
PLACES = {
    END: ("end", "at the end of training", "o-"),
    at_name(INTERPOLATION_LOSS): (
        f"{INTERPOLATION_LOSS:g}",
        f"at training loss {INTERPOLATION_LOSS:g}",
        "^-.",
    ),
    at_name(MATCHED): (f"{MATCHED:g}", f"at training loss {MATCHED:g}", "s--"),
}
#: Sizes stand on a logarithmic axis; the lines beside each other, not upon each other.
ASIDE = 1.15


def draw_scale(
    scales: Annotated[list[Path], typer.Option(help="tables of scale curves")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws r and its interval by number of images, one row per network, one column per pair."""
    table = read_tables(scales, ScaleCorrelation)
    names = list(table["scale"].unique())
    with figure_style():
        figure, axes = plt.subplots(
            len(names), len(CLAIMED), figsize=(2.4 * len(CLAIMED), 2.8 * len(names) + 0.5),
            layout="constrained", sharex=True, sharey=True, squeeze=False,
        )  # fmt: skip
        for row, name in zip(axes, names, strict=True):
            own = table[table["scale"] == name]
            for axis, (x, y) in zip(row, CLAIMED, strict=True):
                draw_pair(axis, own[(own["x"] == x) & (own["y"] == y)])
                pair = f"{SCATTER_LABELS[x]} and {SCATTER_LABELS[y]}"
                axis.set_title(pair + axis.get_title(), fontsize=7)
            row[0].set_ylabel(f"{title(name)}\nPearson's r")
        for axis in axes[-1]:
            axis.set_xlabel("training images")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(table["demo"].any()))


def draw_pair(axis: Axes, rows: pd.DataFrame) -> None:
    """Draws one pair of quantities; the title takes up what the most images say.

    Args:
        axis: to draw on.
        rows: of `ScaleCorrelation`, one pair of one network.
    """
    said = []
    for shift, (at, (word, label, style)) in enumerate(PLACES.items()):
        own = rows[rows["at"] == at].sort_values("train_size")
        errors = np.abs(own[["low", "high"]].sub(own["estimate"], axis=0)).to_numpy().T
        axis.errorbar(
            own["train_size"] * ASIDE**shift, own["estimate"], errors,
            fmt=style, ms=4, lw=1, capsize=2, label=label,
        )  # fmt: skip
        if len(own):
            said.append(f"{word} ({own['n'].iloc[-1]}): {own['effect_of_scale'].iloc[-1]}")
    axis.axhspan(-1.05, 0, color="0.93", zorder=0)
    axis.axhline(NEGLIGIBLE, color="0.6", lw=0.8, ls=":")
    axis.set(xscale="log", ylim=(-1.05, 1.05))
    axis.set_title("".join(f"\n{text}" for text in said), fontsize=7)
