"""Made-up tables of both studies, as `correlate-cross` reads and writes them."""

import math

import numpy as np

import made_up_results
from flatness.records.tables import provenance, write_table
from flatness.statistics.settings import Statistics
from flatness.studies.cross.correlate import correlate_measures
from flatness.studies.cross.measures import COMPRESSION, NOT_DEFINED, STRONG
from flatness.studies.cross.rows import CrossMeasurement, no_value, of_value
from flatness.studies.epfl.rows import PoolModel
from studies.chen.small_study import made_up_family

STATISTICS = Statistics(resamples=100, confidence=0.95, seed=0).model_dump_json()
LOST = ("lr0.1_batch20", 1)


def family(folder, name="mlp_relu"):
    """Checkpoints of a family with one diverged model, and its adaptive sharpness."""
    checkpoints = made_up_family(name, seeds=5, trend_seeds=1, diverged=(LOST,))
    write_table(folder / f"{name}.csv", checkpoints)
    rows = []
    for row in checkpoints:
        if row.last and row.sampled == "train":
            common = {k: getattr(row, k) for k in ("dataset", "demo", "setting", "seed")}
            found = no_value("diverged", row.reason) if row.diverged else of_value(row.seed, 0.1)
            rows.append(
                CrossMeasurement(
                    models=name, measure=STRONG, **common, **found, **provenance("abc")
                )
            )
    write_table(folder / f"{name}_cross.csv", rows)
    return folder / f"{name}.csv", folder / f"{name}_cross.csv"


def pool(folder, name="gat", models=6):
    """Models of a pool with one diverged model, and their compression."""
    rng = np.random.default_rng(0)
    rows, measured = [], []
    for seed in range(models):
        lost = seed == 2
        values = rng.normal(size=3)
        rows.append(
            made_up_results.made_up(
                PoolModel, pool=name, trained="written", measured="written", demo=True, seed=seed,
                train_loss=math.nan if lost else values[0],
                test_loss=math.nan if lost else values[1],
                worst_case_sharpness=values[2], worst_case_sharpness_se=0.1,
                used=not lost, reason="the loss was nan in epoch 2" if lost else "",
            )
        )  # fmt: skip
        for index, measure in enumerate(COMPRESSION):
            found = of_value(-math.inf if measure == "log_volume_top3" else 2.0 + index * seed, 0.5)
            if measure in NOT_DEFINED[name]:
                found = no_value("not defined", "no definition")
            if lost:
                found = no_value("diverged", "the loss was nan in epoch 2")
            measured.append(
                CrossMeasurement(
                    models=name, dataset="sbm", demo=True, setting="", seed=seed, measure=measure,
                    **found, **provenance("abc"),
                )
            )  # fmt: skip
    write_table(folder / f"{name}.csv", rows)
    write_table(folder / f"{name}_cross.csv", measured)
    return folder / f"{name}.csv", folder / f"{name}_cross.csv"


def correlated(folder, families=("mlp_relu",), pools=("gat",)):
    """The tables of models and of correlations."""
    made = [family(folder, name) for name in families]
    others = [pool(folder, name) for name in pools]
    outputs = folder / "models.csv", folder / "correlations.csv"
    cross = [table for _, table in (*made, *others)]
    correlate_measures(STATISTICS, [t for t, _ in made], [t for t, _ in others], cross, *outputs)
    return outputs
