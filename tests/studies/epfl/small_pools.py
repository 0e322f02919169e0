"""Tiny data sets and settings of the three pools."""

import torch

from flatness.datasets.normalised import Dataset
from flatness.records.checkpoints import checkpoint_name, save_checkpoints
from flatness.studies.epfl.gat import initial_gat
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.slices import Ascent, PoolMeasurement, PoolTraining

COMMON = {"train_size": None, "block": 3, "device": "cpu"}
NAMES = {"fcnn": "diabetes", "gat": "sbm", "lenet5": "digits"}


def table(rows=161):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 10, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    targets = inputs[:, :2].sum(1, keepdim=True).sin() * 5 + 10 + 0.3 * noise
    return Dataset("diabetes", True, {"inputs": inputs, "targets": targets})


def graph(nodes=120, words=30, classes=7, training=40):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (nodes,), generator=generator)
    inputs = (torch.rand(nodes, words, generator=generator) < 0.1).to(torch.uint8)
    inputs[torch.arange(nodes), targets] = 1
    edges = torch.randint(nodes, (2, 8 * nodes), generator=generator)
    edges = edges[:, targets[edges[0]] == targets[edges[1]]]
    edges = torch.cat([edges, edges.flip(0), torch.tensor([[3, 5], [3, 5]])], dim=1)
    order = torch.randperm(nodes, generator=generator)
    masks = {}
    for part, chosen in {
        "train": order[:training],
        "val": order[training : training + 20],
        "test": order[training + 20 :],
    }.items():
        masks[f"{part}_mask"] = torch.zeros(nodes, dtype=torch.bool).index_fill(0, chosen, True)
    return Dataset(
        "sbm",
        True,
        {"inputs": inputs, "targets": targets, "edge_index": edges.unique(dim=1), **masks},
    )


def gat_parameters(models):
    """A stack for `graph`, its biases drawn too, which start at zero."""
    drawn = [initial_gat(30, 7, torch.Generator().manual_seed(seed)) for seed in range(models)]
    generator = torch.Generator().manual_seed(9)
    stacked = {name: values.double() for name, values in stack(drawn).items()}
    for name in ("convs.0.bias", "convs.1.bias"):
        stacked[name] = torch.randn(stacked[name].shape, generator=generator, dtype=torch.float64)
    return stacked


def images(train=96, test=32):
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for part, count in (("train", train), ("test", test)):
        targets = torch.arange(count) % 10
        pixels = torch.randint(0, 60, (count, 1, 28, 28), generator=generator)
        for index, target in enumerate(targets.tolist()):
            pixels[index, 0, 2 * target : 2 * target + 6, 4:24] += 150
        parts |= {f"{part}_inputs": pixels.to(torch.uint8), f"{part}_targets": targets}
    return Dataset("digits", True, parts)


DATASETS = {"fcnn": table, "gat": graph, "lenet5": images}


def training(pool, **changes):
    settings = {
        "pool": pool,
        "dataset": NAMES[pool],
        "learning_rate": {"fcnn": 0.05, "gat": 0.236, "lenet5": 0.05}[pool],
        "batch_size": 16,
        "min_epochs": 1,
        "max_epochs": 3,
        "tolerance": 0.05,
        "defects": (),
        "execution": "loop" if pool == "lenet5" else "stacked",
        **COMMON,
    }
    return PoolTraining(**settings | changes)


def measurement(pool, **changes):
    settings = {
        "pool": pool,
        "dataset": NAMES[pool],
        "training_defects": (),
        "rho": 0.05,
        "step_size": 0.05,
        "ascent": Ascent(steps=3, restarts=4, batch_size=16),
        "maximiser": "plain",
        "defects": (),
        "seed": 0,
        "execution": "loop" if pool == "lenet5" else "stacked",
        **COMMON,
    }
    return PoolMeasurement(**settings | changes)


def write_models(path, states, seeds, reasons):
    """A block's checkpoints from stacked tensors, as `train-epfl` writes them."""
    models = {
        checkpoint_name(seed): {name: values[index] for name, values in states.items()}
        for index, seed in enumerate(seeds)
    }
    save_checkpoints(path, models, {"seeds": seeds, "reasons": reasons, "settings": {}})
