"""Whether a model's outputs are a function of its parameters and of each single sample."""

import random
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from flatness.errors import UserError
from flatness.measures._checks import at_least_two, first_line
from flatness.measures.functional import functional_call

#: Number of samples on which outputs are compared.
FEW = 4
#: Largest relative difference of two evaluations that counts as rounding.
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raises a UserError naming the batch norm that takes its statistics from the batch."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"module {name} ({type(module).__name__}) is in training mode, so the outputs "
                "depend on the batch; call model.eval() first"
            )


def require_repeatable(model: nn.Module, evaluate: Callable[[], Tensor]) -> Tensor:
    """Checks that two evaluations give the same numbers, and that no random numbers are drawn.

    A draw is enough to refuse a model: a block that is dropped once in a hundred evaluations would
    not show in the outputs.

    Args:
        model: the module that `evaluate` runs.
        evaluate: computes some fixed outputs.

    Returns:
        The outputs, without gradients.

    Raises:
        UserError: the numbers differ or are random, or the model changes its parameters.
    """
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = _generator_states()
    with torch.no_grad():
        first = evaluate()
        drew = _generator_states() != before
        second = evaluate()
        for name, parameter in model.named_parameters():
            if not parameter.equal(parameters[name]):
                parameter.copy_(parameters[name])
                raise UserError(f"the model's forward pass changes its own parameter {name}")
    tolerance = ROUNDING.get(first.dtype, 1e-2)
    if drew or (first - second).abs().max() > tolerance * first.abs().max():
        culprit = _drawing_module(model, evaluate) if drew else "the model"
        what = "draws random numbers" if drew else "gives other outputs when it is evaluated again"
        cure = (
            "call model.eval() first"
            if any(module.training for module in model.modules())
            else "though in evaluation mode; give functional dropout training=self.training"
        )
        raise UserError(f"{culprit} {what}; {cure}")
    return first


def _drawing_module(model: nn.Module, evaluate: Callable[[], Tensor]) -> str:
    """The innermost module that draws random numbers, in words."""
    before: dict[nn.Module, tuple] = {}
    found: list[str] = []

    def enter(module: nn.Module, _args: tuple) -> None:
        before[module] = _generator_states()

    def leave(module: nn.Module, _args: tuple, _outputs: Any, name: str) -> None:
        if before[module] != _generator_states():
            found.append(f"module {name} ({type(module).__name__})" if name else "the model")

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(partial(leave, name=name)))
    try:
        with torch.no_grad():
            evaluate()
    finally:
        for handle in handles:
            handle.remove()
    return (found or ["the model"])[0]  # inner modules end first


def _generator_states() -> tuple:
    """The states of all global generators, to be compared."""
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    states = [torch.get_rng_state(), *on_cuda]
    _, keys, position, *_ = cast("tuple[str, np.ndarray, int, int, float]", np.random.get_state())
    by_torch = tuple(state.numpy().tobytes() for state in states)
    return by_torch, keys.tobytes(), position, random.getstate()


def require_function_of_one_sample(model: nn.Module, inputs: Tensor) -> Tensor:
    """Checks that the outputs are one row per sample, not random and independent of other samples.

    Args:
        model: any module.
        inputs: samples, (n, ...).

    Returns:
        The outputs of the first few samples, or of one sample twice, without gradients.

    Raises:
        UserError: the check or the model fails.
    """
    refuse_batch_statistics(model)
    batch = at_least_two(inputs[:FEW])

    def evaluate() -> Tensor:
        try:
            outputs = model(batch.clone())
        except Exception as error:
            raise UserError(
                f"the model fails on a batch of shape {tuple(batch.shape)}: {first_line(error)}"
            ) from error
        _require_rows(outputs, batch)
        return outputs

    outputs = require_repeatable(model, evaluate)
    if _depend_on_batch(model, batch) and _depend_on_batch_in_double(model, batch):
        raise UserError(
            "the model's outputs for a sample depend on the other samples of the batch; "
            "call model.eval(), and make the model treat each sample independently"
        )
    return outputs


def _require_rows(outputs: Any, batch: Tensor) -> None:
    if not isinstance(outputs, Tensor) or outputs.dim() == 0 or len(outputs) != len(batch):
        raise UserError(
            "the model must return one tensor of shape (n, N), one row per sample; wrap it, or let "
            "measure(outputs=...) pick it"
        )
    if outputs.numel() == 0 or outputs.dtype != batch.dtype:
        raise UserError(
            f"the model's outputs are {outputs.dtype} of shape {tuple(outputs.shape)}; they must "
            f"be numbers of the inputs' type {batch.dtype}"
        )


def _depend_on_batch_in_double(model: nn.Module, batch: Tensor) -> bool:
    """Whether both are equal up to rounding; True if the model casts to another type."""
    try:
        return _depend_on_batch(model, batch.double())
    except RuntimeError:
        return True


def _depend_on_batch(model: nn.Module, batch: Tensor) -> bool:
    """Whether the first sample's outputs differ between the batch and a run alone, in one type."""
    state = dict(chain(model.named_parameters(), model.named_buffers()))
    state = {n: t.to(batch.dtype) if t.is_floating_point() else t for n, t in state.items()}
    parts = at_least_two(batch[:1]), batch
    with torch.no_grad():
        alone, together = (functional_call(model, state, (part.clone(),)) for part in parts)
    difference = (alone[0] - together[0]).abs().max()
    return bool(difference > 10 * ROUNDING[batch.dtype] * together.abs().max())
