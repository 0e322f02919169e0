"""Every layer's Jacobian from one forward pass and N backward rows.

The gradient of output k that arrives at a layer's input is row k of that layer's Jacobian, and the
gradient at its output gives the gradient by its parameters. So a batched backward pass with unit
vectors serves all layers and all samples of a chunk. If the rows of all outputs need too much
memory, they are computed in blocks of outputs, for some layers at a time.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from flatness.errors import NumericalError, UserError
from flatness.measures._network import Network, outputs_of, recorded


@dataclass(frozen=True)
class LayerRows:
    """One layer's part in the backward rows of c samples and K outputs.

    Attributes:
        inputs: x^l, (c, ...).
        input_rows: ∂f_k/∂x^l through this layer alone, (K, c, ...).
        output_rows: gradients δ at the layer's output, (K, c, ...).
    """

    inputs: Tensor
    input_rows: Tensor
    output_rows: Tensor

    def take(self, index: Tensor) -> "LayerRows":
        """Those of some samples."""
        return LayerRows(self.inputs[index], self.input_rows[:, index], self.output_rows[:, index])

    def double(self) -> "LayerRows":
        """The same in float64."""
        return LayerRows(self.inputs.double(), self.input_rows.double(), self.output_rows.double())


@dataclass(frozen=True)
class Rows:
    """Backward rows of c samples by a block of K outputs.

    Attributes:
        block: which of the N outputs.
        jacobian: ∂f/∂x, (K, c, ...) with the shape of the inputs.
        layers: by a layer's place in the network; at least those that were asked for.
    """

    block: slice
    jacobian: Tensor
    layers: dict[int, LayerRows]

    def take(self, index: Tensor) -> "Rows":
        """Those of some samples."""
        layers = {place: layer.take(index) for place, layer in self.layers.items()}
        return Rows(self.block, self.jacobian[:, index], layers)


class Backward:
    """One forward pass of a chunk of samples, and backward rows of it.

    Attributes:
        outputs: f(x), (c, N).

    With blocks of outputs, the forward pass runs K copies of the samples, and one backward pass
    follows a different output in each copy. For few samples this takes 0.6 of the time of `vmap`.

    Args:
        network: from `take_apart`.
        inputs: the samples, (c, ...).
        block: K, outputs at a time, at least two; with N, all rows are computed at once and kept.

    Raises:
        UserError: an in-place operation overwrites a layer's input.
        NumericalError: an output is not finite.
    """

    def __init__(self, network: Network, inputs: Tensor, block: int) -> None:
        modules = {layer.name: layer.module for layer in network.layers}
        self._copies = block if block < network.outputs else 1
        with torch.enable_grad(), recorded(modules) as calls:
            copies = torch.cat([inputs.detach()] * self._copies)
            self._leaf = network.lay_out(copies).requires_grad_()
            self._outputs = outputs_of(network, network.parameters, self._leaf)
        if not torch.isfinite(self._outputs).all():
            raise NumericalError("the model's output is not finite; check its inputs and weights")
        for call in calls:
            if call.inputs._version != call.version:
                raise UserError(
                    f"the input of layer {call.name} is overwritten by an in-place operation after "
                    "it; use the form that is not in place"
                )
        self._calls = calls
        self._kept: list[Rows] = []
        self.outputs = self._outputs.detach()[: len(inputs)]

    def __call__(self, layers: Collection[int] | None = None) -> Iterator[Rows]:
        """Rows of all outputs, block by block, at the inputs and at some layers; None for all."""
        count = self.outputs.shape[1]
        places = range(len(self._calls)) if layers is None else sorted(layers)
        if self._copies > 1:
            for block in blocks(count, self._copies):
                yield self._rows(block, places)
            return
        if not self._kept:
            self._kept = [self._rows(slice(0, count), range(len(self._calls)))]
            self._calls, self._outputs = [], self.outputs  # the graph is no longer needed
        yield from self._kept

    def _rows(self, block: slice, places: Sequence[int]) -> Rows:
        calls = [self._calls[place] for place in places]
        ends = [self._leaf, *(edge for call in calls for edge in call.edges)]
        shapes = [self._leaf.shape]
        for call in calls:
            shapes += [call.inputs.shape, call.output_shape]
        rows_by = self._rows_of_copies if self._copies > 1 else partial(rows_of, self._outputs)
        jacobian, *rest = rows_by(ends, shapes, block)
        count = len(self.outputs)  # a lone sample ran twice, and only the first counts
        layers = {
            place: LayerRows(
                call.inputs.detach()[:count],
                *(r[:, :count] for r in rest[2 * index : 2 * index + 2]),
            )
            for index, (place, call) in enumerate(zip(places, calls, strict=True))
        }
        return Rows(block, jacobian, layers)

    def _rows_of_copies(
        self, ends: Sequence[Tensor | GradientEdge], shapes: Sequence[torch.Size], block: slice
    ) -> list[Tensor]:
        """Gradients (K, c, ...) of a block of outputs: copy j of the samples follows output j."""
        count = len(self.outputs)
        units = torch.zeros_like(self._outputs)
        for copy, output in enumerate(range(block.start, block.stop)):
            units[copy * count : (copy + 1) * count, output] = 1
        found = torch.autograd.grad(
            self._outputs,
            cast("list[Tensor]", list(ends)),
            units,
            retain_graph=True,
            allow_unused=True,
        )
        used = block.stop - block.start
        return [
            (units.new_zeros(shape) if rows is None else rows).unflatten(0, (-1, count))[:used]
            for rows, shape in zip(found, shapes, strict=True)
        ]


def blocks(outputs: int, size: int) -> Iterator[slice]:
    """All outputs, in blocks of a size."""
    for first in range(0, outputs, size):
        yield slice(first, min(first + size, outputs))


def rows_of(
    outputs: Tensor,
    ends: Sequence[Tensor | GradientEdge],
    shapes: Sequence[torch.Size],
    block: slice,
) -> list[Tensor]:
    """Gradients (K, ...) of a block of outputs (c, N) at each end; zeros without dependence.

    Args:
        outputs: with their graph, which is kept.
        ends: tensors, or edges of the graph.
        shapes: of the ends.
        block: which outputs.

    Returns:
        The gradients, one entry per end.
    """
    count, width = outputs.shape
    units = torch.eye(width, dtype=outputs.dtype, device=outputs.device)[block]
    units = units.unsqueeze(1).expand(-1, count, width)
    mixed = cast("list[Tensor]", list(ends))  # tensors and edges, which PyTorch's types keep apart
    grad = partial(torch.autograd.grad, outputs, mixed, retain_graph=True, allow_unused=True)
    try:
        found = grad(units, is_grads_batched=True)
    except RuntimeError:  # an operation without a batching rule, or a recomputed checkpoint
        each = zip(*(grad(unit) for unit in units), strict=True)
        found = [None if rows[0] is None else torch.stack(rows) for rows in each]
    return [
        outputs.new_zeros(len(units), *shape) if rows is None else rows
        for rows, shape in zip(found, shapes, strict=True)
    ]


def parameter_rows(
    network: Network, names: Sequence[str], sample: Tensor, block: int
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Gradients of one sample's outputs by some parameters, formed in full: the general path.

    Args:
        network: from `take_apart`.
        names: of parameters.
        sample: (1, ...).
        block: K, outputs at a time.

    Yields:
        A block of outputs, and parameter name to gradients (K, ...); zeros where an output does
        not depend on it.
    """
    chosen = {name: network.parameters[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        inputs = network.lay_out(sample)
        output = outputs_of(network, {**network.parameters, **chosen}, inputs)
    shapes = [p.shape for p in chosen.values()]
    for part in blocks(output.shape[1], block):
        if output.requires_grad:
            rows = rows_of(output, list(chosen.values()), shapes, part)
        else:
            rows = [output.new_zeros(part.stop - part.start, *shape) for shape in shapes]
        yield part, dict(zip(chosen, rows, strict=True))
