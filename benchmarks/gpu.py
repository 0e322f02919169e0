"""Benchmark of stacked training on a GPU: `python -m benchmarks.gpu OUTPUT.json`.

For each network and stack of the paper's grid (20 seeds; learning rates 0.05, 0.1, 0.2 at batch 20
and 0.1 at batch 8 and 32): steps of models a second, taken together and one model after the other,
both on the GPU in one run. Without a GPU the rows have no values.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import typer

from benchmarks.chen import made_up_images
from benchmarks.common import SHAPES
from flatness.studies.chen.config import GridTraining, Setting
from flatness.studies.chen.images import build_network
from flatness.studies.chen.stack import SEGMENT, Stack
from flatness.studies.chen.train import Trainer

#: Learning rates that share a batch size in the paper's grid.
GRID = {20: (0.05, 0.1, 0.2), 8: (0.1,), 32: (0.1,)}
SEEDS, ITERATIONS, IMAGES = 20, 750_000, 10_000


def main(output: Path, segments: int = 20) -> None:
    """Times every stack, prints a table and writes it as JSON."""
    rows = []
    for network in SHAPES:
        for batch_size in GRID:
            row = {"network": network, "batch_size": batch_size}
            row["models"] = SEEDS * len(GRID[batch_size])
            rows.append(row | measured(network, batch_size, "cuda", segments))
            print(line(rows[-1]), flush=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if gpu is None:
        print("no GPU at hand: nothing was measured, and nothing is estimated")
    minutes = grid_minutes([row for row in rows if row["network"] == "mlp"])
    if minutes is not None:
        print(
            f"estimate from these rates, not a measurement: 100 MLPs of {ITERATIONS:,} steps take "
            f"{minutes:.1f} minutes (target 15)"
        )
    result = {"stacks": rows, "mlp_grid_minutes_estimate": minutes, "gpu": gpu}
    output.write_text(json.dumps(result | {"torch": torch.__version__}, indent=2), encoding="utf-8")


def measured(network: str, batch_size: int, device: str, segments: int) -> dict[str, float | None]:
    """The timed columns of a row; None without a GPU."""
    names = ("stacked_steps_per_s", "loop_steps_per_s", "ratio", "peak_gb")
    if device == "cuda" and not torch.cuda.is_available():
        return dict.fromkeys(names)
    train = made_up_images(network, IMAGES, device)
    settings = [Setting(learning_rate=rate, batch_size=batch_size) for rate in GRID[batch_size]]
    members = [(setting, seed) for setting in settings for seed in range(SEEDS)]
    experiment = GridTraining(
        family="benchmark", network=network, activation="relu", dataset="cifar10", classes=None,
        train_size=IMAGES, setting=settings[0], steps=(SEGMENT,), end=SEGMENT, device=device,
    )  # fmt: skip
    models = [build_network(experiment, seed) for _, seed in members]
    stack = Stack(models, [setting for setting, _ in members], [seed for _, seed in members], train)
    trainer = Trainer(build_network(experiment, 0), settings[0], train, 0)
    together = len(members) * steps_per_second(stack.advance, segments)
    alone = steps_per_second(trainer.advance, segments)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    return dict(zip(names, (together, alone, together / alone, peak), strict=True))


def steps_per_second(advance: Callable[[int], object], segments: int) -> float:
    """Steps a second after a first segment, in which kernels are chosen and captured."""
    advance(SEGMENT)
    wait_for_gpu()
    start = time.perf_counter()
    advance((1 + segments) * SEGMENT)
    wait_for_gpu()
    return segments * SEGMENT / (time.perf_counter() - start)


def wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def grid_minutes(rows: list[dict]) -> float | None:
    """Minutes of a whole grid at the rates of its stacks."""
    if any(row["stacked_steps_per_s"] is None for row in rows):
        return None
    return sum(row["models"] * ITERATIONS / row["stacked_steps_per_s"] for row in rows) / 60


def line(row: dict) -> str:
    """A row as text; a dash stands for what was not measured."""
    start = f"{row['network']:8s} batch {row['batch_size']:2d}, {row['models']} models: "
    if row["ratio"] is None:
        return start + "–"
    return start + (
        f"stacked {row['stacked_steps_per_s']:,.0f} steps/s, loop {row['loop_steps_per_s']:,.0f}, "
        f"ratio {row['ratio']:.0f} (target 50); peak {row['peak_gb']:.1f} GB"
    )


if __name__ == "__main__":
    typer.run(main)
