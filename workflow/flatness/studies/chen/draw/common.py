"""Common code of the study's figures: reading tables, describing them, colours of settings."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import seaborn as sns
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flatness.records.tables import read_tables
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.quantities import with_derived
from flatness.studies.titles import title

Checkpoints = Annotated[list[Path], typer.Option(help="tables of checkpoints, one a family")]
Correlations = Annotated[list[Path], typer.Option(help="tables of correlations, one a family")]

#: Markers of settings, since not everybody can distinguish the colours.
MARKERS = "osD^vP*X"

FACTOR_LABELS = {
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "setting": "setting",
}


def read_checkpoints(paths: Sequence[Path]) -> pd.DataFrame:
    """All checkpoints of the families, with the columns that figures use."""
    return with_derived(read_tables(paths, MeasuredCheckpoint))


def subject(table: pd.DataFrame) -> str:
    """Network and data set of one family, such as "VGG-11 on CIFAR-10" or "tanh MLP on …"."""
    family, network, dataset = (table[name].iloc[0] for name in ("family", "network", "dataset"))
    name = title(family) if title(family) != family else title(network)
    return f"{name} on {title(dataset)}"


def size(table: pd.DataFrame) -> str:
    """The size of one family's training and measuring.

    Args:
        table: rows of `MeasuredCheckpoint` of one family.

    Returns:
        Such as "100 training images, 4,500 steps, 50 images measured".
    """
    steps = table.groupby(["setting", "seed"])["step"].max()
    return (
        f"{table['train_size'].iloc[0]:,} training images, {_range(steps)} steps, "
        f"{_range(table['samples'])} images measured"
    )


def _range(values: pd.Series) -> str:
    """Such as "4,500", or "4,500 to 6,000"."""
    fewest, most = values.min(), values.max()
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def shared_steps(runs: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The checkpoints at steps that every run has, so that all means are over the same runs.

    Args:
        runs: checkpoints of several runs.
        by: columns whose levels are drawn apart: a step counts if every run of its level has it,
            since settings may be trained for different numbers of steps.

    Returns:
        Part of them; steps found by single runs are only in the tables.
    """
    runs = runs[~runs.groupby(["setting", "seed"])["diverged"].transform("any")]
    if runs.empty:
        return runs
    run = runs["setting"] + "/" + runs["seed"].astype(str)
    levels = [runs[column] for column in by] or [pd.Series("all", runs.index)]
    many = run.groupby(levels).transform("nunique")
    return runs[run.groupby([*levels, runs["step"]]).transform("size") == many]


def shown(models: pd.DataFrame, used: pd.Series) -> str:
    """How many models a panel shows, how many interpolate, and how many it leaves out and why.

    Args:
        models: one row per model.
        used: which of them are drawn.

    Returns:
        Such as "97 models (95 interpolate), 3 left out (training loss not finite by step 400)".
    """
    text = f"{int(used.sum())} models ({int(models.loc[used, 'interpolated'].sum())} interpolate)"
    left_out = models[~used]
    if left_out.empty:
        return text
    reasons = left_out["reason"].replace("", "a quantity is not finite").unique()
    return f"{text}, {len(left_out)} left out ({'; '.join(reasons)})"


def pearson(
    correlations: pd.DataFrame, x: str, y: str, over: str = "models"
) -> tuple[float, float, float]:
    """Pearson's r and the ends of its interval, NaN if there is none.

    Args:
        correlations: rows of `FamilyCorrelation` of one family.
        x: one quantity.
        y: the other, in either order.
        over: what it is over, as in the table.

    Returns:
        r, lower and upper end.
    """
    kind = (correlations["over"] == over) & (correlations["method"] == "pearson")
    pair = correlations["x"].isin([x, y]) & correlations["y"].isin([x, y])
    row = correlations[kind & pair & (correlations["x"] != correlations["y"])]
    if row.empty:
        return np.nan, np.nan, np.nan
    return tuple(row.iloc[0][["estimate", "low", "high"]])


def pearson_text(found: tuple[float, float, float]) -> str:
    """R as "r = 0.87" above its interval, "[0.80, 0.92]", or a remark that there is none."""
    estimate, low, high = found
    if not np.isfinite(estimate):
        return "r n/a"
    interval = f"[{low:.2f}, {high:.2f}]" if np.isfinite(low) else "no interval"
    return f"r = {estimate:.2f}\n{interval}"


def setting_order(table: pd.DataFrame) -> list[str]:
    """Settings by learning rate, then batch size."""
    ordered = table.sort_values(["learning_rate", "batch_size", "setting"])
    return list(ordered["setting"].unique())


def colours(levels: Sequence[object]) -> dict[object, tuple[float, float, float]]:
    """A colour for each level that the colour-blind can tell apart."""
    return dict(zip(levels, sns.color_palette("colorblind", len(levels)), strict=True))


def setting_label(name: str) -> str:
    """A setting's name for readers: "lr0.1_batch20" as "lr 0.1, batch 20"."""
    return re.sub(r"([a-z])(\d)", r"\1 \2", name).replace("_", ", ")


#: Characters that fit below a figure side by side, and those that a handle takes.
LEGEND_WIDTH, LEGEND_HANDLE = 150, 8


def share_legend(figure: Figure, axis: Axes, heading: str, columns: int = 5) -> None:
    """Puts one panel's legend below the whole figure, under lines that say what is shown."""
    handles, labels = axis.get_legend_handles_labels()
    labels = [setting_label(label) for label in labels]
    columns = min(columns, LEGEND_WIDTH // (LEGEND_HANDLE + max(map(len, labels))))
    legend = figure.legend(
        handles,
        labels,
        title=heading,
        title_fontsize=8,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
    legend.get_title().set_multialignment("center")


def thousands(axis: Axes) -> None:
    """Writes steps of training as 2k, 4k … where they are many."""
    axis.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
    )
