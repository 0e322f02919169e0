"""Convolutions as products of matrices, for stacked models.

`torch.func.vmap` turns the convolutions of M models into one grouped convolution, whose gradients
are slow on a GPU. Here a sample's patches are the columns of a matrix U, so that a convolution is
W U and its gradients are δ Uᵀ and, for the inputs, another convolution: the flipped kernel on δ.
All are products of batches of small matrices. Only first derivatives are right.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


def with_patch_convolutions(model: nn.Sequential) -> nn.Sequential:
    """A copy of a network, parameters by the same names, its convolutions products of matrices.

    Args:
        model: layers in a row.

    Returns:
        The copy; convolutions with a stride, dilation or groups, or with more padding than their
        kernel reaches over, stay as they are.
    """
    replaced = copy.deepcopy(model)
    for name, layer in model.named_children():
        if type(layer) is nn.Conv2d and _is_plain(layer):
            setattr(replaced, name, PatchConvolution(layer))
    return replaced


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        {*layer.stride, *layer.dilation, layer.groups} == {1}
        and layer.bias is not None
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and all(p < k for p, k in zip(layer.padding, layer.kernel_size, strict=True))
    )


class PatchConvolution(nn.Module):
    """A plain convolution (stride 1), with parameters `weight` and `bias`."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self._padding = layer.weight, layer.bias, layer.padding

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, C, h, w) to outputs (B, O, h', w')."""
        outputs = _Convolution.apply(inputs, self.weight, self._padding)[0]
        return outputs + self.bias[:, None, None]


class _Convolution(Function):
    """W U and its gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, padding: tuple[int, int]) -> tuple[Tensor, Tensor]:
        columns = patches(inputs, weight, padding)
        return _product(weight, columns, inputs, padding), columns

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        _, weight, ctx.padding = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight, output[1])

    @staticmethod
    def backward(ctx: Any, delta: Tensor, _: None) -> tuple[Tensor | None, Tensor, None]:
        weight, columns = ctx.saved_tensors
        if columns.dim() == 2:
            of_weight = delta.transpose(0, 1).flatten(1) @ columns.mT
        else:
            of_weight = torch.bmm(delta.flatten(2), columns.mT).sum(0)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            flipped = weight.flip(2, 3).transpose(0, 1)
            reach = tuple(k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True))
            of_inputs = _product(flipped, patches(delta, flipped, reach), delta, reach)
        return of_inputs, of_weight.view(weight.shape), None


def patches(inputs: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The patches of the samples, U of each or of all in one matrix, whichever moves less memory.

    Args:
        inputs: (B, C, h, w).
        weight: of the convolution, (O, C, k, l).
        padding: rows and columns of zeros on each side.

    Returns:
        (B, C k l, h' w'), or (C k l, B h' w') if a sample has fewer places than the kernel outputs.
    """
    height, width = _size(weight, inputs, padding)
    vertical, horizontal = padding
    if any(padding):
        inputs = functional.pad(inputs, (horizontal, horizontal, vertical, vertical))
    shifted = [
        inputs[:, :, row : row + height, column : column + width]
        for row in range(weight.shape[2])
        for column in range(weight.shape[3])
    ]
    if height * width < len(weight):
        shifted = [part.transpose(0, 1) for part in shifted]
        return torch.stack(shifted, 1).flatten(0, 1).flatten(1)
    return torch.stack(shifted, 2).flatten(1, 2).flatten(2)


def _product(weight: Tensor, columns: Tensor, inputs: Tensor, padding: tuple[int, int]) -> Tensor:
    """Outputs (B, O, h', w') of a convolution, from the `patches` of its inputs."""
    size = _size(weight, inputs, padding)
    kernel = weight.flatten(1)
    if columns.dim() == 2:
        return (kernel @ columns).unflatten(1, (len(inputs), *size)).transpose(0, 1)
    return torch.bmm(kernel.expand(len(columns), -1, -1), columns).unflatten(2, size)


def _size(weight: Tensor, inputs: Tensor, padding: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the outputs."""
    height, width = inputs.shape[2:]
    (vertical, horizontal), (rows, columns) = padding, weight.shape[2:]
    return height + 2 * vertical - rows + 1, width + 2 * horizontal - columns + 1
