"""Batches of any kind as terms of one mean loss."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.measures._checks import at_least_two, check_data
from flatness.measures._repeatable import (
    ROUNDING,
    refuse_batch_statistics,
    require_function_of_one_sample,
    require_repeatable,
)
from flatness.measures.losses import Loss, require_mean

#: Samples in one backward pass, if the data are tensors.
CHUNK = 500
#: Maps a model and a batch to outputs, mean loss and the number of terms in the mean.
Evaluate = Callable[[nn.Module, Any], tuple[Any, Tensor] | tuple[Any, Tensor, int]]


class Objective:
    """The mean loss of a model over batches, in the two steps that curvlinops takes.

    Iterating gives batches; `outputs` maps one to the model's outputs, and calling the objective
    with these gives the batch's share in the mean, so that the shares add up to it.

    Args:
        model: the measured model; batches are converted to its type and device.
        data: inputs, or batches.
        targets: of inputs; None for batches.
        loss: of batches of inputs and targets.
        evaluate: for batches of another kind.
        convert: whether floating-point data are converted to the model's type.
    """

    reduction = "sum"  # for curvlinops: the shares are added up

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        targets: Tensor | None,
        loss: Loss,
        evaluate: Evaluate | None,
        *,
        convert: bool,
    ) -> None:
        self.model = model
        self._loss = loss
        self._evaluate = evaluate
        self._like = next(model.parameters(), torch.zeros(()))
        self._convert = convert
        self._total = 1
        self.count = 0  # of batches; known once they are checked
        self._share = torch.zeros(())
        self._batches = data
        if targets is not None:
            self._batches = _chunks(model, self._brought((data, targets)))
        _require_iterable(self._batches)

    def __iter__(self) -> Iterator[tuple[tuple[Any], Tensor]]:
        """Each batch in a tuple, which curvlinops does not change, and unused targets."""
        for batch in self._batches:
            yield (self._brought(batch),), torch.zeros(())

    def outputs(self, wrapped: tuple[Any]) -> Any:
        """The model's outputs for a batch; the batch's loss is kept for the following call."""
        outputs, loss, count = self._evaluated(wrapped[0])
        self._share = loss * (count / self._total)
        return outputs

    def __call__(self, _outputs: Any, _targets: Any) -> Tensor:
        """The share of the last evaluated batch in the mean loss."""
        return self._share

    def _evaluated(self, batch: Any) -> tuple[Any, Tensor, int]:
        if self._evaluate is None:
            inputs, targets = batch
            # a lone sample runs twice: see `workarounds`; the mean over both is the same
            outputs = self.model(at_least_two(inputs))
            return outputs, self._loss.function(outputs, at_least_two(targets)), len(inputs)
        found = self._evaluate(self.model, batch)
        if not isinstance(found, tuple) or len(found) not in {2, 3}:
            raise UserError("evaluate returns no tuple (outputs, loss) or (outputs, loss, count)")
        outputs, loss = found[:2]
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise UserError("evaluate returns a loss that is not one number; return its mean")
        if len(found) == 2 and not isinstance(outputs, Tensor):
            raise UserError(
                f"evaluate returns outputs that are a {type(outputs).__name__}, so their number is "
                "unknown; return (outputs, loss, count)"
            )
        return outputs, loss.reshape(()), found[2] if len(found) == 3 else len(outputs)

    def _brought(self, batch: Any) -> Any:
        """A batch on the model's device; numbers in the model's type if they are converted."""
        if isinstance(batch, Tensor):
            kind = self._like.dtype if self._convert and batch.is_floating_point() else batch.dtype
            return batch.to(self._like.device, kind)
        if isinstance(batch, dict):
            return {name: self._brought(part) for name, part in batch.items()}
        if type(batch) in {tuple, list}:
            return type(batch)(self._brought(part) for part in batch)
        return batch

    # checks

    def check(self) -> Tensor:
        """Refuses models and data without a right Hessian, and fixes the batches' shares.

        Returns:
            The loss of the first batch, with its graph.

        Raises:
            UserError: the model is random or mixes samples; the loss is not a mean, or depends on
                no parameter; there are no batches, or they differ each time they are read.
            NumericalError: the data or the loss are not finite.
        """
        first = next(iter(self), None)
        if first is None:
            raise UserError("there are no batches; the data must be readable more than once")
        refuse_batch_statistics(self.model)
        if self._evaluate is None:
            self._check_pairs(first[0][0])
        require_repeatable(self.model, lambda: self._evaluated(first[0][0])[1])
        passes = [self._sums() for _ in range(2)]
        self._total = passes[0][1]
        self._require_equal(*passes)
        return self._evaluated(first[0][0])[1]

    def _check_pairs(self, batch: Any) -> None:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(
                f"a batch is a {type(batch).__name__}; give pairs (inputs, targets), or `evaluate` "
                "for batches of another kind"
            )
        inputs, targets = check_data(self.model, (batch[0], batch[1]))
        if inputs.is_floating_point():
            if inputs.dtype != self._like.dtype:
                raise UserError(
                    f"inputs are {inputs.dtype}, the parameters {self._like.dtype}; pass dtype= to "
                    "convert both"
                )
            require_function_of_one_sample(self.model, inputs)
        with torch.no_grad():
            outputs = self.model(at_least_two(inputs))[: len(inputs)]
            if len(outputs) != len(targets):
                raise UserError(f"{len(outputs)} outputs but {len(targets)} targets")
            require_mean(self._loss, outputs, targets)

    def _sums(self) -> tuple[float, int]:
        """The sum of losses and the number of terms, in one pass over the data."""
        total, number, self.count = 0.0, 0, 0
        with torch.no_grad():
            for (batch,), _ in self:
                self.count += 1
                if self._evaluate is None:
                    check_data(self.model, tuple(batch))
                _, loss, count = self._evaluated(batch)
                total += float(loss) * count
                number += count
        return total, number

    def _require_equal(self, one: tuple[float, int], other: tuple[float, int]) -> None:
        if not math.isfinite(one[0]):
            raise NumericalError("the loss is not finite; check the data and the weights")
        tolerance = ROUNDING[self._like.dtype] * abs(one[0])
        if one[1] != other[1] or abs(one[0] - other[0]) > tolerance:
            raise UserError(
                f"the data change from pass to pass: loss {one[0] / one[1]:.6g} of {one[1]}, then "
                f"{other[0] / other[1]:.6g} of {other[1]}; read all samples, without augmentation"
            )


def _chunks(model: nn.Module, data: tuple[Any, Any]) -> list[tuple[Tensor, Tensor]]:
    inputs, targets = check_data(model, data)
    count = math.ceil(len(inputs) / CHUNK)
    return list(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True))


def _require_iterable(data: Any) -> None:
    if isinstance(data, Tensor):
        raise UserError("inputs without targets; pass both, or batches of both")
    if not isinstance(data, Iterable):
        raise UserError(f"the data are a {type(data).__name__}; pass tensors or batches")
    if iter(data) is data:
        raise UserError(
            f"the data are a {type(data).__name__}, which can be read only once; pass a list or a "
            "DataLoader"
        )
