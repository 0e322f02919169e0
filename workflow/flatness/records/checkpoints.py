"""Weights of models in files: several models, or one model with the state of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness.records.tensors import load_tensors, save_tensors


def checkpoint_name(seed: int, step: int | None = None) -> str:
    """The name of a model in a file: its seed, and its step if several steps are kept."""
    return f"seed{seed}" if step is None else f"seed{seed}/step{step}"


def save_checkpoints(
    path: Path, models: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]
) -> None:
    """Writes the weights of several models to one safetensors file, keys `{model}/{tensor}`.

    Args:
        path: the file to write.
        models: each model's tensors by name, by the model's name (`checkpoint_name` where it has a
            seed). A model without tensors is not written.
        metadata: anything JSON can hold.

    Raises:
        DataError: the file cannot be written.
    """
    gathered = {
        f"{model}/{name}": tensor for model, own in models.items() for name, tensor in own.items()
    }
    save_tensors(path, gathered, metadata)


def load_checkpoints(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Reads a file written by `save_checkpoints`.

    Args:
        path: a safetensors file.

    Returns:
        Each model's tensors by name, and the metadata.

    Raises:
        DataError: the file is missing, unreadable or damaged; names it.
    """
    tensors, metadata = load_tensors(path)
    models: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        model, _, name = key.rpartition("/")
        models.setdefault(model, {})[name] = tensor
    return models, metadata


def training_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The tensors from which `restore_training` continues.

    Args:
        model: the network.
        optimizer: of its parameters.

    Returns:
        Weights and buffers by `weights/{name}`, the optimizer's by `optimizer/{index}/{name}`.
    """
    tensors = {f"weights/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, own in optimizer.state_dict()["state"].items():
        for name, tensor in own.items():
            if tensor is not None:  # unused momentum
                tensors[f"optimizer/{index}/{name}"] = tensor
    return tensors


def restore_training(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores the tensors of `training_tensors`; training then continues to the same bytes.

    Args:
        model: a network of the same architecture; it is changed.
        optimizer: of its parameters, with the same options; it is changed.
        tensors: by the names of `training_tensors`; others are ignored.
    """
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = list(model.parameters())
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "weights":
            weights[name] = tensor
        elif kind == "optimizer":
            index, _, name = name.partition("/")
            # A fused update accesses raw memory, so moments need the layout of their parameter.
            parameter = parameters[int(index)]
            like = torch.empty_like(parameter) if tensor.shape == parameter.shape else tensor
            moments.setdefault(int(index), {})[name] = like.copy_(tensor)
    model.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
