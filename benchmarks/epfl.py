"""Speed of the EPFL pools on one thread, as ratios within one run.

Run as `python -m benchmarks.epfl OUTPUT.json` where `data/` holds Abalone and Cora as `fetch`
writes them. One thread, CPU seconds. LeNet-5's epoch and the bare loop take turns, so that a busy
machine disturbs both alike; their ratio is the median over the turns.
"""

import json
import platform
import statistics
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.nn import functional

from benchmarks.common import cpu_seconds
from flatness.datasets.normalised import load
from flatness.records.files import atomic_path
from flatness.studies.epfl.config import Ascent, PoolMeasurement, PoolTraining
from flatness.studies.epfl.lenet5 import initial_lenet5, train_epoch
from flatness.studies.epfl.measure import measure_stack
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.pools import POOLS
from flatness.studies.epfl.train_stacked import train_stack

RATES = {"fcnn": (0.014, 0.025, 1, 10), "gat": (0.236, 0.02, 10, 20), "lenet5": (0.05, 1e-4, 1, 10)}


def settings_of(pool: str, dataset: str) -> tuple[PoolTraining, PoolMeasurement]:
    rate, rho, least, most = RATES[pool]
    common = {
        "pool": pool,
        "dataset": dataset,
        "train_size": None,
        "block": 25,
        "device": "cpu",
        "execution": "stacked",
        "defects": (),
    }
    training = PoolTraining(
        learning_rate=rate,
        batch_size=64,
        min_epochs=least,
        max_epochs=most,
        tolerance=0.05,
        **common,
    )
    measurement = PoolMeasurement(
        training_defects=(),
        rho=rho,
        step_size=rate,
        ascent=Ascent(steps=5, restarts=50, batch_size=64),
        maximiser="plain",
        seed=0,
        **common,
    )
    return training, measurement


def stacked_against_loop(pool_name: str, path: Path, models: int) -> dict[str, float]:
    """CPU seconds of training and measuring models, stacked and one by one."""
    dataset = load(path)
    pool = POOLS[pool_name](dataset, None, ())
    training, measurement = settings_of(pool_name, dataset.name)

    def run(seeds: range) -> None:
        outcomes = train_stack(pool, training, seeds)
        measure_stack(measurement, pool, stack([one.state for one in outcomes]), seeds)

    stacked = cpu_seconds(lambda: [run(range(i, i + 25)) for i in range(0, models, 25)])
    looped = cpu_seconds(lambda: [run(range(i, i + 1)) for i in range(5)]) / 5
    return {
        "models": models,
        "cpu_seconds": stacked,
        "two_core_seconds_per_50_models": stacked / models * 50 / 2,
        "two_core_minutes_per_1000_models": stacked / models * 1000 / 2 / 60,
        "loop_over_stacked": looped * models / stacked,
    }


def lenet5_against_bare_loop(turns: int, steps: int = 60) -> dict[str, float]:
    """CPU time of our epoch over that of the barest channels-last loop on the same batches."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64 * steps, 1, 28, 28, generator=generator)
    inputs = inputs.to(memory_format=torch.channels_last)
    targets = torch.randint(10, (64 * steps,), generator=generator)
    training, _ = settings_of("lenet5", "fashion_mnist")
    ours, bare = (initial_lenet5(0).to(memory_format=torch.channels_last) for _ in range(2))
    optimizer = torch.optim.SGD(bare.parameters(), 0.05)

    def bare_epoch() -> None:
        bare.train()
        for batch in torch.randperm(len(targets)).split(64):
            loss = functional.cross_entropy(bare(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    bare_epoch()
    times = [
        (
            cpu_seconds(lambda: train_epoch(ours, (inputs, targets), training, 0, 1)),
            cpu_seconds(bare_epoch),
        )
        for _ in range(turns)
    ]
    ratios = [one / other for one, other in times]
    return {
        "step_ms": statistics.median(one for one, _ in times) / steps * 1e3,
        "bare_step_ms": statistics.median(other for _, other in times) / steps * 1e3,
        "ours_over_bare": statistics.median(ratios),
        "ours_over_bare_low": min(ratios),
        "ours_over_bare_high": max(ratios),
        "turns": turns,
    }


def main(
    output: Annotated[Path, typer.Argument(help="JSON to write")],
    data: Annotated[Path, typer.Option(help="folder of normalised data sets")] = Path("data"),
    models: Annotated[int, typer.Option(help="models of each stacked pool")] = 50,
    turns: Annotated[int, typer.Option(help="LeNet-5 epochs, ours and bare")] = 9,
) -> None:
    """Measures the three pools and prints their ratios."""
    torch.set_num_threads(1)
    growth = {
        f"{count}_models": stacked_against_loop("fcnn", data / "abalone.safetensors", count)[
            "cpu_seconds"
        ]
        for count in (100, 400)
    }
    results = {
        "fcnn_growth": growth,
        "fcnn": stacked_against_loop("fcnn", data / "abalone.safetensors", models),
        "gat": stacked_against_loop("gat", data / "cora.safetensors", models),
        "lenet5": lenet5_against_bare_loop(turns),
    }
    for pool, numbers in results.items():
        for name, value in numbers.items():
            print(f"{pool:8} {name:34} {value:10.3f}")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    with atomic_path(output) as temporary:
        temporary.write_text(
            json.dumps(results | versions, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    typer.run(main)
