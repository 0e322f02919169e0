"""Models that diverged, failed or were excluded, each by name with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flatness.records import layout
from flatness.records.tables import read_text


@dataclass(frozen=True)
class LeftOut:
    """Models that were left out for one reason.

    Attributes:
        study: epfl, chen, transformers or cross.
        group: which pool, grid setting or estimator they belong to.
        reason: why.
        models: their names or seeds.
    """

    study: str
    group: str
    reason: str
    models: tuple[str, ...]


def left_out_models(results: Path) -> list[LeftOut]:
    """Finds all models of a run that its correlations leave out.

    Args:
        results: folder of one config, as `results/laptop`.

    Returns:
        One entry per group and reason; empty if every model was used.
    """
    found = [table for table in _tables(results) if len(table)]
    if not found:
        return []
    table = pd.concat(found, ignore_index=True)
    table["reason"] = table["reason"].replace("", "a quantity is not finite")
    return [
        LeftOut(*names, models=tuple(dict.fromkeys(models["model"])))
        for names, models in table.groupby(["study", "group", "reason"], sort=False)
    ]


def _tables(results: Path) -> Iterator[pd.DataFrame]:
    """Columns study, group, model, reason of each study."""
    pools = [
        path
        for models in (layout.POOL_MODELS, layout.REPLICATED_MODELS, layout.AUDITED_MODELS)
        for path in layout.files(results, models)
    ]
    for path in pools:
        table = _read(path, ["pool", "trained", "measured", "seed", "used", "reason"])
        group = table["pool"] + " (" + table["trained"] + ", " + table["measured"] + ")"
        yield _columns("epfl", table, group, "seed " + table["seed"])
    for path in layout.files(results, layout.CHEN_CHECKPOINTS):
        table = _read(path, ["family", "setting", "seed", "diverged", "reason"])
        table = table[(table["diverged"] == "True") | (table["reason"] != "")]
        group = table["family"] + " " + table["setting"]
        yield _columns("chen", table, group, "seed " + table["seed"])
    for path in layout.files(results, layout.VIT_MODELS):
        table = _read(path, ["estimator", "model", "used", "reason"])
        group = "transformers, " + table["estimator"] + " estimators"
        yield _columns("transformers", table, group, table["model"])
    # Diverged models are listed by their own study; these could not be measured by the other study.
    for path in layout.files(results, layout.CROSS_MODELS):
        table = _read(path, ["models", "setting", "seed", "measure", "status", "reason"])
        table = table[table["status"] == "not measured"]
        group = (table["models"] + " " + table["setting"]).str.strip() + ", " + table["measure"]
        yield _columns("cross", table, group, "seed " + table["seed"])


def _read(path: Path, names: list[str]) -> pd.DataFrame:
    """The models of a table that were not used."""
    table = read_text(path)[names]
    return table[table["used"] == "False"] if "used" in names else table


def _columns(study: str, table: pd.DataFrame, group: pd.Series, model: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"study": study, "group": group, "reason": table["reason"], "model": model})
