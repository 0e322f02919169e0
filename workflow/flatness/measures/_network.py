"""A model in parts: its layers, the parameters outside of them, and its evaluation."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from flatness.errors import UserError
from flatness.measures._checks import at_least_two
from flatness.measures._layers import Layer
from flatness.measures.functional import functional_call
from flatness.measures.workarounds import mended, never_alone, plain

#: Modules whose input counts as a layer's input x^l.
WEIGHT_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
#: The forward() of layers that compute their weight's product; timm's linear layer is PyTorch's.
FORWARDS = (
    "torch.nn.modules.linear.Linear.forward",
    "torch.nn.modules.conv.Conv2d.forward",
    "timm.layers.linear.Linear.forward",
)


@dataclass(frozen=True)
class Network:
    """A model taken apart for measuring.

    Attributes:
        module: the model; never changed.
        parameters: all its parameters by name, detached.
        layers: linear and convolutional layers that are called once, in order of their calls.
        outputs: N.
        others: names of the parameters that belong to none of `layers`.
        incomplete: why `layers` is not all linear and convolutional layers; empty if it is.
        channels_last: whether images and kernels are laid out channels-last.
    """

    module: nn.Module
    parameters: dict[str, Tensor]
    layers: tuple[Layer, ...]
    outputs: int
    others: tuple[str, ...]
    incomplete: str
    channels_last: bool

    def lay_out(self, inputs: Tensor) -> Tensor:
        """Inputs in the layout that is fastest for the model."""
        return fast_layout(inputs) if self.channels_last else plain(inputs)

    def laid_out_plain(self) -> "Network":
        """The same network, images and kernels channels first."""
        layers = tuple(
            replace(
                layer,
                weight=plain(layer.weight),
                bias=None if layer.bias is None else plain(layer.bias),
            )
            for layer in self.layers
        )
        parameters = {name: plain(p) for name, p in self.parameters.items()}
        return replace(self, parameters=parameters, layers=layers, channels_last=False)


@dataclass(frozen=True)
class Call:
    name: str
    inputs: Tensor
    output_shape: torch.Size
    version: int
    edges: tuple[GradientEdge, GradientEdge] | tuple[()]


def take_apart(model: nn.Module, sample: Tensor, *, with_layers: bool = True) -> Network:
    """Finds the layers of a model, and the parameters that need the general path.

    Args:
        model: any module that maps (n, ...) to (n, N), in evaluation mode if that matters to it.
        sample: one input, (1, ...).
        with_layers: whether gradients by layers and parameters are wanted; without, none is found.

    Returns:
        The model's parts.

    Raises:
        UserError: the model fails, or its outputs have no gradient by the sample.
    """
    sample = at_least_two(sample)
    modules = model.named_modules() if with_layers else ()
    candidates = {n: m for n, m in modules if isinstance(m, WEIGHT_LAYERS)}
    channels_last = True
    try:
        parameters, calls, outputs = _trial(model, sample, candidates, fast_layout)
    except RuntimeError:  # such as that of x.view(len(x), -1), which needs channels first
        channels_last = False
        parameters, calls, outputs = _plain_trial(model, sample, candidates)
    if not with_layers:
        return Network(model, parameters, (), outputs.shape[1], (), "", channels_last)
    owners = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    made = Counter(call.name for call in calls)
    rows = _rows_of_inputs(model, parameters, sample[:1], candidates)
    reasons = {
        call.name: _obstacle(
            candidates[call.name], call, made[call.name], owners, rows[call.name] == [2, 3]
        )
        for call in calls
    }
    for name in sorted(candidates.keys() - made.keys()):
        if _matters(model, parameters, candidates[name], sample):
            reasons[name] = "is not called, but its parameters are used"
    layers = [
        _layer(cast("nn.Linear | nn.Conv2d", candidates[call.name]), call, parameters)
        for call in calls
        if not reasons[call.name]
    ]
    own = {id(p) for layer in layers for p in layer.module.parameters(recurse=False)}
    others = tuple(name for name, p in model.named_parameters() if id(p) not in own)
    incomplete = "; ".join(f"layer {name} {why}" for name, why in reasons.items() if why)
    return Network(
        model, parameters, tuple(layers), outputs.shape[1], others, incomplete, channels_last
    )


def _trial(
    model: nn.Module,
    sample: Tensor,
    candidates: Mapping[str, nn.Module],
    layout: Callable[[Tensor], Tensor],
) -> tuple[dict[str, Tensor], list[Call], Tensor]:
    """Parameters in a layout, and the layers' calls and the outputs (c, N) on the samples."""
    parameters = {name: layout(p.detach()) for name, p in model.named_parameters()}
    with torch.enable_grad(), recorded(candidates) as calls:
        leaf = layout(sample.detach()).requires_grad_()
        outputs = evaluate(model, parameters, leaf)
    if not outputs.requires_grad:
        raise UserError(
            "the outputs have no gradient by the inputs; look for torch.no_grad, detach or argmax "
            "in the model"
        )
    return parameters, calls, outputs


def _plain_trial(
    model: nn.Module, sample: Tensor, candidates: Mapping[str, nn.Module]
) -> tuple[dict[str, Tensor], list[Call], Tensor]:
    try:
        return _trial(model, sample, candidates, plain)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the model fails on a batch of shape {tuple(sample.shape)}: {reason}"
        ) from error


def _matters(
    model: nn.Module, parameters: dict[str, Tensor], layer: nn.Module, sample: Tensor
) -> bool:
    """Whether the outputs depend on a layer's parameters."""
    own = {id(p) for p in layer.parameters(recurse=False)}
    chosen = {
        name: parameters[name].detach().requires_grad_()
        for name, p in model.named_parameters()
        if id(p) in own
    }
    with torch.enable_grad():
        outputs = evaluate(model, {**parameters, **chosen}, sample)
    if not outputs.requires_grad:
        return False
    found = torch.autograd.grad(outputs.sum(), list(chosen.values()), allow_unused=True)
    return any(gradient is not None for gradient in found)


def _rows_of_inputs(
    model: nn.Module,
    parameters: dict[str, Tensor],
    sample: Tensor,
    candidates: Mapping[str, nn.Module],
) -> dict[str, list[int]]:
    """The first dimension of each layer's input in batches of two and of three samples."""
    rows: dict[str, list[int]] = {name: [] for name in candidates}
    for count in (2, 3):
        batch = torch.cat([sample] * count)
        with torch.no_grad(), recorded(candidates) as calls:
            functional_call(model, parameters, (batch,))
        for call in calls:
            rows[call.name].append(len(call.inputs) if call.inputs.dim() > 1 else 0)
    return rows


def _layer(module: nn.Linear | nn.Conv2d, call: Call, parameters: dict[str, Tensor]) -> Layer:
    prefix = f"{call.name}." if call.name else ""
    weight, bias = parameters[f"{prefix}weight"], parameters.get(f"{prefix}bias")
    positions = call.output_shape[1:].numel() // len(weight)
    return Layer(call.name, module, weight, bias, tuple(call.inputs.shape[1:]), positions)


def _obstacle(
    module: nn.Module, call: Call, made: int, owners: Mapping[int, int], by_sample: bool
) -> str:
    """Why a linear or convolutional layer cannot take the fast path; empty if it can."""
    own = dict(module.named_parameters(recurse=False))
    forward = type(module).forward
    if f"{forward.__module__}.{forward.__qualname__}" not in FORWARDS:
        return f"is a {type(module).__name__}, whose forward() is not that of Linear or Conv2d"
    if made != 1:
        return f"is called {made} times in one forward pass"
    if not call.edges:
        return "has no gradient by the inputs (torch.no_grad, detach, or a constant input)"
    if own.keys() != ({"weight"} if module.bias is None else {"weight", "bias"}):
        return "computes its weight or bias from other parameters"
    if any(owners[id(p)] > 1 for p in own.values()):
        return "shares a parameter with another module"
    if not by_sample:
        return "has not one row of inputs a sample"
    return ""


def evaluate(model: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Outputs (n, N) of a model with some parameters; `inputs` (n, ...) stay as they are."""
    with mended():
        # a copy, as the model may change its input in place
        return flat_outputs(functional_call(model, dict(parameters), (inputs.clone(),)))


def outputs_of(network: Network, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Outputs (n, N) of the network's module, with right gradients even for a lone sample."""
    return never_alone(lambda x: evaluate(network.module, parameters, x))(inputs)


def fast_layout(tensor: Tensor) -> Tensor:
    """Images and kernels channels-last: backward rows take 0.6 (LeNet-5), 0.8 (VGG) of the time."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def flat_outputs(outputs: Tensor) -> Tensor:
    """Lays out a model's outputs as rows.

    Args:
        outputs: (n,) or (n, ...); also (), if squeeze() was applied to one number of one sample.

    Returns:
        (n, N).

    Raises:
        UserError: the model does not return a tensor.
    """
    if not isinstance(outputs, Tensor):
        raise UserError(
            "the model must return one tensor of shape (n, N); wrap it, or let "
            "measure(outputs=...) pick it"
        )
    return outputs.reshape(-1, 1) if outputs.dim() < 2 else outputs.flatten(1)


@contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[list[Call]]:
    """Records each call of the modules: its input, and the gradient edges at input and output.

    The input passes through a view, so that its gradient is that of this layer alone where other
    layers use the same tensor. Edges, unlike tensors, stay where they are when an activation
    overwrites the layer's output in place.

    Yields:
        The calls, a list that grows while the model runs.
    """
    calls: list[Call] = []
    pending: dict[str, Tensor] = {}

    def enter(name: str, _: nn.Module, args: tuple) -> tuple:
        if not args:
            raise UserError(f"layer {name} is called by keyword; pass it its input by position")
        pending[name] = args[0].view_as(args[0])
        return (pending[name], *args[1:])

    def leave(name: str, _: nn.Module, __: tuple, output: Tensor) -> None:
        seen = pending.pop(name)
        depends = output.requires_grad
        edges = (get_gradient_edge(seen), get_gradient_edge(output)) if depends else ()
        calls.append(Call(name, seen, output.shape, seen._version, edges))

    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(partial(enter, name)))
        handles.append(module.register_forward_hook(partial(leave, name)))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
