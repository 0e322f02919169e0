"""A guard against wrong values without a word: the fast path against plain backpropagation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from flatness.errors import UserError
from flatness.measures._jacobians import LayerRows, Network, Rows, flat_outputs
from flatness.measures._layers import Layer, gradient_squares

#: Largest relative difference that is put down to rounding.
TOLERANCE = 1e-3


def check_first_sample(network: Network, inputs: Tensor, rows: Rows) -> None:
    """Evaluates the first sample again, by itself and plainly, and compares with its rows.

    Args:
        network: from `flatness.measures._jacobians.take_apart`.
        inputs: a chunk of samples, (c, ...).
        rows: its backward rows.

    Raises:
        UserError: its outputs depend on the other samples or are random; or a layer's parameters
            are used outside of it, so that the layer's gradient is not all of theirs.
    """
    parameters = {name: p.detach().requires_grad_() for name, p in network.parameters.items()}
    with torch.enable_grad():
        output = flat_outputs(functional_call(network.module, parameters, (inputs[:1].clone(),)))[0]
    difference = float((rows.outputs[0] - output.detach()).abs().max())
    if len(rows.outputs) != len(inputs) or difference > TOLERANCE * _scale_of_outputs(rows):
        raise UserError(
            "the model's output for a sample changes when the sample is evaluated again by itself; "
            "call model.eval(), and make the model return one row a sample"
        )
    if not output.requires_grad:
        return  # no parameters, or none that matters
    weights = torch.randn(len(output), generator=torch.Generator().manual_seed(0)).to(output)
    with torch.enable_grad():
        combined = output @ weights
    gradients = torch.autograd.grad(combined, list(parameters.values()), allow_unused=True)
    exact = dict(zip(parameters, gradients, strict=True))
    for layer, seen in zip(network.layers, rows.layers, strict=True):
        _check_layer(layer, seen, weights, exact)


def _scale_of_outputs(rows: Rows) -> float:
    """What rounding in the outputs is relative to: their parts may cancel in the last layer."""
    scale = float(rows.outputs.norm(dim=1).max())
    if rows.layers:
        last = rows.layers[-1]
        scale = max(scale, float(last.input_rows[:, 0].norm() * last.inputs[0].norm()))
    return scale


def _check_layer(
    layer: Layer, seen: LayerRows, weights: Tensor, exact: Mapping[str, Tensor | None]
) -> None:
    """The same combination of outputs, by the layer's rows and by plain backpropagation."""
    prefix = f"{layer.name}." if layer.name else ""
    own = [exact[prefix + name] for name, _ in layer.module.named_parameters(recurse=False)]
    row = torch.einsum("k,k...->...", weights, seen.output_rows[:, :1]).unsqueeze(0)
    squares = gradient_squares(layer, seen.inputs[:1], row)
    fast = math.sqrt(float(squares.weight + squares.bias))
    slow = math.hypot(*(float(g.norm()) for g in own if g is not None))
    scale = max(fast, 1e-2 * float(row.norm()) * (1 + float(seen.inputs[:1].norm())))
    if abs(fast - slow) > TOLERANCE * scale:
        raise UserError(
            f"the parameters of layer {layer.name} are also used outside of it, so its gradient "
            "cannot be measured; give each use a layer of its own"
        )
