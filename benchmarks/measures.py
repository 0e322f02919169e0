"""All measures of one checkpoint against the same measures by loops; and how time grows with n.

Run as `python -m benchmarks.measures OUTPUT.json`. One thread. Times are CPU seconds, the lowest of
`REPEATS`; loop and batched runs take turns, so that both see the same machine.
"""

import json
import math
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import SHAPES, cpu_seconds
from flatness.measures.measure import SAMPLED, measure
from flatness.measures.quantities import BOUND_NAMES, QUANTITIES
from flatness.networks.build import build
from flatness.records.files import atomic_path

#: Lowest ratios of loop to batched: with weight norms per sample, and without weight norms.
TARGETS = {"mlp": (100, 30), "lenet5": (10, 10), "vgg11": (10, 10)}
SAMPLES = 20
REPEATS = 5
#: CPU seconds that a function's turn takes at least.
TURN = 0.5
TOLERANCE = 1e-9
WITHOUT_NORMS = set(QUANTITIES) - BOUND_NAMES - {SAMPLED}
CHEAP = ("sharpness", "mls", "nmls", "local_dimensionality")
WHOLE_SET = 60_000
OUTPUTS = (5, 10, 20, 40)


def forward(model: nn.Sequential, sample: Tensor) -> tuple[Tensor, list[Tensor], list[nn.Module]]:
    """The outputs (N,), and every linear or convolutional layer with its input."""
    inputs, layers, x = [], [], sample
    for module in model:
        if isinstance(module, nn.Linear | nn.Conv2d):
            inputs.append(x)
            layers.append(module)
        x = module(x)
    return x[0], inputs, layers


def sample_loop(model: nn.Sequential, sample: Tensor, *, norms: bool) -> dict[str, Tensor]:
    """One sample by one `autograd.grad` per output and layer, as the authors' code does it."""
    x = sample.clone().requires_grad_()
    outputs, inputs, layers = forward(model, x)
    parameters = list(model.parameters())
    jacobians: list[list[Tensor]] = [[] for _ in layers]
    sharpness, adaptive, first, invariant = (outputs.new_zeros(()) for _ in range(4))
    for output in outputs:
        gradients = torch.autograd.grad(output, parameters, retain_graph=True)
        sharpness += sum(g.square().sum() for g in gradients)
        adaptive += sum((g * p).square().sum() for g, p in zip(gradients, parameters, strict=True))
        first += gradients[0].square().sum()
        for rows, a in zip(jacobians, inputs, strict=True):
            rows.append(torch.autograd.grad(output, a, retain_graph=True)[0].flatten())
        invariant += (jacobians[0][-1] @ x.flatten()).square()
    values = [torch.linalg.svdvals(torch.stack(rows)).double() for rows in jacobians]
    squares = values[0].square()
    found = {
        "sharpness": sharpness.double(),
        "average_case_sharpness": adaptive.double() / 2,
        "mls": values[0][0],
        "nmls": sum(v[0] for v in values),
        "jacobian_norm_squared": squares.sum(),
        "local_dimensionality": squares.sum() ** 2 / squares.square().sum(),
        "log_volume_top3": values[0][:3].log().sum(),
        "lvr": values[0].log().sum().exp(),
        "nvr": sum(v.log().sum().exp() for v in values),
        "normalized_mls": x.square().sum() * squares[0],
        "input_invariant_mls": invariant / x.numel(),
        "last_input": inputs[-1].square().sum(),
    }
    return found | (released_parts(outputs, inputs, layers, first) if norms else {})


@torch.no_grad()
def released_parts(
    outputs: Tensor, inputs: list[Tensor], layers: list[nn.Module], first: Tensor
) -> dict[str, Tensor]:
    """What the released bounds need of one sample, weight norms computed anew."""
    ratios = []
    convolutional = any(isinstance(layer, nn.Conv2d) for layer in layers)
    for a, layer in zip(inputs, layers, strict=True):
        if isinstance(layer, nn.Linear):
            order = "fro" if convolutional else 2
            norm, epsilon = torch.linalg.matrix_norm(layer.weight, order), 0.0
        else:
            norm = layer.weight.norm() * math.sqrt(layer(a)[0, 0].numel())
            epsilon = 1e-4
        ratios.append(norm.double() / (a.square().sum().double() + epsilon).sqrt())
    first = first.double()
    return {
        "b": ratios[0] * first.sqrt(),
        "g": first,
        "r": ratios[0] ** 2,
        "nmls_r": sum(r**2 for r in ratios),
        "lvr_r": ratios[0] ** (2 * len(outputs)),
        "nvr_r": sum(r ** (2 * len(outputs)) for r in ratios),
    }


def loop(model: nn.Sequential, inputs: Tensor, *, norms: bool) -> dict[str, float]:
    """The measures, sample by sample; with `norms` the released bounds too."""
    parts = [sample_loop(model, sample, norms=norms) for sample in inputs.split(1)]
    m = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    n, N = len(inputs), model[-1].out_features
    found = {name: m[name] for name in m if name in QUANTITIES}
    found["relative_flatness"] = model[-1].weight.double().square().sum() * m["last_input"]
    found |= {"log_lvr": m["lvr"].log(), "log_nvr": m["nvr"].log()}
    if norms:
        constant = (N - 1) / 2 * math.log(n) - N / 2 * math.log(N)
        volume = constant + N / 2 * m["sharpness"].log()
        found |= {
            "bound_b_released": m["b"],
            "bound_c_released": (m["r"] * m["g"]).sqrt(),
            "bound_d_released": (m["r"] * m["sharpness"]).sqrt(),
            "nmls_bound_released": (m["nmls_r"] * m["sharpness"]).sqrt(),
            "log_lvr_bound_released": volume + m["lvr_r"].log() / 2,
            "log_nvr_bound_released": volume + m["nvr_r"].log() / 2,
        }
    return {name: float(value.detach()) for name, value in found.items()}


def seconds(*functions: Callable[[], Any], repeats: int = REPEATS) -> list[list[float]]:
    """Lowest CPU time of one run of each function in each turn; short runs are repeated more."""
    best = [[math.inf] * repeats for _ in functions]
    for turn in range(repeats):
        for times, function in zip(best, functions, strict=True):
            first = time.process_time()
            while time.process_time() - first < TURN:
                times[turn] = min(times[turn], cpu_seconds(function))
    return best


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Median, lowest and highest ratio over the turns."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def disagreement(model: nn.Sequential, inputs: Tensor) -> float:
    """Largest relative difference between loop and batched values, in float64."""
    slow, fast = loop(model, inputs, norms=True), measure(model, inputs)
    return max(abs(fast[name].value / value - 1) for name, value in slow.items())


def against_loops(name: str) -> dict[str, Any]:
    """Times of one network at `SAMPLES` samples, float32, and agreement in float64."""
    model = build(name, seed=0)
    inputs = torch.rand(SAMPLES, *SHAPES[name], generator=torch.Generator().manual_seed(0))
    difference = disagreement(build(name, seed=0).double(), inputs.double())
    if difference > TOLERANCE:
        raise SystemExit(f"{name}: loop and batched values differ by {difference:.1e}")
    measure(model, inputs)
    authors, bare, batched, batched_bare = seconds(
        lambda: loop(model, inputs, norms=True),
        lambda: loop(model, inputs, norms=False),
        lambda: measure(model, inputs),
        lambda: measure(model, inputs, quantities=WITHOUT_NORMS),
    )
    against, bare_against = ratio(authors, batched), ratio(bare, batched_bare)
    return {
        "network": name,
        "samples": SAMPLES,
        "turns": REPEATS,
        "loop_s": min(authors),
        "batched_s": min(batched),
        "ratio": against,
        "loop_without_norms_s": min(bare),
        "batched_without_norms_s": min(batched_bare),
        "ratio_without_norms": bare_against,
        "ratio_norms_once": ratio(bare, batched),
        "disagreement": difference,
        "targets": TARGETS[name],
        "met": against["median"] >= TARGETS[name][0] and bare_against["median"] >= TARGETS[name][1],
    }


def growth() -> list[dict[str, float]]:
    """CPU time of the cheap measures of the MLP on n samples, up to a whole training set."""
    model, found = build("mlp", seed=0), []
    for n in (WHOLE_SET // 100, WHOLE_SET // 10, WHOLE_SET):
        inputs = torch.rand(n, *SHAPES["mlp"])
        [[time_]] = seconds(lambda x=inputs: measure(model, x, quantities=CHEAP), repeats=1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        found.append(
            {"samples": n, "cpu_s": time_, "ms_per_sample": 1e3 * time_ / n, "peak_GB": peak}
        )
    return found


def growth_with_outputs() -> list[dict[str, float]]:
    """CPU time of all measures of MLPs that differ in their number of outputs N."""
    found, inputs = [], torch.rand(SAMPLES, *SHAPES["mlp"])
    for outputs in OUTPUTS:
        model = build("mlp", seed=0)
        model.fc4 = nn.Linear(model.fc4.in_features, outputs)
        [[time_]] = seconds(lambda m=model: measure(m, inputs), repeats=1)
        found.append({"outputs": outputs, "cpu_s": time_})
    return found


def main(output: str) -> None:
    torch.set_num_threads(1)
    rows = growth()  # first: the peak is that of the process so far
    networks = [against_loops(name) for name in SHAPES]
    record = {
        "benchmark": "measures",
        "threads": 1,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "networks": networks,
        "growth": rows,
        "growth_with_outputs": growth_with_outputs(),
    }
    print(f"{'network':8} {'loop s':>8} {'ours ms':>8} {'ratio':>6}   without norms: s, ms, ratio")
    for row in networks:
        print(
            f"{row['network']:8} {row['loop_s']:8.2f} {1e3 * row['batched_s']:8.1f} "
            f"{row['ratio']['median']:6.1f}   {row['loop_without_norms_s']:.2f} "
            f"{1e3 * row['batched_without_norms_s']:.1f} "
            f"{row['ratio_without_norms']['median']:.1f}"
            f"{'' if row['met'] else '   TARGET MISSED'}"
        )
    for row in record["growth"]:
        print(f"mlp, n = {row['samples']:6}: {row['cpu_s']:.2f} s, peak {row['peak_GB']:.2f} GB")
    for row in record["growth_with_outputs"]:
        print(f"mlp, N = {row['outputs']:2}: {1e3 * row['cpu_s']:.1f} ms")
    with atomic_path(Path(output)) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
