"""The factorial of one pool: every combination of defects, and the effect of each on τ."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_table
from flatness.studies.epfl.mixed_pools import MIXED
from flatness.studies.epfl.published import PUBLISHED, scatter
from flatness.studies.epfl.rows import Combination, DefectEffect
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title

MARKERS = {"written": "o", "released": "s"}


def draw_factorial(
    cells: Annotated[Path, typer.Option(help="table of combinations")],
    effects: Annotated[Path, typer.Option(help="table of effects")],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws τ over sharpness of every combination (left) and the main effects on τ (right)."""
    table, found = read_table(cells, Combination), read_table(effects, DefectEffect)
    main = found[(found["effect_kind"] == "main") & (found["compared"] == "tau")]
    first = table.iloc[0]
    with figure_style():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.6, max(3.8, 0.17 * len(main) + 1.6)), layout="constrained",
            width_ratios=(1.4, 1),
        )  # fmt: skip
        draw_cells(left, table)
        draw_effects(right, main)
        data = f"{title(first['pool'])} on {title(first['dataset'])}"
        left.set_title(
            f"{data}, {first['n']} models\n"
            f"{(table['measured'] != MIXED).sum()} combinations of defects, "
            f"{table.loc[table['measured'] != MIXED, 'matches'].sum()} match the figure",
            fontsize="small",
        )
        save_figure(figure, png, svg, dpi=dpi, demo=bool(first["demo"]))


def draw_cells(axis: Axes, table: pd.DataFrame) -> None:
    """Draws one point per combination, its test loss as colour, with the published figure.

    Args:
        axis: where to draw.
        table: rows of `Combination`.
    """
    low, high = table["mean_test_loss"].min(), table["mean_test_loss"].max()
    # Another measuring protocol does not change losses, so equal losses get the same colour.
    span = {"vmin": low, "vmax": max(high, 1.01 * low), "cmap": "viridis"}
    for measured, lines in table.groupby(
        np.where(table["measured"] == "written", "written", "released")
    ):
        points = axis.scatter(
            lines["mean_sharpness"], lines["tau"], c=lines["mean_test_loss"],
            marker=MARKERS[measured],
            s=18, lw=0, label=f"measured {'as written' if measured == 'written' else 'otherwise'}",
            **span,
        )  # fmt: skip
    axis.figure.colorbar(points, ax=axis, label="test loss")
    matching = table[table["matches"]]
    axis.scatter(
        matching["mean_sharpness"], matching["tau"], s=70, facecolors="none", edgecolors="C3",
        label="all three within 3 s.e.",
    )  # fmt: skip
    mixed = table[table["measured"] == MIXED]
    if len(mixed):
        axis.scatter(
            mixed["mean_sharpness"], mixed["tau"], s=60, marker="*", color="C1",
            label="weights of two pools mixed",
        )  # fmt: skip
    if not table["demo"].any():
        pool = table["pool"].iloc[0]
        dots = scatter(pool)
        axis.plot(
            dots["worst_case_sharpness"].mean(), PUBLISHED[pool][0], "x", color="C3", ms=9, mew=2,
            label=f"published figure, test loss {dots['test_loss'].mean():.3f}",
        )  # fmt: skip
    axis.axhline(0, color="0.6", lw=0.6, zorder=0)
    axis.set_xlabel("mean sharpness")
    axis.set_ylabel("Kendall's τ, sharpness and test loss")
    axis.legend(fontsize="x-small", frameon=False, ncols=2, loc="upper left",
                bbox_to_anchor=(0, -0.16))  # fmt: skip


def draw_effects(axis: Axes, main: pd.DataFrame) -> None:
    """Draws each defect's main effect on τ with its interval, by protocol of the other part.

    Args:
        axis: where to draw.
        main: rows of `DefectEffect` of one quantity.
    """
    names = list(dict.fromkeys(zip(main["combined"], main["defects"], strict=True)))
    for shift, (other, lines) in zip(
        (-0.15, 0.15), main.groupby("other", sort=False), strict=False
    ):
        places = [
            names.index(key) + shift
            for key in zip(lines["combined"], lines["defects"], strict=True)
        ]
        reach = [lines["effect"] - lines["low"], lines["high"] - lines["effect"]]
        axis.errorbar(
            lines["effect"], places, xerr=reach, fmt=MARKERS[other], ms=4, elinewidth=0.8,
            label=f"the other part as {other}",
        )  # fmt: skip
    axis.axvline(0, color="0.6", lw=0.6, zorder=0)
    axis.set_yticks(
        range(len(names)), [f"{name.replace('_', ' ')} ({part})" for part, name in names]
    )
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("main effect on τ")
    axis.legend(fontsize="x-small", frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
