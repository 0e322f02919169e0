"""Made-up rows of the transformer study, and the commands over them."""

import numpy as np

from flatness.records.frozen import canonical_json
from flatness.records.tables import provenance, write_table
from flatness.statistics.settings import Statistics
from flatness.studies.transformers.correlate import correlate_models
from flatness.studies.transformers.rows import MeasuredVit

STATISTICS = Statistics(resamples=200, confidence=0.95, seed=0)


def measured_rows(families=None, changes=None, shift=None, noise=0.3, pretrained=False):
    """Rows along a noisy power law.

    `changes` overrides columns by number of the row, `shift` multiplies sharpness by model.
    """
    rng = np.random.default_rng(0)
    names = [
        (family, f"{family}_{i}")
        for family, count in (families or {"vit": 6, "levit": 4}).items()
        for i in range(count)
    ]
    rows = []
    for number, (family, name) in enumerate(names):
        normalized_mls = float(np.exp(rng.normal(2, 1)))
        sharpness = 3 * normalized_mls**0.8 * float(np.exp(noise * rng.normal()))
        sharpness *= (shift or {}).get(name, 1)
        values = {
            "model": name, "family": family, "dataset": "imagenet" if pretrained else "digits32",
            "demo": not pretrained, "pretrained": pretrained, "parameters": 1000,
            "input_size": 32, "test_loss": float(rng.uniform(0.2, 1)), "test_accuracy": 0.8,
            "evaluated": 100, "untrained": False, "images": 10, "normalized_mls": normalized_mls,
            "normalized_mls_se": 0.05 * normalized_mls, "mls": 1.0, "mls_unconverged": 0,
            "mls_residual": 0.01, "mls_iterations": 16.0,
            "normalized_mls_released": normalized_mls / 2,
            "normalized_mls_released_se": 0.05 * normalized_mls, "tightness": 0.7,
            "average_case_sharpness": sharpness, "average_case_sharpness_se": 0.1 * sharpness,
            "pairs": 50, "pair_images": 500,
            "average_case_sharpness_released": sharpness,
            "average_case_sharpness_released_se": 0.1 * sharpness, "perturbations_released": 500,
            "reliable": True, "reliable_released": True, "reason": "", **provenance("abc"),
        }  # fmt: skip
        rows.append(MeasuredVit(**(values | (changes or {}).get(number, {}))))
    return rows


def correlate(folder, **made_up):
    """Writes two blocks of made-up rows and correlates them: models.csv, correlations.csv."""
    rows = measured_rows(**made_up)
    blocks = [folder / "block_0.csv", folder / "block_1.csv"]
    half = (len(rows) + 1) // 2
    write_table(blocks[0], rows[:half])
    write_table(blocks[1], rows[half:])
    correlate_models(
        statistics=canonical_json(STATISTICS),
        measurements=blocks,
        models=folder / "models.csv",
        output=folder / "correlations.csv",
    )
