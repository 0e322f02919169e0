"""Figures 1 and 2 and their relatives: measures along training."""

from typing import Annotated, Any, Literal

import matplotlib.pyplot as plt
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
    shown,
    subject,
    thousands,
)
from flatness.studies.chen.quantities import TREND_LABELS, one_factor
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

#: How seaborn draws runs that differ in their seed: a thin line each, or mean and range.
EACH_SEED = {"units": "run", "estimator": None, "linewidth": 0.9}
MEAN_AND_RANGE = {"errorbar": ("pi", 100), "linewidth": 1.2, "err_kws": {"alpha": 0.15, "lw": 0}}

SAMPLED_LABELS = {"test": "test images", "misclassified": "misclassified test images"}


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
            draw_lines(axis, runs, name, by, EACH_SEED)
            axis.set(title=label, ylabel="", xlabel="")
        axes[0, 0].set_yscale("log")
        finish(figure, axes.flat[0], runs, FACTOR_LABELS[by], 3)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(runs["demo"].any()))


def draw_test_samples(checkpoints: Checkpoints, png: Png, svg: Svg, dpi: Dpi = 150) -> None:
    """Draws the trends measured on test images (left) and on the misclassified ones (right)."""
    table = read_checkpoints(checkpoints)
    labels = {"test_loss": "test loss"} | TREND_LABELS
    labels.pop("train_loss")
    with figure_style():
        figure, axes = plt.subplots(
            len(labels), 2, figsize=(7.4, 10), layout="constrained", sharex=True, sharey="row"
        )
        for column, (sampled, heading) in enumerate(SAMPLED_LABELS.items()):
            runs = trend_runs(table[table["sampled"] == sampled])
            for axis, (name, label) in zip(axes[:, column], labels.items(), strict=True):
                draw_lines(axis, runs, name, "setting", MEAN_AND_RANGE)
                axis.set(xlabel="", ylabel=label if column == 0 else "")
            fewest, most = runs["samples"].min(), runs["samples"].max()
            count = f"{most}" if fewest == most else f"{fewest} to {most}"
            axes[0, column].set_title(f"{heading} ({count} a checkpoint)")
        finish(figure, axes[0, 0], runs, "setting: mean over seeds, and their range", columns=3)
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
    runs = table.groupby(["setting", "seed"])["step"].transform("nunique")
    if not (runs > 1).any():
        raise UserError(
            "no run was measured along training; set trend_seeds of this family to 1 or more "
            "(and test_samples, for the figure on test images)"
        )
    return table[runs > 1]


def draw_lines(axis: Axes, runs: pd.DataFrame, name: str, by: str, seeds: dict[str, Any]) -> None:
    """Draws one quantity along training, a colour and dash a level of `by`."""
    levels = setting_order(runs) if by == "setting" else sorted(runs[by].unique())
    runs = runs.assign(run=runs["setting"] + " " + runs["seed"].astype(str))
    sns.lineplot(
        data=runs.replace([float("inf"), float("-inf")], float("nan")),
        x="step",
        y=name,
        hue=by,
        style=by,
        hue_order=levels,
        style_order=levels,
        palette=colours(levels),
        ax=axis,
        **seeds,
    )
    axis.get_legend().remove()
    thousands(axis)


def finish(figure: Figure, axis: Axes, runs: pd.DataFrame, legend: str, columns: int = 5) -> None:
    """Adds the legend, headed by what is shown."""
    last = runs.sort_values("step").groupby(["setting", "seed"]).tail(1)
    note = f"{subject(runs)}: {shown(last, ~last['diverged'])}"
    share_legend(figure, axis, f"step of training\n{note}\n{legend}", columns)
