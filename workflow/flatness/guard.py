"""A guard against wrong values without a word: the fast path against plain backpropagation."""

import math

import torch
from torch import Tensor
from torch.func import functional_call

from flatness.errors import UserError
from flatness.jacobians import LayerRows, Network, Rows, flat_outputs
from flatness.layers import Layer, gradient_squares

#: Largest relative difference that is put down to rounding.
TOLERANCE = 1e-3


def check_first_sample(network: Network, inputs: Tensor, rows: Rows) -> None:
    """Evaluates the first sample again, by itself and plainly, and compares with its rows.

    Args:
        network: from `flatness.jacobians.take_apart`.
        inputs: a chunk of samples, (c, ...).
        rows: its backward rows.

    Raises:
        UserError: its outputs depend on the other samples or are random; or a layer's parameters
            are used outside of it, so that the layer's gradient is not all of theirs.
    """
    parameters = {name: p.detach().requires_grad_() for name, p in network.parameters.items()}
    with torch.enable_grad():
        output = flat_outputs(functional_call(network.module, parameters, (inputs[:1],)))[0]
    if len(rows.outputs) != len(inputs) or bool(
        (rows.outputs[0] - output.detach()).abs().max() > TOLERANCE * rows.outputs[0].norm()
    ):
        raise UserError(
            "the model's output for a sample changes when the sample is evaluated again by itself; "
            "call model.eval(), and make the model return one row a sample"
        )
    weights = torch.randn(len(output), generator=torch.Generator().manual_seed(0)).to(output)
    with torch.enable_grad():
        combined = output @ weights
    gradients = torch.autograd.grad(combined, list(parameters.values()), allow_unused=True)
    exact = dict(zip(parameters, gradients, strict=True))
    for layer, seen in zip(network.layers, rows.layers, strict=True):
        _check_layer(layer, seen, weights, exact)


def _check_layer(
    layer: Layer, seen: LayerRows, weights: Tensor, exact: dict[str, Tensor | None]
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
