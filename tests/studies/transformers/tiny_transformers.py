"""Models, images and settings small enough for tests."""

import torch

from flatness.datasets.normalised import Dataset
from flatness.studies.transformers.config import (
    Adam,
    Counts,
    Measuring,
    Perturbations,
    PowerIteration,
    Rounds,
    TrainingFromScratch,
    VitMeasurement,
    VitModel,
    VitTraining,
)

VIT = VitModel(
    name="vit_tiny",
    constructor="vit_tiny_patch16_224",
    arguments={"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
    image_size=16,
)
#: Drop path: the global generator takes part in training.
TINY_VIT = VitModel(
    name="tiny_vit_small",
    constructor="tiny_vit_5m_224",
    arguments={
        "embed_dims": [8, 16],
        "depths": [1, 2],
        "num_heads": [1, 2],
        "window_sizes": [4, 4],
        "drop_path_rate": 0.3,
    },
    image_size=16,
)
LEVIT = VitModel(
    name="levit_small",
    constructor="levit_128s",
    arguments={
        "img_size": 32,
        "embed_dim": [16, 24, 32],
        "num_heads": [1, 2, 2],
        "depth": [1, 1, 1],
        "key_dim": 8,
    },
    image_size=32,
)

TRAINING = TrainingFromScratch(
    images=96,
    batch_size=16,
    learning_rate=3e-3,
    weight_decay=0.05,
    rise=0.2,
    smoothing=0.0,
    flip=True,
    seed=0,
)
MEASURING = Measuring(
    images=6,
    evaluated=None,
    chunk=4,
    seed=0,
    quality=0.15,
    untrained_below=0.4,
    adam=Adam(steps=5, learning_rate=0.1, start=0.1),
    power=PowerIteration(tolerance=1e-2, limit=64),
    perturbations=Perturbations(
        rho=0.1,
        stack=3,
        single=Counts(least=4, most=8),
        pairs=Rounds(least=4, most=8, images=5, tolerance=0.05),
    ),
)


def training_slice(*models: VitModel, **changes) -> VitTraining:
    return VitTraining(
        dataset="digits32",
        models=models,
        training=TRAINING.model_copy(update=changes),
        device="cpu",
    )


def measuring_slice(*models: VitModel, **changes) -> VitMeasurement:
    return VitMeasurement(
        dataset="digits32",
        models=models,
        measuring=MEASURING.model_copy(update=changes),
        device="cpu",
    )


def striped_images(train: int = 60, test: int = 20) -> Dataset:
    """Four classes of noisy stripes, 3 × 16 × 16."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for part, count in (("train", train), ("test", test)):
        labels = torch.arange(count) % 4
        wave = (torch.arange(16) // (labels[:, None] + 1) % 2)[:, None, None, :]
        noise = torch.randint(0, 60, (count, 3, 16, 16), generator=generator)
        tensors[f"{part}_inputs"] = (150 * wave + noise).to(torch.uint8)
        tensors[f"{part}_targets"] = labels
    return Dataset("digits32", True, tensors)
