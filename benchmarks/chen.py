"""Benchmark of the compression study's training: `python -m benchmarks.chen OUTPUT.json`.

For each network at batch 20, one thread, in one run and alternating: core time of training through
the library (state, looks, checkpoints) and of a bare autograd loop with the same steps; of
measuring a model once over training it for `--iterations` steps; peak memory; and start-up.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import typer
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.common import SHAPES, cpu_seconds
from flatness.measures.measure import measure
from flatness.records.tensors import Scratch
from flatness.studies.chen.config import GridTraining, Setting
from flatness.studies.chen.images import Images, Labelled, build_network, memory_format
from flatness.studies.chen.steps import step_of
from flatness.studies.chen.train import train_seed

IMAGES, BATCH, SAMPLES = 200, 20, 50
#: Least speed of the library's steps over that of the bare loop, which is autograd's.
SPEED = {"loop": 1 / 1.3, "fused": 1.7}


def main(output: Path, steps: int = 300, repeats: int = 5, iterations: int = 5000) -> None:
    """Times every network, prints a table and writes it as JSON."""
    torch.set_num_threads(1)
    rate = product_rate()
    rows = [time_network(network, steps, repeats, iterations, rate) for network in SHAPES]
    startup = median(core_seconds_of_import() for _ in range(3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for row in rows:
        print(
            f"{row['network']:8s} floor {row['floor_ms']:5.2f} ms, bare {row['bare_ms']:5.2f}, "
            f"library {row['library_ms']:5.2f} ms ({row['execution']}), "
            f"speed {row['speed']:.2f} of it (target {row['target']:.2f}); "
            f"measuring {row['measuring_s']:.2f} s, "
            f"{row['measuring_share']:.1%} of training (target 10 %)"
        )
    print(f"start-up {startup:.1f} core-seconds; peak memory {peak:.0f} MB (target 2000)")
    result = {
        "networks": rows,
        "startup_s": startup,
        "peak_mb": peak,
        "gflop_per_s": rate,
        "torch": torch.__version__,
    }
    output.write_text(json.dumps(result, indent=2), encoding="utf-8")


def time_network(
    network: str, steps: int, repeats: int, iterations: int, rate: float
) -> dict[str, object]:
    """Times of one network; `rate` is the machine's, in GFLOP a second."""
    experiment = GridTraining(
        family="benchmark",
        network=network,
        activation="relu",
        dataset="cifar10",
        classes=None,
        train_size=IMAGES,
        setting=Setting(learning_rate=0.05, batch_size=BATCH),
        steps=(steps,),
        end=steps,
        device="cpu",
    )
    train = made_up_images(network, IMAGES)
    images = Images(train, train.take(torch.arange(20)), demo=True)
    bare_loop(experiment, train, steps // 10)  # what a process pays once is in no turn
    bare, library = [], []
    for _ in range(repeats):
        bare.append(cpu_seconds(bare_loop, experiment, train, steps) / steps)
        library.append(cpu_seconds(through_library, experiment, images) / steps)
    speeds = [a / b for a, b in zip(bare, library, strict=True)]
    execution = step_of(build_network(experiment, seed=0), experiment.setting).execution
    model = build_network(experiment, seed=0).double()
    sample = train.inputs[:SAMPLES].double()
    measuring = min(cpu_seconds(measure, model, sample) for _ in range(2))
    return {
        "network": network,
        "execution": execution,
        "target": SPEED[execution],
        "bare_ms": 1e3 * min(bare),
        "library_ms": 1e3 * min(library),
        "speed": median(speeds),
        "speed_low": min(speeds),
        "speed_high": max(speeds),
        "turns": repeats,
        "gflop": gflop_of_step(experiment),
        "floor_ms": gflop_of_step(experiment) / rate * 1e3,
        "measuring_s": measuring,
        "measuring_share": measuring / (min(library) * iterations),
    }


def made_up_images(network: str, count: int, device: str = "cpu") -> Labelled:
    """Noise of the network's shape with two classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, *SHAPES[network], generator=generator)
    labels = torch.randint(0, 2, (count,), generator=generator)
    return Labelled(inputs.to(device).to(memory_format=memory_format(network)), labels.to(device))


def gflop_of_step(experiment: GridTraining) -> float:
    """Floating-point operations of the matrix products of one step, in units of 1e9."""
    model = build_network(experiment, seed=0)
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(BATCH, *SHAPES[experiment.network])).square().sum().backward()
    return counter.get_total_flops() / 1e9


def product_rate(size: int = 1000, turns: int = 9) -> float:
    """GFLOP a second of a large float32 matrix product on this thread: the machine's own rate."""
    matrix = torch.rand(size, size)
    matrix @ matrix
    return 2 * size**3 / 1e9 / min(cpu_seconds(torch.mm, matrix, matrix) for _ in range(turns))


def bare_loop(experiment: GridTraining, train: Labelled, steps: int) -> None:
    """The same steps with nothing around them."""
    model: nn.Module = build_network(experiment, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.setting.learning_rate)
    inputs, targets = train.inputs, train.targets
    for _ in range(steps):
        batch = torch.randint(0, IMAGES, (BATCH,))
        loss = functional.mse_loss(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def through_library(experiment: GridTraining, images: Images) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Scratch(Path(folder), "benchmark") as scratch,
        tqdm(disable=True) as bar,
    ):
        train_seed(experiment, images, 0, scratch, bar)


def core_seconds_of_import() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import flatness.studies.chen.train"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    typer.run(main)
