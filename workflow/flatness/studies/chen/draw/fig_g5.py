"""Figure G.5: the chain of bounds A ≤ B ≤ C ≤ D on MLS along training."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from flatness.studies.chen.draw.common import (
    Checkpoints,
    read_checkpoints,
    shared_steps,
    shown,
    size,
    subject,
    thousands,
)
from flatness.studies.chen.draw.trends import log_if_drawn, median_interpolation, trend_runs
from flatness.studies.chen.quantities import CHAIN_LABELS
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure


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


def draw_mean(axis: Axes, runs: pd.DataFrame, values: pd.Series, label: str) -> None:
    """Draws the mean over runs at each step, in the next colour and dash, and their range."""
    by_step = values.groupby(runs["step"])
    styles = ("-", "--", "-.", ":")
    lines = axis.plot(by_step.mean(), styles[len(axis.lines) % len(styles)], label=label)
    bounds = by_step.min(), by_step.max()
    axis.fill_between(bounds[0].index, *bounds, color=lines[0].get_color(), alpha=0.15, lw=0)
