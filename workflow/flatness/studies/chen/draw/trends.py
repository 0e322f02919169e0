"""Figures 1 and 2, and the same for other families: measures along training.

One function draws them all: by learning rate, by batch size, or by setting.
"""

from typing import Annotated, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flatness.errors import UserError
from flatness.studies.chen.draw.common import (
    FACTOR_LABELS,
    Checkpoints,
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
from flatness.studies.chen.quantities import TREND_LABELS, along_training, one_factor
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

#: How seaborn draws runs that differ in their seed.
MEAN_AND_RANGE = {"errorbar": ("pi", 100), "linewidth": 1.2, "err_kws": {"alpha": 0.15, "lw": 0}}
INTERPOLATED = "first interpolation (median over runs)"


def draw_trends(
    checkpoints: Checkpoints,
    by: Annotated[
        Literal["learning_rate", "batch_size", "setting"], typer.Option(help="what colours tell")
    ],
    png: Png,
    svg: Svg,
    dpi: Dpi = 150,
) -> None:
    """Draws loss, sharpness and compression along training, coloured by one factor of the grid."""
    table = read_checkpoints(checkpoints)
    runs = trend_runs(one_factor(table[table["sampled"] == "train"], by))
    with figure_style():
        figure, axes = plt.subplots(2, 3, figsize=(7.4, 4.9), layout="constrained", sharex=True)
        for axis, (name, label) in zip(axes.flat, TREND_LABELS.items(), strict=True):
            draw_lines(axis, runs, name, by)
            axis.set(title=label, ylabel="", xlabel="")
        axes[0, 0].set_yscale(log_if_drawn(shared_steps(runs)))
        legend = f"{FACTOR_LABELS[by]}: mean over runs, band: their range"
        finish(figure, axes.flat[0], runs, legend, 4)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(runs["demo"].any()))


def trend_runs(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that were measured along training.

    Args:
        table: checkpoints measured on one kind of sample.

    Returns:
        Their rows, at least one.

    Raises:
        UserError: no run was measured at more than one checkpoint.
    """
    runs = along_training(table)
    if runs.empty:
        raise UserError(
            "no run was measured along training; set trend_seeds of this family to 1 or more "
            "(and test_samples, for the figure on test images)"
        )
    return runs


def draw_lines(axis: Axes, runs: pd.DataFrame, name: str, by: str) -> None:
    """Draws one quantity along training: mean and range over runs of each level of `by`.

    A diamond on the mean marks where half of the level's runs have interpolated.
    """
    levels = setting_order(runs) if by == "setting" else sorted(runs[by].unique())
    drawn = shared_steps(runs, [by]).replace([float("inf"), float("-inf")], float("nan"))
    sns.lineplot(
        data=drawn,
        x="step",
        y=name,
        hue=by,
        style=by,
        hue_order=levels,
        style_order=levels,
        palette=colours(levels),
        ax=axis,
        **MEAN_AND_RANGE,
    )
    if axis.get_legend():
        axis.get_legend().remove()
    for level in levels:
        step = median_interpolation(runs[runs[by] == level])
        means = drawn[drawn[by] == level].groupby("step")[name].mean()
        if np.isfinite(step) and len(means):
            height = np.interp(step, means.index, means)
            axis.plot(step, height, "D", ms=5, mec="white", mew=0.8, color=colours(levels)[level])
    axis.plot([], [], "D", ms=5, color="0.3", label=INTERPOLATED)
    thousands(axis)


def log_if_drawn(runs: pd.DataFrame) -> str:
    """Sets a logarithmic scale, unless all runs diverged: it needs values."""
    return "log" if len(runs) else "linear"


def median_interpolation(runs: pd.DataFrame) -> float:
    """The step by which half of some runs have interpolated; NaN where more than half do not."""
    first = runs[runs["interpolated"]].groupby(["setting", "seed"])["step"].min()
    missing = runs.groupby(["setting", "seed"]).ngroups - len(first)
    steps = np.sort([*first, *[np.inf] * missing])
    found = steps[(len(steps) - 1) // 2] if len(steps) else np.inf
    return float(found) if np.isfinite(found) else np.nan


def finish(figure: Figure, axis: Axes, runs: pd.DataFrame, legend: str, columns: int = 5) -> None:
    """Adds the legend, headed by what is shown."""
    last = runs.sort_values("step").groupby(["setting", "seed"]).tail(1)
    note = f"{subject(runs)}: {shown(last, ~last['diverged'])}\n{size(runs)}"
    share_legend(figure, axis, f"step of training\n{note}\n{legend}", columns)
