"""The audit of one pool: sharpness and τ under each protocol."""

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from matplotlib.axes import Axes

from flatness.records.tables import read_table
from flatness.studies.epfl.rows import AuditedProtocol, TauDistribution
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure
from flatness.studies.titles import title

HEADINGS = {
    "measuring": "the same models, measured",
    "training": "models trained, then measured as written",
}
#: Ratio of the largest to the smallest sharpness from which the axis is logarithmic.
WIDE = 20
#: Ratio of the largest sharpness to the one under which an axis with both signs is linear.
SMALLEST = 1000


def draw_audit(
    audit: Annotated[Path, typer.Option(help="table of a pool's audit")],
    png: Png,
    svg: Svg,
    distributions: Annotated[
        list[Path] | None, typer.Option(help="table of τ over the pool's replications, if any")
    ] = None,
    dpi: Dpi = 150,
) -> None:
    """Draws sharpness (left) and τ (right) by protocol, measuring above, training below."""
    table = read_table(audit, AuditedProtocol)
    spreads = [read_table(path, TauDistribution).iloc[0] for path in distributions or ()]
    upper = table[table["part"] == "measuring"]
    lower = table[table["part"] != "measuring"]
    with figure_style():
        figure, axes = plt.subplots(
            2,
            2,
            figsize=(8.2, 0.28 * len(table) + 2.0),
            height_ratios=[len(upper) + 1, len(lower) + 1],
            layout="constrained",
            sharex="col",
            sharey="row",
        )
        for row, (part, lines) in enumerate({"measuring": upper, "training": lower}.items()):
            draw_sharpness(axes[row, 0], lines)
            draw_tau(axes[row, 1], lines)
            for spread in spreads:
                draw_spread(axes[row, 1], lines, spread)
            label_protocols(axes[row, 0], lines)
            axes[row, 0].set_title(HEADINGS[part], loc="left")
        scale_sharpness(axes[0, 0], table["worst_case_sharpness"])
        first = table.iloc[0]
        axes[0, 1].set_title(f"{title(first['pool'])} on {title(first['dataset'])}", loc="right")
        axes[1, 0].tick_params(axis="x", labelsize="small")
        axes[1, 0].set_xlabel("adaptive worst-case sharpness, mean ± s.e.")
        axes[1, 1].set_xlabel("Kendall's τ of sharpness and test loss")
        found = [axis.get_legend_handles_labels() for axis in axes[:, 1]]
        handles = {label: handle for pair in found for handle, label in zip(*pair, strict=True)}
        figure.legend(handles.values(), handles, loc="outside lower right", ncols=3, frameon=False)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(first["demo"]))


def draw_sharpness(axis: Axes, lines: pd.DataFrame) -> None:
    """Draws mean sharpness and the written protocol's value as a line.

    Args:
        axis: where to draw.
        lines: rows of `AuditedProtocol`, the written protocol first.
    """
    places = np.arange(len(lines))
    axis.axvline(lines["worst_case_sharpness"].iloc[0], color="0.8", lw=1, zorder=0)
    axis.errorbar(
        lines["worst_case_sharpness"], places, xerr=lines["worst_case_sharpness_se"], fmt="o", ms=4
    )


def scale_sharpness(axis: Axes, values: pd.Series) -> None:
    """Makes the axis logarithmic for a wide range, if needed on both sides of zero."""
    sizes = values.abs()
    if sizes.max() <= WIDE * sizes.min():
        return
    if values.min() > 0:
        axis.set_xscale("log")
    else:
        smallest = max(sizes.min(), sizes.max() / SMALLEST)
        axis.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(smallest)))
        low, high = values.min(), values.max()
        axis.set_xlim(2 * low if low < 0 else None, 2 * high if high > 0 else None)


def draw_tau(axis: Axes, lines: pd.DataFrame) -> None:
    """Draws τ with its interval, zero and the published τ; likewise."""
    places = np.arange(len(lines))
    axis.axvline(0, color="0.6", lw=0.6, zorder=0)
    published = lines["published_tau"].iloc[0]
    axis.axvline(published, color="C3", ls="--", lw=1, zorder=0, label="published τ")
    reach = [lines["tau"] - lines["low"], lines["high"] - lines["tau"]]
    axis.errorbar(lines["tau"], places, xerr=reach, fmt="o", ms=4)
    for place, tau in zip(places, lines["tau"], strict=True):
        if np.isnan(tau):
            axis.text(0.5, place, "too few models", transform=axis.get_yaxis_transform(),
                      ha="center", va="center", fontsize=7, color="0.5",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip


def draw_spread(axis: Axes, lines: pd.DataFrame, spread: pd.Series) -> None:
    """Draws the spread of τ over pools for the replicated protocol, and the part of the splits.

    Both bars are one standard deviation to either side of the mean τ; with one split there is no
    bar for splits.

    Args:
        axis: where to draw.
        lines: rows of `AuditedProtocol`.
        spread: a row of `TauDistribution`.
    """
    same = (lines["trained"] == spread["trained"]) & (lines["measured"] == spread["measured"])
    bars = {
        f"± s.d. over {spread['replications']} pools": (spread["sd"], "0.85", 0.9),
        f"of it between {spread['splits']} splits": (spread["split_sd"], "C1", 0.35),
    }
    for place in np.flatnonzero(same):
        for label, (deviation, colour, height) in bars.items():
            if np.isfinite(deviation):
                left = spread["mean_tau"] - deviation
                axis.barh(place, 2 * deviation, height, left, color=colour, zorder=0, label=label)


def label_protocols(axis: Axes, lines: pd.DataFrame) -> None:
    """Names each line by its protocol and number of models, the first line on top."""
    names = [
        "released throughout" if line.part == "both"
        else (line.trained if line.part == "training" else line.measured).replace("_", " ")
        for line in lines.itertuples()
    ]  # fmt: skip
    labels = [f"{name} ({n})" for name, n in zip(names, lines["n"], strict=True)]
    axis.set_yticks(np.arange(len(lines)), labels)
    axis.set_ylim(len(lines) - 0.4, -0.6)
