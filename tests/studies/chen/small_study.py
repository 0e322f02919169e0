"""A study small enough for tests: random images with two classes and a short schedule."""

from contextlib import contextmanager
from itertools import count
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from flatness.datasets.normalised import Dataset, save
from flatness.measures.quantities import QUANTITIES
from flatness.records.tables import provenance
from flatness.studies.chen.config import GridTraining, Measurement, Setting
from flatness.studies.chen.measured_rows import MeasuredCheckpoint

STEPS = (0, 30, 60)
GRID = ((0.05, 20), (0.1, 20), (0.2, 20), (0.1, 8), (0.1, 32))


def write_images(path: Path, *, network: str = "mlp", train: int = 40) -> Path:
    """Writes bright and dark noise images of two classes as a demo data set."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 28, 28) if network == "mlp" else (3, 32, 32)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 2
        noise = torch.randint(0, 128, (count, *shape), generator=generator)
        return (noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels

    train_inputs, train_targets = part(train)
    test_inputs, test_targets = part(20)
    tensors = {
        "train_inputs": train_inputs,
        "train_targets": train_targets,
        "test_inputs": test_inputs,
        "test_targets": test_targets,
    }
    save(path, Dataset("digits", True, tensors))
    return path


def small_training(**changes: object) -> GridTraining:
    """The slice of a short MLP training."""
    values = {
        "family": "mlp_tanh",
        "network": "mlp",
        "activation": "tanh",
        "dataset": "digits",
        "classes": None,
        "train_size": None,
        "setting": Setting(learning_rate=0.1, batch_size=8),
        "steps": STEPS,
        "device": "cpu",
    }
    values |= changes
    return GridTraining(**{"end": values["steps"][-1]} | values)


def small_measurement(**changes: object) -> Measurement:
    """The slice that measures `small_training`."""
    values = small_training().model_dump() | {"samples": 6, "trace_seeds": 0, "test_samples": 0}
    values |= changes
    return Measurement(**values | {"end": changes.get("end", values["steps"][-1])})


class KilledError(Exception):
    """Ends what runs, as a kill does."""


@contextmanager
def killed_at(function, survived=0):
    """What runs within ends at a call of a function, given by its path, after some that survive."""
    original, calls = resolve_name(function), count()

    def call(*arguments):
        if next(calls) == survived:
            raise KilledError
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(function, call)
        yield


def made_up_family(
    family: str = "mlp_relu",
    *,
    network: str = "mlp",
    seeds: int = 4,
    trend_seeds: int = 2,
    diverged: tuple[tuple[str, int], ...] = (),
    sampled: tuple[str, ...] = ("train", "test", "misclassified"),
) -> list[MeasuredCheckpoint]:
    """Rows of a made-up grid: compression falls along training as √S does, faster at high rates."""
    rng = np.random.default_rng(len(family))
    rows = []
    for rate, batch in GRID:
        for seed in range(seeds):
            lost = (f"lr{rate:g}_batch{batch}", seed) in diverged
            luck = rng.normal(scale=0.1)
            for step in (0, 100, 200, 300, 400) if seed < trend_seeds else (400,):
                kinds = sampled if seed < trend_seeds else ("train",)
                common = _made_up_common(family, network, rate, batch, seed, step, lost)
                for kind in kinds:
                    values = _made_up_values(rng, rate, step, luck, lost and step > 0)
                    rows.append(MeasuredCheckpoint(sampled=kind, samples=20, **common, **values))
    return rows


def _made_up_common(family, network, rate, batch, seed, step, lost):
    lost = lost and step > 0
    loss = np.nan if lost else 0.09 * np.exp(-step * rate / 8)
    return {
        "family": family, "network": network, "setting": f"lr{rate:g}_batch{batch}",
        "learning_rate": rate, "batch_size": batch, "dataset": "digits", "demo": True,
        "train_size": 40, "seed": seed, "step": step, "last": step == 400, "train_loss": loss,
        "train_accuracy": np.nan if lost else 1 - loss, "test_loss": loss * 2,
        "test_accuracy": np.nan if lost else 0.9 - loss, "accuracy_gap": 10 + seed,
        "interpolated": bool(loss < 1e-3), "diverged": lost,
        "reason": "training loss not finite by step 100" if lost else "", **provenance("abc"),
    }  # fmt: skip


def _made_up_values(rng, rate, step, luck, lost):
    names = [name for quantity in QUANTITIES for name in (quantity, f"{quantity}_se")]
    values = dict.fromkeys(["hessian_trace", "hessian_trace_se", *names], np.nan)
    if lost:
        return values
    root = (3 - rate * step / 100) * np.exp(luck) + rng.normal(scale=0.02)
    values |= {name: 1.0 for name in names}
    mls = root * 0.5 + rng.normal(scale=0.02)
    values |= {"sharpness": root**2, "mls": mls, "nmls": 3 * mls, "local_dimensionality": 2 + luck}
    values |= {"log_volume_top3": 3 * np.log(mls), "relative_flatness": 5 + rng.normal()}
    for suffix in ("", "_bias", "_released"):
        values |= {
            f"bound_{letter}{suffix}": mls * by
            for letter, by in zip("bcd", (2, 3, 30), strict=True)
        }
        values[f"nmls_bound{suffix}"] = 90 * root
        values |= {f"log_lvr_bound{suffix}": 5.0, f"log_nvr_bound{suffix}": 9.0}
    return values | {
        "log_lvr": -4.0,
        "log_lvr_bound_jacobian": 1.0,
        "average_case_sharpness": root / 9,
    }
