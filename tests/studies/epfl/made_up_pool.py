"""Tables of a made-up pool, and the command that correlates them."""

import numpy as np

from flatness.__main__ import main
from flatness.records.tables import provenance, write_table
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.rows import MeasuredModel, TrainedModel

STATISTICS = Statistics(resamples=200, confidence=0.95, seed=0)


def pool_tables(folder, models, diverged=(), unmeasured=(), measured_with="AVX2"):
    """Two training and two measurement tables of a made-up pool."""
    rng = np.random.default_rng(0)
    losses, sharpness = rng.normal(size=(2, models))
    made = provenance("abc", computed_with="AVX2")
    trained, measured = [], []
    for seed in range(models):
        lost = seed in diverged
        trained.append(
            TrainedModel(
                pool="gat", dataset="sbm", demo=True, train_size=140, seed=seed, split=0, epochs=10,
                epoch_loss=1.0, train_loss=1.0, test_loss=np.nan if lost else losses[seed],
                test_accuracy=0.5,
                diverged=lost, reason="the loss became nan in epoch 2" if lost else "", **made,
            )
        )  # fmt: skip
        gone = lost or seed in unmeasured
        measured.append(
            MeasuredModel(
                pool="gat", seed=seed, worst_case_sharpness=np.nan if gone else sharpness[seed],
                worst_case_sharpness_se=0.1,
                worst_case_sharpness_clamped=np.nan if gone else abs(sharpness[seed]),
                restarts=50, reason="nothing to measure" if gone else "",
                **made | {"instruction_set": measured_with},
            )
        )  # fmt: skip
    half = models // 2
    for name, rows in (("t", trained), ("m", measured)):
        write_table(folder / f"{name}0.csv", rows[:half])
        write_table(folder / f"{name}1.csv", rows[half:])
    return losses, sharpness


def correlate(folder):
    return main(
        ["correlate-epfl", "--pool", "gat", "--trained", "written", "--measured", "written"]
        + ["--statistics", STATISTICS.model_dump_json()]
        + [f"--training={folder / name}.csv" for name in ("t0", "t1")]
        + [f"--measurements={folder / name}.csv" for name in ("m0", "m1")]
        + ["--models", str(folder / "models.csv"), "--output", str(folder / "table.csv")]
        + ["--published", str(folder / "ranges.csv")]
    )
