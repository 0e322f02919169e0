"""The verb `defect-effects`: results of each combination of defects, and effects of each defect.

All combinations have the same seeds, and differences between them are taken within seeds: the
jackknife leaves one seed out of all combinations at once.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.against_source import LARGEST_Z
from flatness.studies.epfl.defects import MEASURING_DEFECTS, TRAINING_DEFECTS, defects_of
from flatness.studies.epfl.mixed_pools import mixed_pool
from flatness.studies.epfl.published import FIGURE, source_values
from flatness.studies.epfl.rows import Combination, CrossedModel, DefectEffect

#: The defects of each part, and its place in the key of a combination.
PARTS = {"training": (TRAINING_DEFECTS, 0), "measuring": (MEASURING_DEFECTS, 1)}
#: Quantities of a cell that are compared with the published figure -> their names in the source.
QUANTITIES = {"tau": "tau", "mean_sharpness": "worst_case_sharpness", "mean_test_loss": "test_loss"}


def defect_effects(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    models: Annotated[list[Path], typer.Option(help="tables of cross-defects, one per block")],
    cells: Annotated[Path, typer.Option(help="table of combinations to write")],
    output: Annotated[Path, typer.Option(help="table of effects to write")],
) -> None:
    """Compares every combination with the published figure and computes the defects' effects."""
    settings = Statistics.model_validate_json(statistics)
    table = read_tables(models, CrossedModel)
    seeds = sorted(table["seed"].unique())
    found = {
        key: leave_one_out(cell[cell["used"]], seeds)
        for key, cell in table.groupby(["trained", "measured"], sort=False)
    }
    made = derived_from(table, statistics=settings.model_dump())
    first = table.iloc[0]
    shared = {"pool": first["pool"], "demo": first["demo"], **made}
    mixed = mixed_pool(table) if first["pool"] == "fcnn" else table[:0]
    shown = found | {
        key: leave_one_out(cell, seeds) for key, cell in mixed.groupby(["trained", "measured"])
    }
    everything = pd.concat([table, mixed], ignore_index=True)
    write_table(cells, list(combination_rows(everything, shown, settings, shared)))
    rows = [
        DefectEffect(**line, confidence=settings.confidence, n=len(seeds), **shared)
        for line in effect_lines(first["pool"], found, settings.confidence)
    ]
    write_table(output, rows)


def leave_one_out(used: pd.DataFrame, seeds: list[int]) -> np.ndarray:
    """τ, mean sharpness and mean test loss of a cell, with all seeds and without each seed.

    Args:
        used: the usable models.
        seeds: of all models of the factorial, n.

    Returns:
        (n + 1, 3) in the order of `QUANTITIES`, the whole cell first; leaving out a seed that the
        cell lacks does not change it.
    """
    x, y = used["worst_case_sharpness"].to_numpy(), used["test_loss"].to_numpy()
    place = {seed: index for index, seed in enumerate(used["seed"])}
    pairs = [np.sign(np.subtract.outer(v, v)) for v in (x, y)]
    # Numerator and the two sums under the root of τ-b, over ordered pairs, row by row.
    rows = np.stack([(a * b).sum(1) for a, b in (pairs, pairs[:1] * 2, pairs[1:] * 2)])
    whole, lines = rows.sum(1), []
    for index in [None, *(place.get(seed) for seed in seeds)]:
        rest = whole if index is None else whole - 2 * rows[:, index]
        kept = np.ones(len(x), dtype=bool)
        if index is not None:
            kept[index] = False
        with np.errstate(invalid="ignore"):
            tau = rest[0] / np.sqrt(rest[1] * rest[2]) if len(x) >= MINIMUM_MODELS else np.nan
        means = [v[kept].mean() if kept.any() else np.nan for v in (x, y)]
        lines.append([tau, *means])
    return np.array(lines)


def jackknife(values: np.ndarray, confidence: float) -> tuple[float, float, float, float]:
    """Estimate, standard error and t interval from the values with all and without each seed.

    Args:
        values: (n + 1,), the whole first.
        confidence: level of the interval.

    Returns:
        Estimate, error, low and high.
    """
    estimate, without = float(values[0]), values[1:]
    n = len(without)
    error = float(np.sqrt((n - 1) * without.var()))
    reach = float(stats.t.ppf((1 + confidence) / 2, max(n - 1, 1))) * error if n > 1 else np.nan
    return estimate, error, estimate - reach, estimate + reach


def combination_rows(
    table: pd.DataFrame,
    found: dict[tuple[str, str], np.ndarray],
    settings: Statistics,
    shared: dict[str, object],
) -> Iterator[Combination]:
    """One row per combination, compared with the published figure in all three quantities.

    Args:
        table: rows of `CrossedModel`.
        found: by combination, as `leave_one_out` returns them.
        settings: resampling of the published τ.
        shared: columns of every row.

    Yields:
        The rows.
    """
    published = {
        value.quantity: value
        for value in source_values(shared["pool"], settings)
        if value.source == FIGURE
    }
    for (trained, measured), values in found.items():
        models = table[(table["trained"] == trained) & (table["measured"] == measured)]
        columns = {}
        for index, name in enumerate(QUANTITIES):
            estimate, error, *_ = jackknife(values[:, index], settings.confidence)
            source = published[QUANTITIES[name]]
            z = float((estimate - source.value) / np.hypot(error, source.error))
            columns |= {name: estimate, f"{name}_se": error, f"{name}_z": z}
        near = all(abs(columns[f"{name}_z"]) <= LARGEST_Z for name in QUANTITIES)
        yield Combination(
            dataset=models["dataset"].iloc[0],
            trained=trained,
            measured=measured,
            n=int(models["used"].sum()),
            excluded=int((~models["used"]).sum()),
            matches=near and not shared["demo"],
            **columns,
            **shared,
        )


def effect_lines(
    pool: str, found: dict[tuple[str, str], np.ndarray], confidence: float
) -> Iterator[dict[str, object]]:
    """The effects of both parts' defects.

    Args:
        pool: fcnn, lenet5 or gat.
        found: by combination, as `leave_one_out` returns them.
        confidence: level of the intervals.

    Yields:
        Columns `combined` to `high` of `DefectEffect`.
    """
    for part, (defects_by_pool, own) in PARTS.items():
        known = defects_by_pool[pool]
        others = {key[1 - own] for key in found} & {"written", "released"}
        for other in sorted(others, reverse=True):
            cells = {
                frozenset(defects_of(known, key[own])): values
                for key, values in found.items()
                if key[1 - own] == other
            }
            for kind, defects, values in contrasts(cells, tuple(known)):
                for index, quantity in enumerate(QUANTITIES):
                    effect, _, low, high = jackknife(values[:, index], confidence)
                    yield {
                        "combined": part, "other": other, "effect_kind": kind, "defects": defects,
                        "compared": quantity, "effect": effect, "low": low, "high": high,
                    }  # fmt: skip


def contrasts(
    cells: dict[frozenset[str], np.ndarray], known: tuple[str, ...]
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Differences between the cells of a full factorial.

    Args:
        cells: values of each combination of defects, any shape.
        known: all defects.

    Yields:
        Kind, defects and difference, as `DefectEffect` has them.
    """
    if not known:
        return
    none, everything = cells[frozenset()], cells[frozenset(known)]
    for name in known:
        yield "main", name, _contrast(cells, (name,))
    for pair in combinations(known, 2):
        yield "interaction", " × ".join(pair), _contrast(cells, pair)
    alone = [cells[frozenset([name])] - none for name in known]
    for name, difference in zip(known, alone, strict=True):
        yield "alone", name, difference
    yield "sum alone", "", sum(alone)
    yield "together", "", everything - none


def _contrast(cells: dict[frozenset[str], np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Mean of the cells that lack an even number of `names` minus that of the other cells."""
    signs = {cell: (-1) ** len(set(names) - cell) for cell in cells}
    return 2 * sum(sign * cells[cell] for cell, sign in signs.items()) / len(cells)
