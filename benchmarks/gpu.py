"""Benchmark of stacked training on a GPU: `python -m benchmarks.gpu OUTPUT.json`.

For each network, the 100 models of the paper's grid (20 seeds; learning rates 0.05, 0.1, 0.2 at
batch 20 and 0.1 at batch 8 and 32): steps of models a second, taken together and one model after
the other, both on the GPU in one run. Without a GPU nothing is written, and kept rows stay.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import harmonic_mean

import torch
import typer

from benchmarks.chen import made_up_images
from benchmarks.common import SHAPES
from flatness.studies.chen.config import GridTraining, Setting
from flatness.studies.chen.images import build_network
from flatness.studies.chen.stack import SEGMENT, Stack
from flatness.studies.chen.train import Trainer

#: Learning rate and batch size of the paper's settings.
GRID = ((0.05, 20), (0.1, 20), (0.2, 20), (0.1, 8), (0.1, 32))
SEEDS, ITERATIONS, IMAGES = 20, 750_000, 10_000


def main(output: Path, segments: int = 20) -> None:
    """Times every network, prints a table and writes it as JSON."""
    if not torch.cuda.is_available():
        print("no GPU at hand: nothing was measured")
        return
    rows = []
    for network in SHAPES:
        rows.append({"network": network} | measured(network, segments))
        print(line(rows[-1]), flush=True)
    gpu = torch.cuda.get_device_name()
    result = {"stacks": rows, "gpu": gpu, "torch": torch.__version__}
    output.write_text(json.dumps(result, indent=2), encoding="utf-8")


def measured(network: str, segments: int) -> dict[str, float]:
    """The timed columns of a row."""
    train = made_up_images(network, IMAGES, "cuda")
    settings = [Setting(learning_rate=rate, batch_size=batch_size) for rate, batch_size in GRID]
    members = [(setting, seed) for setting in settings for seed in range(SEEDS)]
    experiment = GridTraining(
        family="benchmark", network=network, activation="relu", dataset="cifar10", classes=None,
        train_size=IMAGES, setting=settings[0], steps=(SEGMENT,), end=SEGMENT, device="cuda",
    )  # fmt: skip
    models = [build_network(experiment, seed) for _, seed in members]
    torch.cuda.reset_peak_memory_stats()
    stack = Stack(models, [setting for setting, _ in members], [seed for _, seed in members], train)
    steps = steps_per_second(stack.advance, segments)
    peak = torch.cuda.max_memory_allocated() / 1e9
    trainers = [Trainer(build_network(experiment, 0), one, train, 0) for one in settings]
    alone = harmonic_mean([steps_per_second(trainer.advance, segments) for trainer in trainers])
    together = len(members) * steps
    return {
        "stacked_steps_per_s": together,
        "loop_steps_per_s": alone,
        "ratio": together / alone,
        "grid_minutes": ITERATIONS / steps / 60,
        "peak_gb": peak,
    }


def steps_per_second(advance: Callable[[int], object], segments: int) -> float:
    """Steps a second after a first segment, in which kernels are chosen and captured."""
    advance(SEGMENT)
    torch.cuda.synchronize()
    start = time.perf_counter()
    advance((1 + segments) * SEGMENT)
    torch.cuda.synchronize()
    return segments * SEGMENT / (time.perf_counter() - start)


def line(row: dict) -> str:
    """A row as text."""
    return (
        f"{row['network']:8s}{SEEDS * len(GRID)} models: together "
        f"{row['stacked_steps_per_s']:,.0f} steps/s, one by one {row['loop_steps_per_s']:,.0f}, "
        f"ratio {row['ratio']:.0f}; {ITERATIONS:,} steps at this rate: "
        f"{row['grid_minutes']:.1f} minutes; peak {row['peak_gb']:.1f} GB"
    )


if __name__ == "__main__":
    typer.run(main)
