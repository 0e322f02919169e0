"""Whether the tensors of a data set are what the studies read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from flatness.datasets.normalised import Dataset
from flatness.errors import UserError

_BYTES, _WHOLE, _TRUTH = (torch.uint8,), (torch.int64,), (torch.bool,)
_REAL = (torch.float32, torch.float64)
#: Dimensions and kind of numbers of each tensor; one letter names one size throughout.
SHAPES: Mapping[str, Mapping[str, tuple[str, tuple[torch.dtype, ...]]]] = {
    "images": {
        "train_inputs": ("n C H W", _BYTES),
        "train_targets": ("n", _WHOLE),
        "test_inputs": ("m C H W", _BYTES),
        "test_targets": ("m", _WHOLE),
    },
    "table": {"inputs": ("n d", _REAL), "targets": ("n 1", _REAL)},
    "graph": {
        "inputs": ("n d", _BYTES),
        "targets": ("n", _WHOLE),
        "edge_index": ("2 e", _WHOLE),
        "train_mask": ("n", _TRUTH),
        "val_mask": ("n", _TRUTH),
        "test_mask": ("n", _TRUTH),
    },
}


def check_tensors(dataset: Dataset, kind: str) -> None:
    """Refuses a data set that the studies would read wrongly.

    Args:
        dataset: as its module makes it.
        kind: "images", "table" or "graph".

    Raises:
        UserError: a tensor is missing, unknown, of another shape or type, or not finite.
    """
    wanted, given = SHAPES[kind], dataset.tensors
    where = f"{dataset.name} ({kind})"
    if set(given) != set(wanted):
        raise UserError(
            f"{where}: tensors {', '.join(sorted(given))}; there must be {', '.join(wanted)}"
        )
    sizes: dict[str, int] = {}
    for name, (letters, types) in wanted.items():
        tensor = given[name]
        if not isinstance(tensor, Tensor):
            raise UserError(f"{where}: {name} is a {type(tensor).__name__}; make it a tensor")
        axes = letters.split()
        fits = tensor.dim() == len(axes) and all(
            size == (int(axis) if axis.isdigit() else sizes.setdefault(axis, size))
            for axis, size in zip(axes, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype not in types:
            kinds = " or ".join(str(kind).removeprefix("torch.") for kind in types)
            known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            raise UserError(
                f"{where}: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; it must be "
                f"{kinds} of shape ({', '.join(axes)})" + (f" with {known}" if known else "")
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{where}: {name} has values that are not finite; leave them out")
