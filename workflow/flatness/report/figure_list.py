"""The list of figures: the function and tables of each figure, and its text on the page.

Rules, verbs, the page and Snakemake's own report are made from this list. Snakemake reads it at
parse time, so it does not import the drawing functions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flatness.records import layout
from flatness.studies.titles import title

PAPERS = {
    "chen": "Chen, Recanatesi and Shea-Brown: loss flatness and compressed representations",
    "epfl": "Hammoud, Liossatos and Nicollier: adaptive sharpness and generalization",
}
BOTH = "Both papers"
#: Protocols of the tables of pools; a page uses the first one that a run has.
PROTOCOLS = ("written", "released")


@dataclass(frozen=True)
class Count:
    """The number n that a page shows for a figure: how many models or runs it is based on.

    Attributes:
        table: layout of the tables that contain n.
        unit: the counted unit.
        column: the column that contains n.
        over: value of the column `over` in the rows that give n; empty for all rows.
    """

    table: str
    unit: str = "models"
    column: str = "n"
    over: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure, or one for each family or pool if its name has the wildcard {member}.

    Attributes:
        name: of its files.
        function: the drawing function, as "module:function" in a package of `flatness.studies`.
        tables: the tables it is drawn from: option of the function -> layout.
        heading: title on the page.
        caption: one sentence without its full stop.
        count: the number shown with it.
        jobs: subfolder, in the stages' folders, of the benchmarks of its jobs.
        paper: key of `PAPERS`; empty for a figure of both.
        among: the group of models to choose from, a key of `Config.members`; empty for all.
        only: the models of this group that it shows, in this order; empty for all.
        where: option of `tables` -> key of `Config.members`, for tables that only some members
            have.
        protocol: under which the pools that it shows were trained and measured; empty for the
            config's own.
        options: other options of the function.
    """

    name: str
    function: str
    tables: Mapping[str, str]
    heading: str
    caption: str
    count: Count
    jobs: str
    paper: str = ""
    among: str = ""
    only: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def study(self) -> str:
        """Package of `flatness.studies` that draws it."""
        return self.function.split(".")[2]

    @property
    def verb(self) -> str:
        """Verb of the command line that draws it."""
        name = self.function.split(":")[1].removeprefix("draw_")
        return f"draw-{self.study}-{name}".replace("_", "-")

    def member(self, drawn: str) -> str | None:
        """The value of the wildcard in a drawn figure's name; None for another figure's name."""
        found = re.fullmatch(self.name.format(member="(.+)"), drawn)
        return "".join(found.groups()) if found else None

    def caption_of(self, drawn: str) -> str:
        """The caption of one of its drawn figures."""
        return self.caption.format(member=title(self.member(drawn)))


@dataclass(frozen=True)
class Drawn:
    """A figure that a config has.

    Attributes:
        figure: its entry in the list.
        members: families or pools that it shows.
    """

    figure: Figure
    members: tuple[str, ...]


def drawn_figures(members: Mapping[str, Sequence[str]]) -> dict[str, Drawn]:
    """The figures of a config: those that show at least one of its families or pools.

    Args:
        members: `Config.members`.

    Returns:
        Name of a figure's files -> the figure.
    """
    found = {}
    for figure in FIGURES:
        there = members[figure.among] if figure.among else ()
        chosen = tuple(name for name in figure.only or there if name in there)
        if "{member}" in figure.name:
            found |= {figure.name.format(member=name): Drawn(figure, (name,)) for name in chosen}
        elif chosen or not figure.among:
            found[figure.name] = Drawn(figure, chosen)
    return found


def _chen(
    name: str, function: str, *only: str, correlated: bool = False, **entry: object
) -> Figure:
    """A figure of some families; with correlations, it counts models and shows the correlations."""
    tables = {"checkpoints": layout.CHEN_CHECKPOINTS}
    count = Count(layout.CHEN_CORRELATIONS, "runs over all settings", over="checkpoints")
    if correlated:
        tables["correlations"] = layout.CHEN_CORRELATIONS
        count = Count(layout.CHEN_CORRELATIONS, over="models")
    function = f"flatness.studies.chen.draw.{function}"
    shared = {"count": count, "jobs": "chen", "paper": "chen", "among": "families", "only": only}
    return Figure(name, function, tables, **shared, **entry)


def _replications(name: str, trained: str = "", **entry: object) -> Figure:
    """τ over independent pools under one protocol; `trained` says which in the caption."""
    return Figure(
        name,
        "flatness.studies.epfl.draw.replications:draw_replications",
        {"replications": layout.REPLICATIONS, "distributions": layout.DISTRIBUTION},
        caption="Kendall's τ between adaptive worst-case sharpness and test loss in each "
        f"independent replication of a pool{trained}, sorted, with its interval (jackknife-t over "
        "models); in grey the mean over replications with its t-interval and the interval that one "
        "more replication falls into, dashed the published value, with the number of replications "
        "that it lies above",
        count=Count(layout.DISTRIBUTION, "replications", column="replications"),
        paper="epfl",
        jobs="epfl",
        **entry,
    )


def _trends(name: str, family: str, by: str, heading: str, caption: str) -> Figure:
    """One of the figures of measures along training."""
    shared = {"heading": heading, "caption": caption, "options": {"by": by}}
    return _chen(name, "trends:draw_trends", family, **shared)


#: In the order of the page.
FIGURES = (
    _trends(
        "chen_fig1",
        "vgg11",
        "learning_rate",
        "Figure 1: VGG-11 by learning rate",
        "VGG-11: train loss, NMLS, sharpness, log volume, MLS and log local dimensionality along "
        "training by learning rate at batch size 20, mean and range over seeds, first "
        "interpolation marked",
    ),
    _trends(
        "chen_fig2",
        "vgg11",
        "batch_size",
        "Figure 2: VGG-11 by batch size",
        "VGG-11: the same measures along training by batch size at learning rate 0.1",
    ),
    _chen(
        "chen_fig3",
        "fig3:draw_fig3",
        *("mlp_relu", "lenet5", "vgg11"),
        correlated=True,
        heading="Figure 3: measures and bounds",
        caption="MLS against bound D and NMLS against its bound, at the end of training and at the "
        "same training loss, one point a model, hollow where it does not interpolate, with "
        "Pearson's r over all models, within a seed and within a setting, each with its interval; "
        "for convolutions the bounds are heuristic",
    ),
    Figure(
        "chen_fig4",
        "flatness.studies.transformers.draw:draw_fig4",
        {"models": layout.VIT_MODELS, "correlations": layout.VIT_CORRELATIONS},
        heading="Figure 4: transformers",
        caption='Average-case adaptive sharpness against normalized MLS of models with "vit" in '
        "their name, one colour and marker a family, hollow where a model is left out, by the "
        "exact and by the released estimators, with standard errors; r of the logarithms and "
        "Kendall's τ over all models, in brackets their intervals (jackknife-t over families); τ "
        "over the families' geometric means, and the mean of the families' τ (t over families)",
        count=Count(layout.VIT_CORRELATIONS),
        jobs="transformers",
        paper="chen",
        among="transformers",
    ),
    _chen(
        "chen_figG5",
        "fig_g5:draw_fig_g5",
        "mlp_tanh",
        heading="Figure G.5: the chain of bounds",
        caption="The chain of bounds A ≤ B ≤ C ≤ D on MLS along the training of the tanh MLPs, "
        "mean and range over all runs, the ratio at each gap, and √S",
    ),
    _trends(
        "chen_mlp_lr",
        "mlp_tanh",
        "learning_rate",
        "MLP by learning rate",
        "Tanh MLP: the same measures along training by learning rate at batch size 20",
    ),
    _trends(
        "chen_mlp_batch",
        "mlp_tanh",
        "batch_size",
        "MLP by batch size",
        "Tanh MLP: the same measures along training by batch size at learning rate 0.1",
    ),
    _chen(
        "chen_test_samples",
        "test_samples:draw_test_samples",
        "vgg11",
        heading="VGG-11 on test images",
        caption="VGG-11: the measures along training on test images and on the misclassified ones "
        "among them",
    ),
    _trends(
        "chen_ten_classes",
        "vgg11_ten_classes",
        "learning_rate",
        "VGG-11 on all ten classes",
        "VGG-11 on all ten classes: the measures along training by learning rate",
    ),
    _trends(
        "chen_optimizers",
        "optimizers",
        "setting",
        "Other optimizers",
        "MLP: the measures along training by optimizer (plain descent, momentum, weight decay, "
        "Adam)",
    ),
    _chen(
        "chen_scatter_{member}",
        "scatter:draw_scatter",
        *("mlp_relu", "lenet5", "vgg11"),
        correlated=True,
        heading="Every pair of quantities: {member}",
        caption="{member}: every pair of measures, one point a model; above the diagonal Pearson's "
        "r with its interval",
    ),
    Figure(
        "chen_scale",
        "flatness.studies.chen.draw.scale:draw_scale",
        {"scales": layout.SCALE},
        heading="Scale curves: correlations on more and more training images",
        caption="Pearson's r over the same seeds and settings against the number of training "
        "images, with its interval (jackknife-t over seeds), at the end of training and at the "
        "same training losses; above each panel, with the number of models, what the most images "
        "say of a correlation that the paper says is positive",
        count=Count(layout.SCALE),
        jobs="chen",
        paper="chen",
        among="scales",
    ),
    Figure(
        "epfl_fig1",
        "flatness.studies.epfl.draw.fig1:draw_fig1",
        {"models": layout.POOL_MODELS, "correlations": layout.POOL_CORRELATIONS},
        heading="Figure 1: sharpness and test loss",
        caption="Test loss against adaptive worst-case sharpness, one point a model, with "
        "Kendall's τ, its interval and the published value; crosses are the dots of the published "
        "plot, their sharpness on the axis at the top",
        count=Count(layout.POOL_CORRELATIONS),
        paper="epfl",
        jobs="epfl",
        among="pools",
    ),
    Figure(
        "cross_measures",
        "flatness.studies.cross.draw:draw_measures",
        {"correlations": layout.CROSS_CORRELATIONS},
        heading="Every measure of both papers on the models of both",
        caption="Kendall's τ of every measure of both papers with test loss and with the loss gap "
        "(test less training loss), within each family of networks (over seeds and learning "
        "settings) and each pool (over seeds); a star marks q < 0.05 by Benjamini and Hochberg's "
        "procedure over all tests of the table, hatched cells have no τ: the measure is not "
        "defined there or does not vary; on Chen's networks worst-case adaptive sharpness is by "
        "the strong maximiser, on the pools as its own study measured it",
        count=Count(layout.CROSS_CORRELATIONS, "models in the largest set"),
        jobs="cross",
        among="crossed",
    ),
    _replications(
        "epfl_replications", heading="The sampling distribution of τ", among="replications"
    ),
    _replications(
        "epfl_replications_released",
        heading="The sampling distribution of τ, as released",
        trained=", trained and measured as released",
        among="released_replications",
        protocol="released",
    ),
    Figure(
        "epfl_audit_{member}",
        "flatness.studies.epfl.draw.audit:draw_audit",
        {"audit": layout.AUDIT, "distributions": layout.DISTRIBUTION},
        where={"distributions": "replications"},
        heading="Written, strong, released: {member}",
        caption="Adaptive sharpness (mean over models ± standard error) and Kendall's τ with its "
        "interval of one pool under the written protocol, under a stronger maximiser, with each "
        "defect of the released code alone and with all of them; first the same models measured "
        "differently, then models trained differently, beside each protocol its number of models; "
        "the dashed line is the published τ; behind the protocol that was replicated, a standard "
        "deviation of τ over independent pools to either side of their mean, and what of it lies "
        "between train/test splits",
        count=Count(layout.AUDIT),
        paper="epfl",
        jobs="epfl",
        among="audit",
    ),
    Figure(
        "epfl_factorial_{member}",
        "flatness.studies.epfl.draw.factorial:draw_factorial",
        {"cells": layout.FACTORIAL_CELLS, "effects": layout.FACTORIAL_EFFECTS},
        heading="Every combination of defects: {member}",
        caption="Every combination of the released code's defects: mean sharpness, Kendall's τ and "
        "test loss of the same seeds under each, with the published figure, circled where all "
        "three are within 3 standard errors of it; for the FCNN a star has the weights of two "
        "pools mixed, as the published figure seems to have them; right, the main effect of each "
        "defect on τ with its jackknife interval over models, with the other part of the protocol "
        "as written and as released",
        count=Count(layout.FACTORIAL_CELLS),
        paper="epfl",
        jobs="factorial",
        among="factorial",
    ),
)
#: Verb of the command line -> drawing function.
DRAWING = {figure.verb: figure.function for figure in FIGURES}
