"""Figure 3, bounds against what they bound over models, and figure G.5, the chain along one run."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from flatness.records.tables import read_tables
from flatness.studies.chen.draw.common import (
    Checkpoints,
    Correlations,
    colours,
    read_checkpoints,
    setting_order,
    share_legend,
    shown,
    subject,
    thousands,
)
from flatness.studies.chen.draw.trends import trend_runs
from flatness.studies.chen.measured_rows import FamilyCorrelation
from flatness.studies.chen.quantities import CHAIN_LABELS, last_on_train
from flatness.studies.figures import Dpi, Png, Svg, figure_style, save_figure

PANELS = (
    ("mls", "bound_d_released", "MLS", "bound D"),
    ("nmls", "nmls_bound_released", "NMLS", "NMLS bound"),
)


def draw_fig3(
    checkpoints: Checkpoints, correlations: Correlations, png: Png, svg: Svg, dpi: Dpi = 150
) -> None:
    """Draws MLS and NMLS against their bounds, one point a model, one column a family."""
    models = last_on_train(read_checkpoints(checkpoints))
    table = read_tables(correlations, FamilyCorrelation)
    families, levels = list(models["family"].unique()), setting_order(models)
    with figure_style():
        figure, axes = plt.subplots(
            2, len(families), figsize=(2.9 * len(families), 6), layout="constrained", squeeze=False
        )
        for column, family in zip(axes.T, families, strict=True):
            part = models[models["family"] == family]
            found = table[table["family"] == family]
            for axis, (value, bound, name, bound_name) in zip(column, PANELS, strict=True):
                draw_bound(axis, part, levels, pearson_text(found, value, bound), value, bound)
                axis.set(xlabel=bound_name, ylabel=name)
            column[0].set_title(subject(part))
            used = np.isfinite(part[["mls", "bound_d_released"]]).all(axis=1)
            column[1].set_title(_wrapped(shown(part, used)), fontsize=7)
        share_legend(figure, axes[0, 0], "setting", 3)
        save_figure(figure, png, svg, dpi=dpi, demo=bool(models["demo"].any()))


def draw_bound(
    axis: Axes, models: pd.DataFrame, levels: list[str], text: str, value: str, bound: str
) -> None:
    """Draws one value against its bound, coloured by setting, with a text in the corner."""
    sns.scatterplot(
        data=models[np.isfinite(models[[value, bound]]).all(axis=1)],
        x=bound,
        y=value,
        hue="setting",
        style="setting",
        hue_order=levels,
        style_order=levels,
        palette=colours(levels),
        s=18,
        linewidth=0.3,
        ax=axis,
    )
    if axis.get_legend():
        axis.get_legend().remove()
    axis.text(
        0.04,
        0.97,
        text,
        transform=axis.transAxes,
        va="top",
        fontsize=8,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top + 0.25 * (top - bottom))  # room for the text
    axis.ticklabel_format(style="sci", axis="both", scilimits=(-2, 4))


def pearson_text(correlations: pd.DataFrame, x: str, y: str) -> str:
    """Pearson's r over models with its interval, over two lines; n/a where there is none.

    Args:
        correlations: rows of `FamilyCorrelation` of one family.
        x: one quantity.
        y: the other, in either order.

    Returns:
        Such as "r = 0.87" above "[0.80, 0.92]".
    """
    over = (correlations["over"] == "models") & (correlations["method"] == "pearson")
    pair = correlations["x"].isin([x, y]) & correlations["y"].isin([x, y])
    row = correlations[over & pair & (correlations["x"] != correlations["y"])]
    if row.empty or not np.isfinite(row["estimate"].iloc[0]):
        return "r n/a"
    found = row.iloc[0]
    return f"r = {found['estimate']:.2f}\n[{found['low']:.2f}, {found['high']:.2f}]"


def draw_fig_g5(checkpoints: Checkpoints, png: Png, svg: Svg, dpi: Dpi = 150) -> None:
    """Draws A, B, C, D and √S along one run, and the ratio at each step of the chain."""
    table = read_checkpoints(checkpoints)
    runs = trend_runs(table[table["sampled"] == "train"])
    run = one_run(runs)
    with figure_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.6), layout="constrained")
        styles = ("-", "--", "-.", ":", "-")
        palette = sns.color_palette("colorblind")
        for (name, label), style, colour in zip(
            CHAIN_LABELS.items(), styles, palette, strict=False
        ):
            left.plot(run["step"], run[name], style, color=colour, label=label, marker=".")
        left.set(yscale="log", xlabel="step of training", title="A ≤ B ≤ C ≤ D, and √S")
        chain = list(CHAIN_LABELS)[:4]
        for index, (low, high) in enumerate(pairwise(chain)):
            gap = f"{'BCD'[index]}/{'ABC'[index]}"
            right.plot(run["step"], run[high] / run[low], styles[index], label=gap, marker=".")
        right.set(yscale="log", xlabel="step of training", title="ratio at each gap")
        for axis in (left, right):
            axis.legend(
                frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2)
            )
            thousands(axis)
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter("{x:g}")
        first = run.iloc[0]
        n_runs = runs.groupby(["setting", "seed"]).ngroups
        figure.supxlabel(
            f"{subject(run)}, {first['setting']}, seed {first['seed']}: 1 run of {n_runs}",
            fontsize=8,
        )
        save_figure(figure, png, svg, dpi=dpi, demo=bool(run["demo"].any()))


def one_run(runs: pd.DataFrame) -> pd.DataFrame:
    """The run that figure G.5 shows: lr 0.1, batch 20 if it is there and whole, lowest seed.

    Args:
        runs: checkpoints of runs measured along training.

    Returns:
        One run's checkpoints by step.
    """
    diverged = runs.groupby(["setting", "seed"])["diverged"].transform("any")
    candidates = runs[~diverged] if not diverged.all() else runs
    preferred = candidates[candidates["setting"] == "lr0.1_batch20"]
    chosen = (preferred if len(preferred) else candidates).sort_values(["setting", "seed", "step"])
    first = chosen.iloc[0]
    same = (chosen["setting"] == first["setting"]) & (chosen["seed"] == first["seed"])
    return chosen[same]


def _wrapped(text: str) -> str:
    return text.replace(", ", ",\n", 1)
