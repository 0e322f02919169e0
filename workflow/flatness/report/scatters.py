"""The scatter plots of the explorable page: points of every study with labels, from tables."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from flatness.measures.quantities import QUANTITIES
from flatness.records import layout
from flatness.records.tables import read_table
from flatness.studies.chen.draw.common import setting_label
from flatness.studies.chen.matched import END, LOSSES, at_loss, at_name
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.quantities import last_on_train, with_derived
from flatness.studies.cross.rows import CrossModel
from flatness.studies.epfl.published import scatter as published_scatter
from flatness.studies.epfl.rows import PoolModel, ReplicatedModel
from flatness.studies.titles import title
from flatness.studies.transformers.rows import PlacedVit

#: Significant digits of the page's numbers.
DIGITS = 6
ALONG = "along training"
#: The group of the published dots, which have their own axis.
PUBLISHED = "published"
#: The group of models of a pool, which has no settings.
OURS = "ours"
#: Further axes for a family's models, besides the registry's quantities.
PLACES = (
    "step",
    "learning_rate",
    "batch_size",
    "train_loss",
    "test_loss",
    "train_accuracy",
    "test_accuracy",
    "accuracy_gap",
    "root_sharpness",
    "log_local_dimensionality",
    "hessian_trace",
)
DERIVED = {
    "root_sharpness": ("√S", "root of the sharpness S"),
    "loss_gap": ("", "test less training loss"),
    "log_local_dimensionality": ("", "natural logarithm of local_dimensionality"),
}
POOL_AXES = ("worst_case_sharpness", "test_loss", "train_loss")


@dataclass(frozen=True)
class View:
    """A selection of points of a set, such as its models at the end of training.

    Attributes:
        name: as in claims.
        title: as on the page.
        x: initial quantity on the first axis.
        y: initial quantity on the second axis.
        points: columns `group`, `name`, `hollow`, `reason`, then quantities and their `<name>_se`;
            None where there is no finite value.
        lines: whether points with the same name belong to one run, in order.
        logarithmic: whether both axes are initially logarithmic.
    """

    name: str
    title: str
    x: str
    y: str
    points: dict[str, list[Any]]
    lines: bool = False
    logarithmic: bool = False


@dataclass(frozen=True)
class ScatterSet:
    """Models that can be compared, as one family or pool.

    Attributes:
        id: short name.
        paper: key of the papers; empty for both.
        title: of networks and data.
        demo: whether the data are made for the demo.
        tables: paths below `results/<config>`.
        views: at least one.
        quantities: maps a name to symbol and description, which may be empty.
    """

    id: str
    paper: str
    title: str
    demo: bool
    tables: list[str]
    views: list[View] = field(default_factory=list)
    quantities: dict[str, dict[str, str]] = field(default_factory=dict)


def scatter_sets(results: Path) -> list[ScatterSet]:
    """Every scatter that a run's tables give, in the papers' order.

    Args:
        results: folder of one config.

    Returns:
        Families, transformers, pools, and the measures of both papers.
    """
    found = [*_families(results), *_transformers(results), *_pools(results), *_cross(results)]
    return [replace(entry, quantities=_texts(entry)) for entry in found]


def _texts(entry: ScatterSet) -> dict[str, dict[str, str]]:
    """Symbol and description of a set's quantities, from the row model of its table."""
    rows = {"transformers": PlacedVit, "epfl": PoolModel}
    fields = rows.get(entry.id.split("/")[0], MeasuredCheckpoint).model_fields
    texts = {}
    for name in {name for view in entry.views for name in view.points}:
        field = fields.get(name)
        found = (field.json_schema_extra["symbol"], field.description) if field else ("", "")
        symbol, description = DERIVED.get(name, found)
        texts[name] = {"symbol": symbol, "description": description}
    return dict(sorted(texts.items()))


def _families(results: Path) -> Iterator[ScatterSet]:
    """Figures 1 to 3 and their relatives: at equal steps, at equal losses, along training."""
    for path in layout.files(results, layout.CHEN_CHECKPOINTS):
        table = with_derived(read_table(path, MeasuredCheckpoint))
        first = table.iloc[0]
        made = ScatterSet(
            f"chen/{first['family']}", "chen", _subject(first), bool(first["demo"]),
            _below(results, path),
        )  # fmt: skip
        models = last_on_train(table)
        made.views.append(_family_view(END, "equal steps (end of training)", models))
        for loss in LOSSES:
            reached = at_loss(table, loss)
            if reached["mls"].notna().any():
                heading = f"matched loss (training loss {loss:g})"
                made.views.append(_family_view(at_name(loss), heading, reached))
        for sampled, part in table.groupby("sampled", sort=False):
            runs = part[part.groupby(["setting", "seed"])["step"].transform("nunique") > 1]
            if len(runs):
                heading = f"along training, {sampled} images"
                made.views.append(_family_view(f"{ALONG}, {sampled}", heading, runs, lines=True))
        yield made


def _subject(first: pd.Series) -> str:
    """Network and data set; a family without its own title is named, too."""
    family = first["family"]
    known = title(family) != family
    own = title(family if known else first["network"])
    return f"{own} on {title(first['dataset'])}" + ("" if known else f" ({family})")


def _family_view(name: str, heading: str, part: pd.DataFrame, lines: bool = False) -> View:
    points = {
        "group": [setting_label(setting) for setting in part["setting"]],
        "name": [f"seed {seed}" for seed in part["seed"]],
        "hollow": [not interpolated for interpolated in part["interpolated"]],
        "reason": list(part["reason"]),
    }
    quantities = [*PLACES, *(name for name in QUANTITIES if not name.endswith("_bias"))]
    x, y = ("step", "root_sharpness") if lines else ("bound_d_released", "mls")
    return View(name, heading, x, y, points | _columns(part, quantities), lines=lines)


def _transformers(results: Path) -> Iterator[ScatterSet]:
    """Figure 4, by each estimator."""
    for path in layout.files(results, layout.VIT_MODELS):
        table = read_table(path, PlacedVit)
        demo, dataset = bool(table["demo"].any()), title(table["dataset"].iloc[0])
        kind = "pretrained" if table["pretrained"].any() else "small, trained here"
        made = ScatterSet(
            "transformers", "chen", f"Transformers ({kind}) on {dataset}", demo,
            _below(results, path),
        )  # fmt: skip
        for estimator, part in table.groupby("estimator", sort=False):
            points = _entries(part, part["family"], part["model"])
            axes = ("normalized_mls", "average_case_sharpness")
            points |= _columns(part, (*axes, "test_loss", "score"))
            made.views.append(
                View(estimator, f"{estimator} estimators", *axes, points, logarithmic=True)
            )
        yield made


def _pools(results: Path) -> Iterator[ScatterSet]:
    """Figure 1 of the EPFL report: as reported, as audited, and in every replication."""
    kinds = (
        ("", layout.POOL_MODELS, PoolModel),
        ("audit ", layout.AUDITED_MODELS, PoolModel),
        ("replications ", layout.REPLICATED_MODELS, ReplicatedModel),
    )
    made: dict[str, ScatterSet] = {}
    for kind, pattern, row in kinds:
        # The written protocols first.
        for path in sorted(
            layout.files(results, pattern), key=lambda path: "released" in path.parts
        ):
            table = read_table(path, row)
            pool, demo = table["pool"].iloc[0], bool(table["demo"].any())
            entry = made.setdefault(pool, ScatterSet(f"epfl/{pool}", "epfl", title(pool), demo, []))
            entry.tables.extend(_below(results, path))
            entry.views.extend(_pool_views(kind, table, pool))
    yield from made.values()


def _pool_views(kind: str, table: pd.DataFrame, pool: str) -> Iterator[View]:
    for (trained, measured), part in table.groupby(["trained", "measured"], sort=False):
        groups = pd.Series(OURS, part.index)
        if "replication" in part:
            groups = "replication " + part["replication"].astype(str)
        points = _entries(part, groups, "seed " + part["seed"].astype(str))
        points |= _columns(part, POOL_AXES)
        if not kind and not part["demo"].any():
            points = _with_published(points, published_scatter(pool))
        protocols = f"trained {trained}, measured {measured}"
        heading = kind + (f"as {trained}" if trained == measured else protocols)
        yield View(f"{kind}{trained}/{measured}", heading.replace("_", " "), *POOL_AXES[:2], points)


def _with_published(points: dict[str, list], dots: pd.DataFrame) -> dict[str, list]:
    """The dots of the published figure, after our models; they have no seeds and no errors."""
    count = len(dots)
    own = {"group": [PUBLISHED] * count, "hollow": [True] * count, "reason": [""] * count}
    own["name"] = [f"dot {number} of the published figure" for number in range(1, count + 1)]
    own |= {name: _numbers(dots[name]) for name in dots}
    return {name: values + own.get(name, [None] * count) for name, values in points.items()}


def _cross(results: Path) -> Iterator[ScatterSet]:
    """Every measure of both papers against the losses of both papers' models."""
    for path in layout.files(results, layout.CROSS_MODELS):
        table = read_table(path, CrossModel)
        for (study, models), part in table.groupby(["study", "models"], sort=False):
            made = ScatterSet(
                f"cross/{study}/{models}", "",
                f"{title(models)} on {title(part['dataset'].iloc[0])}, measures of both papers",
                bool(part["demo"].any()), _below(results, path),
            )  # fmt: skip
            made.views.append(_cross_view(part))
            yield made


def _cross_view(part: pd.DataFrame) -> View:
    model = ["setting", "seed"]
    measures = list(part["measure"].unique())
    wide = part.drop_duplicates(model).set_index(model).sort_index()
    for name, source in (("", "value"), ("_se", "standard_error")):
        values = part.pivot(index=model, columns="measure", values=source)
        wide = wide.join(values.add_suffix(name))
    lacking = part[part["reason"] != ""].drop_duplicates([*model, "reason"])
    reasons = lacking.groupby(model)["reason"].agg("; ".join)
    wide["reason"] = reasons.reindex(wide.index, fill_value="")
    wide = wide.reset_index()
    points = {
        "group": [setting_label(setting) or OURS for setting in wide["setting"]],
        "name": [f"seed {seed}" for seed in wide["seed"]],
        "hollow": [False] * len(wide),
        "reason": list(wide["reason"]),
    } | _columns(wide, (*measures, "test_loss", "train_loss", "loss_gap"))
    return View("models", "all models at the end of training", measures[0], "test_loss", points)


def _entries(part: pd.DataFrame, groups: pd.Series, names: pd.Series) -> dict[str, list]:
    """Labels of the points; points that do not enter figures and correlations are hollow."""
    return {
        "group": list(groups),
        "name": list(names),
        "hollow": [not used for used in part["used"]],
        "reason": list(part["reason"]),
    }


def _columns(part: pd.DataFrame, names: Iterable[str]) -> dict[str, list[float | None]]:
    """Quantities that have a value, with the standard errors that tables give."""
    found = {}
    for name in names:
        values = _numbers(part[name])
        if any(value is not None for value in values):
            found[name] = values
            if f"{name}_se" in part:
                found[f"{name}_se"] = _numbers(part[f"{name}_se"])
    return found


def _numbers(values: pd.Series) -> list[float | None]:
    return [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in values]


def _below(results: Path, path: Path) -> list[str]:
    return [str(path.relative_to(results))]
