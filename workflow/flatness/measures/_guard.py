"""A check of the gradients before anything is measured: backward against forward differentiation.

For random directions v and random weights u of the outputs, one number is computed in two ways:

    ⟨J v, u⟩ = ⟨v, Jᵀ u⟩

The left side comes from forward differentiation, the right side from the rows that are measured.
The check does not rely on a list of known faults, so it also finds those of another processor.

It takes 8 to 20 ms, also for larger n. With it, all measures at n = 20 take 1.45 times as long for
the MLP and 1.2 times for LeNet-5 and VGG-11 (float32, one thread of a busy machine).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.overrides import TorchFunctionMode

from flatness.errors import NumericalError, UserError
from flatness.measures._jacobians import Backward, parameter_rows
from flatness.measures._layers import Layer, gradient_product
from flatness.measures._network import Network, outputs_of

#: Largest |⟨Jv, u⟩ − ⟨v, Jᵀu⟩| / ‖Jv‖‖u‖ that is put down to rounding.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}
#: The same with finite differences, where forward differentiation is not implemented.
DIFFERENCES_TOLERANCE = 1e-3
#: Step of the central differences, in units of the point's own size.
STEP = 1e-5
#: Number of samples of a chunk whose rows are checked, including the first and the last.
CHECKED = 4

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class _Product:
    """Change of the outputs along directions, (c, N): J v, and how far to trust it."""

    moved: Tensor
    tolerance: float

    def differs(self, weights: Tensor, backward: Tensor) -> bool:
        """Whether ⟨J v, u⟩ differs from ⟨v, Jᵀ u⟩; False if one of them is not finite."""
        moved, weights = self.moved.double(), weights.double()
        gap = ((moved * weights).sum() - backward.double()).abs()
        return bool(gap > self.tolerance * moved.norm() * weights.norm())


@dataclass(frozen=True)
class _Part:
    """Directions of one layer's parameters, and their product with the gradient by the rows."""

    layer: Layer
    tangents: Tensors
    product: Tensor


def check_outputs(network: Network, inputs: Tensor, backward: Backward) -> None:
    """Evaluates the first sample again, alone, and compares with its rows.

    Args:
        network: from `flatness.measures._network.take_apart`.
        inputs: a chunk of samples, (c, ...).
        backward: backward rows of the chunk.

    Raises:
        UserError: the sample's outputs depend on the other samples or are random.
    """
    outputs = backward.outputs
    with torch.no_grad():
        alone = outputs_of(network, network.parameters, network.lay_out(inputs[:1]))[0]
    difference = float((outputs[0] - alone).abs().max())
    if len(outputs) != len(inputs) or difference > 1e-3 * _scale_of_outputs(network, backward):
        raise UserError(
            "the model's output for a sample changes when the sample is evaluated again alone; "
            "call model.eval(), and make the model return one row per sample"
        )


def _scale_of_outputs(network: Network, backward: Backward) -> float:
    """The scale of rounding in the outputs: their terms may cancel in the last layer."""
    scale = float(backward.outputs.norm(dim=1).max())
    if network.layers:
        last = len(network.layers) - 1
        seen = [rows.layers[last] for rows in backward([last])]
        squared = sum(float(rows.input_rows[:, 0].norm()) ** 2 for rows in seen)
        scale = max(scale, math.sqrt(squared) * float(seen[0].inputs[0].norm()))
    return scale


def wrong_gradient(
    network: Network, inputs: Tensor, backward: Backward, block: int
) -> UserError | None:
    """Checks gradients of some samples by inputs, by layers' parameters, and by other parameters.

    Gradients by other parameters are formed sample by sample; only the first sample's are checked.

    Args:
        network: from `flatness.measures._network.take_apart`.
        inputs: a chunk of samples, (c, ...).
        backward: of the chunk.
        block: outputs at a time.

    Returns:
        None if they are right; otherwise an error that names the wrong gradient.
    """
    some = torch.linspace(0, len(inputs) - 1, min(CHECKED, len(inputs))).long()
    inputs = inputs[some]
    generator = torch.Generator(inputs.device).manual_seed(0)
    weights = _random(backward.outputs[some], generator)
    directions = _random(inputs, generator)
    used = {*network.others, *(name for layer in network.layers for name in _names(layer))}
    tangents = {n: _random(p, generator) for n, p in network.parameters.items() if n in used}
    by_inputs, layers = _products(network, backward, some, weights, directions, tangents)
    if _along(network, inputs, {}, directions).differs(weights, by_inputs):
        wrong = _wrong_layers(network, inputs, layers, weights)
        place = f"behind layer {wrong[-1].layer.name}" if wrong else "before all layers"
        return _backward_fault(inputs.dtype, f"the inputs ({place})")
    return _wrong_layer(network, inputs, layers, weights) or _wrong_other(
        network, inputs[:1], weights[:1], tangents, block
    )


def _products(
    network: Network,
    backward: Backward,
    some: Tensor,
    weights: Tensor,
    directions: Tensor,
    tangents: Tensors,
) -> tuple[Tensor, list[_Part]]:
    """⟨gradient of Σ u f, directions⟩ by the inputs and by each layer's parameters."""
    by_inputs = torch.zeros((), dtype=directions.dtype, device=directions.device)
    deltas: dict[int, Tensor] = {}
    inputs: dict[int, Tensor] = {}
    for rows in backward():
        taken, u = rows.take(some), weights[:, rows.block]
        by_inputs += torch.einsum("ck,kc...,c...->", u, taken.jacobian, directions)
        for place, seen in taken.layers.items():
            delta = torch.einsum("ck,kc...->c...", u, seen.output_rows)
            deltas[place] = deltas[place] + delta if place in deltas else delta
            inputs[place] = seen.inputs
    parts = []
    for place, layer in enumerate(network.layers):
        own = {name: tangents[name] for name in _names(layer)}
        product = gradient_product(layer, inputs[place], deltas[place], *own.values())
        parts.append(_Part(layer, own, product.sum()))
    return by_inputs, parts


def _wrong_layer(
    network: Network, inputs: Tensor, layers: Sequence[_Part], weights: Tensor
) -> UserError | None:
    together = {name: tangent for part in layers for name, tangent in part.tangents.items()}
    product = _total(part.product for part in layers)
    if not layers or not _along(network, inputs, together).differs(weights, product):
        return None
    wrong = _wrong_layers(network, inputs, layers, weights)
    if not wrong:
        return _backward_fault(inputs.dtype, "the layers' parameters")
    last = wrong[-1]
    plainly = _plain_product(network, inputs, last.tangents, weights)
    if _along(network, inputs, last.tangents).differs(weights, plainly):
        return _backward_fault(inputs.dtype, f"the parameters of layer {last.layer.name}")
    return UserError(
        f"the parameters of layer {last.layer.name} are also used outside of it, or a hook changes "
        "its output, so its gradient cannot be measured; give each use a layer of its own"
    )


def _wrong_layers(
    network: Network, inputs: Tensor, layers: Sequence[_Part], weights: Tensor
) -> list[_Part]:
    """The checks that fail on their own, in the order of the layers' calls."""
    return [
        part
        for part in layers
        if _along(network, inputs, part.tangents).differs(weights, part.product)
    ]


def _wrong_other(
    network: Network, sample: Tensor, weights: Tensor, tangents: Tensors, block: int
) -> UserError | None:
    if not network.others:
        return None
    found = {name: sample.new_zeros(()) for name in network.others}
    along = partial(_along, network, sample)
    for part, rows_by_name in parameter_rows(network, network.others, sample, block):
        for name, rows in rows_by_name.items():
            found[name] += torch.einsum("k,k...,...->", weights[0, part], rows, tangents[name])
    others = {name: tangents[name] for name in found}
    if not along(others).differs(weights, _total(found.values())):
        return None
    wrong = [n for n in found if along({n: tangents[n]}).differs(weights, found[n])]
    return _backward_fault(sample.dtype, f"parameter {wrong[0] if wrong else ', '.join(found)}")


def _backward_fault(dtype: torch.dtype, what: str) -> NumericalError:
    advice = "measure in float64, or" if dtype == torch.float32 else "measure"
    return NumericalError(
        f"the gradient by {what} that the backward pass gives in {dtype} is not the derivative of "
        f"the forward pass: rounding, or an operation whose gradient is wrong on this processor or "
        f"by intent; {advice} on another device or with another version of PyTorch"
    )


def _total(products: Iterable[Tensor]) -> Tensor:
    """Sum of numbers; zero if there are none."""
    return torch.stack([*products] or [torch.zeros(())]).sum()


def _names(layer: Layer) -> Sequence[str]:
    """Full names of a layer's weight and, if it has one, bias."""
    prefix = f"{layer.name}." if layer.name else ""
    return [f"{prefix}weight"] + ([] if layer.bias is None else [f"{prefix}bias"])


def _plain_product(network: Network, inputs: Tensor, part: Tensors, weights: Tensor) -> Tensor:
    """⟨gradient of Σ u f by some parameters, directions⟩ by plain backpropagation."""
    leaves = {name: network.parameters[name].detach().requires_grad_() for name in part}
    with torch.enable_grad():
        parameters = {**network.parameters, **leaves}
        combined = (outputs_of(network, parameters, network.lay_out(inputs)) * weights).sum()
    found = torch.autograd.grad(combined, list(leaves.values()), materialize_grads=True)
    return _total((g * part[name]).sum() for name, g in zip(leaves, found, strict=True))


def _along(
    network: Network, inputs: Tensor, tangents: Tensors, directions: Tensor | None = None
) -> _Product:
    """J v for parameters along `tangents`, and for inputs along `directions` if given.

    Uses forward differentiation, or central differences in float64 if an operation has none.

    Returns:
        J v.
    """
    directions = torch.zeros_like(inputs) if directions is None else directions
    chosen = {name: network.parameters[name] for name in tangents}

    def function(moved: Tensors, x: Tensor) -> Tensor:
        return outputs_of(network, {**network.parameters, **moved}, network.lay_out(x))

    try:
        with torch.enable_grad(), _ForwardToo():
            moved = jvp(function, (chosen, inputs), (tangents, directions))[1].detach()
        return _Product(moved, TOLERANCE[inputs.dtype])
    except (NotImplementedError, RuntimeError):
        moved = _differences(network, inputs, tangents, directions)
        return _Product(moved, DIFFERENCES_TOLERANCE)


class _ForwardToo(TorchFunctionMode):
    """Makes torch.no_grad() inside a model stop forward differentiation, as it stops backward."""

    def __torch_function__(
        self, function: Callable, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is torch._C._set_grad_enabled:
            forward_ad._set_fwd_grad_enabled(*args)
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def _differences(network: Network, inputs: Tensor, tangents: Tensors, directions: Tensor) -> Tensor:
    """J v by central differences of the model in float64."""
    state = {name: _double(t) for name, t in network.module.named_buffers()}
    state |= {name: _double(t) for name, t in network.parameters.items()}
    x, directions = inputs.double(), directions.double()
    sizes = [(state[n].norm(), t.double().norm()) for n, t in tangents.items()]
    sizes.append((x.norm(), directions.norm()))
    step = STEP * min(float(s) / float(t) for s, t in sizes if s > 0 and t > 0)

    def moved(sign: int) -> Tensor:
        there = {n: state[n] + sign * step * t.double() for n, t in tangents.items()}
        return outputs_of(network, {**state, **there}, x + sign * step * directions)

    return (moved(1) - moved(-1)) / (2 * step)


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers between −1 and 1."""
    return torch.empty_like(like).uniform_(-1, 1, generator=generator)
