"""Further input that `measure` accepts: batches, other outputs, half precision."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from flatness.errors import UserError
from flatness.measures._checks import first_line

#: Types that are measured in float32 instead.
HALF = {torch.float16, torch.bfloat16}


def joined(data: Any) -> Any:
    """The inputs of all batches as one tensor.

    Args:
        data: inputs (n, ...), which stay as they are; or batches, such as a DataLoader's: of
            inputs, or of tuples that begin with them.

    Returns:
        (n, ...); anything that is not batches is returned unchanged, for later checks to refuse.

    Raises:
        UserError: there are no batches, or they are of another kind, or do not fit together.
    """
    if isinstance(data, Tensor) or hasattr(data, "__array__") or not isinstance(data, Iterable):
        return data
    parts = [batch[0] if isinstance(batch, tuple | list) else batch for batch in data]
    if not parts:
        raise UserError("inputs: there are no batches")
    wrong = next((part for part in parts if not isinstance(part, Tensor)), None)
    if wrong is not None:
        raise UserError(
            f"inputs: a batch gives a {type(wrong).__name__}; give tensors, or tuples that begin "
            "with one"
        )
    try:
        return torch.cat(parts)
    except RuntimeError as error:
        raise UserError(
            f"inputs: batches do not fit together ({first_line(error)}); give batches (n, ...)"
        ) from error


def joined_pairs(inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Inputs and targets of all batches, each as one tensor.

    Args:
        inputs: (n, ...), with targets; or batches of pairs (inputs, targets).
        targets: (n, ...); None with batches.

    Returns:
        Inputs and targets; anything that is not batches is returned unchanged, for later checks.

    Raises:
        UserError: targets are missing, or the batches are not pairs.
    """
    if targets is not None:
        return inputs, targets
    if isinstance(inputs, Tensor) or not isinstance(inputs, Iterable):
        raise UserError("inputs without targets; pass both, or batches of both")
    batches = list(inputs)
    if not all(isinstance(batch, tuple | list) and len(batch) == 2 for batch in batches):
        raise UserError("batches are not pairs (inputs, targets); pass two tensors instead")
    return joined([x for x, _ in batches]), joined([y for _, y in batches])


def in_single_precision(model: nn.Module) -> tuple[nn.Module, str]:
    """A float32 copy of a model in half precision, where small sums of squares would vanish.

    Args:
        model: any module.

    Returns:
        The copy, or the model itself if it is not in half precision; and a flag for the reader of
        the numbers, empty if there is none.

    Raises:
        UserError: it cannot be copied.
    """
    kinds = {p.dtype for p in model.parameters()} if isinstance(model, nn.Module) else set()
    if not kinds or not kinds <= HALF:
        return model, ""
    try:
        copy = deepcopy(model).float()
    except Exception as error:
        raise UserError(f"the model cannot be copied to float32: {first_line(error)}") from error
    return copy, f"parameters in {', '.join(map(str, kinds))}: measured in float32, on a copy"


@contextmanager
def picking(model: nn.Module, outputs: Callable[[Any], Tensor] | None) -> Iterator[None]:
    """Makes a model return what a function picks from its outputs.

    Args:
        model: left as it was.
        outputs: maps what the model returns to a tensor (n, N); None leaves it unchanged.
    """
    if outputs is None:
        yield
        return
    handle = model.register_forward_hook(lambda _model, _args, returned: outputs(returned))
    try:
        yield
    finally:
        handle.remove()
