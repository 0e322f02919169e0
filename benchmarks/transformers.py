"""Time per transformer and the tightness of the released MLS, on the models of the demo.

Run as `python -m benchmarks.transformers OUTPUT.json`. Trains each model of `config/demo.yaml` on
the demo's digits, which are made here, and measures it part by part. One thread, CPU seconds. The
largest singular value is also taken from the explicit Jacobian, as a check of the power iteration.
"""

import json
import platform
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import timm
import torch
import typer
import yaml
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import timed
from flatness.datasets.images import digits32
from flatness.datasets.normalised import Dataset
from flatness.records.files import atomic_path
from flatness.records.tensors import Scratch
from flatness.studies.transformers.config import (
    Measuring,
    TrainingFromScratch,
    TransformersSettings,
    VitModel,
)
from flatness.studies.transformers.images import draw_index, endless_batches, small_images
from flatness.studies.transformers.models import build, family
from flatness.studies.transformers.perturb import (
    average_case_sharpness,
    released_average_case_sharpness,
)
from flatness.studies.transformers.slopes import adam_slopes, jacobian_norms
from flatness.studies.transformers.train import start_at_base_rate, train


@cache
def digits() -> Dataset:
    return Dataset("digits32", True, digits32.make())


def trained(model: VitModel, training: TrainingFromScratch) -> tuple[nn.Module, float]:
    """The model in evaluation mode, and CPU seconds of its training."""
    images = small_images(digits(), "train", model.image_size, "cpu")
    module = build(model, 10, training.seed)
    start_at_base_rate(module, 10)
    with TemporaryDirectory() as folder, Scratch(Path(folder), "benchmark") as state:
        _, seconds = timed(train, module, images, training, state, model)
    return module.eval().requires_grad_(False), seconds


def explicit_norms(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """||J||_2 of each image from its explicit Jacobian."""
    rows = torch.func.vmap(torch.func.jacrev(lambda x: function(x[None])[0]))(inputs)
    return torch.linalg.matrix_norm(rows.flatten(2), 2)


def measure_model(
    model: VitModel, training: TrainingFromScratch, how: Measuring
) -> dict[str, float | str]:
    module, seconds = trained(model, training)
    images = small_images(digits(), "test", model.image_size, "cpu")

    def with_targets(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return batch[0], functional.one_hot(batch[1], 10).to(batch[0].dtype)

    def squashed(x: Tensor) -> Tensor:
        return module(x).sigmoid()

    inputs, targets = with_targets(images.take(draw_index(images, how.images, how.seed)))
    rounds = map(with_targets, endless_batches(images, how.perturbations.pairs.images, how.seed))
    options = {"seed": how.seed, "chunk": how.chunk}
    exact, exact_seconds = timed(lambda: jacobian_norms(squashed, inputs, how.power, **options))
    slopes, adam_seconds = timed(lambda: adam_slopes(squashed, inputs, how.adam, **options))
    pairs, pairs_seconds = timed(
        lambda: average_case_sharpness(module, rounds, how.perturbations, seed=how.seed)
    )
    single, single_seconds = timed(
        lambda: released_average_case_sharpness(
            module, inputs, targets, how.perturbations, seed=how.seed
        )
    )
    explicit = explicit_norms(squashed, inputs[:8])
    ratios = slopes / exact.values
    return {
        "model": model.name,
        "family": family(model),
        "train_seconds": seconds,
        "exact_mls_seconds": exact_seconds,
        "released_mls_seconds": adam_seconds,
        "pairs_seconds": pairs_seconds,
        "single_seconds": single_seconds,
        "power_iterations": exact.iterations.double().mean().item(),
        "largest_error_against_svd": (exact.values[:8] / explicit - 1).abs().max().item(),
        "tightness_median": ratios.median().item(),
        "tightness_least": ratios.min().item(),
        "tightness_most": ratios.max().item(),
        "pairs_relative_error": pairs.estimate.standard_error / abs(pairs.estimate.value),
        "single_relative_error": single.estimate.standard_error / abs(single.estimate.value),
    }


def main(
    output: Annotated[Path, typer.Argument(help="JSON to write")],
    config: Annotated[Path, typer.Option(help="its transformers are trained")] = Path(
        "config/demo.yaml"
    ),
) -> None:
    """Measures every model and prints one line each."""
    torch.set_num_threads(1)
    values = yaml.safe_load(config.read_text(encoding="utf-8"))["transformers"]
    settings = TransformersSettings.model_validate(values)
    rows = []
    print(f"{'model':18}{'train':>8}{'exact':>8}{'Adam':>8}{'pairs':>8}{'single':>8}", end="")
    print(f"{'vs SVD':>10}   released MLS / exact: median [range]")
    for model in settings.models:
        row = measure_model(model, settings.trained.training, settings.measuring)
        rows.append(row)
        times = [row[f"{part}_seconds"] for part in ("train", "exact_mls", "released_mls")]
        times += [row["pairs_seconds"], row["single_seconds"]]
        print(f"{row['model']:18}" + "".join(f"{t:7.2f}s" for t in times), end="")
        print(f"{row['largest_error_against_svd']:10.1e}", end="")
        print(
            f"   {row['tightness_median']:.2f} "
            f"[{row['tightness_least']:.2f}, {row['tightness_most']:.2f}]",
            flush=True,
        )
    medians = {
        name: statistics.median(row[name] for row in rows)
        for name in rows[0]
        if isinstance(rows[0][name], float)
    }
    versions = {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
    with atomic_path(output) as temporary:
        text = json.dumps({"models": rows, "medians": medians} | versions, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
