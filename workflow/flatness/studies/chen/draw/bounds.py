"""Figure 3, bounds against what they bound over models, and figure G.5, the chain along one run."""

from itertools import cycle, pairwise

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
    read_checkpoints,
    setting_order,
    share_legend,
    shared_steps,
    shown,
    size,
    subject,
    thousands,
)
from flatness.studies.chen.draw.trends import log_if_drawn, median_interpolation, trend_runs
from flatness.studies.chen.matched import END, MATCHED, at_loss, at_name
from flatness.studies.chen.measured_rows import FamilyCorrelation
from flatness.studies.chen.quantities import CHAIN_LABELS, last_on_train
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

PANELS = (
    ("mls", "bound_d_released", "MLS", "bound D"),
    ("nmls", "nmls_bound_released", "NMLS", "NMLS bound"),
)
MATCHED_AT = at_name(MATCHED)
HEADINGS = {END: "at the end of training", MATCHED_AT: f"at training loss {MATCHED:g}"}
#: What r is over, in the words of the table and of the figure.
LEVELS = {"models": "all", "settings": "within a seed", "seeds": "within a setting"}


def draw_fig3(
    checkpoints: Checkpoints, correlations: Correlations, png: Png, svg: Svg, dpi: Dpi = 150
) -> None:
    """Draws MLS and NMLS against their bounds, one point a model, one column a family.

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
                text = levels_text(found[found["at"] == at], value, bound)
                draw_bound(axis, compared[at], levels, text, value, bound)
                axis.set(xlabel=bound_name, ylabel=name)
                used = np.isfinite(compared[at][[value, bound]]).all(axis=1)
                note = _wrapped(shown(compared[at], used))
                if not len(used):
                    axis.axis("off")
                    note = "not measured along training"
                axis.set_title(f"{HEADINGS[at]}\n{note}", fontsize=7)
            heading = f"{subject(part)}\n{_wrapped(size(part[part['sampled'] == 'train']))}"
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
        f"{words}: {pearson_text(correlations, x, y, over)}".replace("\n", " ")
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


def pearson_text(correlations: pd.DataFrame, x: str, y: str, over: str = "models") -> str:
    """Pearson's r with its interval, over two lines; n/a where there is none.

    Args:
        correlations: rows of `FamilyCorrelation` of one family.
        x: one quantity.
        y: the other, in either order.
        over: what it is over, as in the table.

    Returns:
        Such as "r = 0.87" above "[0.80, 0.92]".
    """
    kind = (correlations["over"] == over) & (correlations["method"] == "pearson")
    pair = correlations["x"].isin([x, y]) & correlations["y"].isin([x, y])
    row = correlations[kind & pair & (correlations["x"] != correlations["y"])]
    if row.empty or not np.isfinite(row["estimate"].iloc[0]):
        return "r n/a"
    found = row.iloc[0]
    known = np.isfinite(found["low"])
    interval = f"[{found['low']:.2f}, {found['high']:.2f}]" if known else "no interval"
    return f"r = {found['estimate']:.2f}\n{interval}"


def draw_fig_g5(checkpoints: Checkpoints, png: Png, svg: Svg, dpi: Dpi = 150) -> None:
    """Draws A to D, the ratio at each step of the chain, and √S: mean and range over runs."""
    table = read_checkpoints(checkpoints)
    everyone = trend_runs(table[table["sampled"] == "train"])
    runs = shared_steps(everyone)
    chain = list(CHAIN_LABELS)[:4]
    with figure_style():
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.8), layout="constrained")
        for name in chain:
            draw_mean(axes[0], runs, runs[name], CHAIN_LABELS[name])
        for index, (low, high) in enumerate(pairwise(chain)):
            draw_mean(axes[1], runs, runs[high] / runs[low], f"{'BCD'[index]}/{'ABC'[index]}")
        draw_mean(axes[2], runs, runs["root_sharpness"], CHAIN_LABELS["root_sharpness"])
        axes[0].set(yscale=log_if_drawn(runs), title="A ≤ B ≤ C ≤ D")
        axes[1].set(yscale=log_if_drawn(runs), title="ratio at each gap")
        axes[2].set(title="sharpness √S")
        step = median_interpolation(everyone)
        for axis in axes:
            axis.axvline(step, color="0.4", ls=":", lw=1, label="first interpolation (median)")
            axis.set_xlabel("step of training")
            axis.legend(
                frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
            )
            thousands(axis)
        axes[1].yaxis.set_major_formatter("{x:g}")
        axes[1].yaxis.set_minor_formatter("{x:g}")
        last = everyone.sort_values("step").groupby(["setting", "seed"]).tail(1)
        figure.supxlabel(
            f"{subject(everyone)}: {shown(last, ~last['diverged'])}, mean and range over all "
            f"settings and seeds\n{size(everyone)}",
            fontsize=8,
        )
        save_figure(figure, png, svg, dpi=dpi, demo=bool(everyone["demo"].any()))


def _wrapped(text: str) -> str:
    """Two parts of a text a line."""
    parts = text.split(", ")
    return ",\n".join(", ".join(parts[i : i + 2]) for i in range(0, len(parts), 2))


def draw_mean(axis: Axes, runs: pd.DataFrame, values: pd.Series, label: str) -> None:
    """Draws the mean over runs at each step, in the next colour and dash, and their range."""
    by_step = values.groupby(runs["step"])
    styles = ("-", "--", "-.", ":")
    lines = axis.plot(by_step.mean(), styles[len(axis.lines) % len(styles)], label=label)
    bounds = by_step.min(), by_step.max()
    axis.fill_between(bounds[0].index, *bounds, color=lines[0].get_color(), alpha=0.15, lw=0)
