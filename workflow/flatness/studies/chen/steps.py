"""One training step of a model on its own: by autograd and an optimizer, or fused.

The fused step is plain gradient descent on a dense network, whose gradient is never stored. With δ
the gradient of the loss at a layer's outputs and x its inputs, ∇_W L = δᵀx, so that the layer's
step is the matrix product W ← W − η δᵀx, written onto W. The δ of the layer before is
(δW) ⊙ φ'(·), from the W before its step. Autograd would write the gradient to memory, and the
optimizer would read it again: for the MLP this is most of a step's memory traffic.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from flatness.studies.chen.config import Setting

#: The activations a fused step knows: φ, written onto its inputs, and φ' by its outputs a = φ(·).
ACTIVATIONS: dict[
    type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
] = {
    nn.ReLU: (torch.relu_, lambda a: a > 0),
    nn.Tanh: (torch.tanh_, lambda a: 1 - a * a),
}


class Step(Protocol):
    """An object that performs the training steps of one model.

    Attributes:
        execution: "loop" or "fused", as in rows.
        optimizer: contains the state that a restart needs beside the weights.
    """

    execution: str
    optimizer: Optimizer

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Takes a step on the mean squared error of a batch; returns the error before the step."""


def step_of(model: nn.Module, setting: Setting) -> Step:
    """The fastest step for a model and setting."""
    plain = setting.optimizer == "sgd" and not (setting.momentum or setting.weight_decay)
    return FusedStep(model, setting) if plain and is_dense(model) else AutogradStep(model, setting)


def is_dense(model: nn.Module) -> bool:
    """Whether a network is linear layers with biases, a known activation between any two."""
    layers = list(model)
    layers = layers[1:] if isinstance(layers[0], nn.Flatten) else layers
    linear, between = layers[::2], layers[1::2]
    return (
        len(layers) % 2 == 1
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(type(layer) in ACTIVATIONS for layer in between)
    )


def build_optimizer(model: nn.Module, setting: Setting) -> Optimizer:
    """The setting's optimizer, its update fused over parameters."""
    common = {"lr": setting.learning_rate, "weight_decay": setting.weight_decay, "fused": True}
    if setting.optimizer == "adam":
        return Adam(model.parameters(), **common)
    return SGD(model.parameters(), momentum=setting.momentum, **common)


class AutogradStep:
    """Any network and optimizer. Attributes and call as `Step`."""

    execution = "loop"

    def __init__(self, model: nn.Module, setting: Setting) -> None:
        self._model = model
        self.optimizer = build_optimizer(model, setting)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Backward, then the optimizer's step."""
        loss = functional.mse_loss(self._model(inputs), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss


class FusedStep:
    """Plain descent on a dense network. Attributes and call as `Step`."""

    execution = "fused"

    def __init__(self, model: nn.Module, setting: Setting) -> None:
        self.optimizer = build_optimizer(model, setting)
        self._rate = setting.learning_rate
        modules = [layer for layer in model if not isinstance(layer, nn.Flatten)]
        self._parameters = [(layer.weight, layer.bias) for layer in modules[::2]]
        self._activations = [ACTIVATIONS[type(layer)] for layer in modules[1::2]]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Forward, then from the last layer on: δ of the layer before, and the layer's step."""
        entering = [inputs.flatten(1)]
        for (weight, bias), (activate, _) in zip(self._parameters, self._activations, strict=False):
            entering.append(activate(functional.linear(entering[-1], weight, bias)))
        error = functional.linear(entering[-1], *self._parameters[-1]).sub_(targets)
        delta = error * (2 / error.numel())
        for index in reversed(range(len(self._parameters))):
            weight, bias = self._parameters[index]
            before = delta @ weight if index else delta
            weight.addmm_(delta.T, entering[index], alpha=-self._rate)
            bias.sub_(delta.sum(0), alpha=self._rate)
            if index:
                _, derivative = self._activations[index - 1]
                delta = before.mul_(derivative(entering[index]))
        return error.square_().mean()
