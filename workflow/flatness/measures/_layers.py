"""Linear and convolutional layers as one kind of map: a kernel applied to patches of the input.

A layer computes `y = K U + b` with `U` (K_in, P) the patches of its input x at P positions: for a
linear layer U = x and P = 1, for a convolution U = unfold(x). The gradient of an output of the
network by the kernel is then `δ Uᵀ`, with δ (C_out, P) the gradient arriving at y.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from flatness.measures.workarounds import mended

#: Relative residual that a Lanczos iteration stops at. The eigenvalue's relative error is no
#: larger, and of the order of its square.
LANCZOS_TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
#: Columns of a matrix product that run at full speed and stay in the cache.
PRODUCT_WIDTH = 64
#: Up to this size eigenvalues of a dense Gram matrix are faster than a Lanczos iteration.
DENSE_SIZE = 128


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer that is called once per forward pass.

    Attributes:
        name: its name in the model.
        module: the layer.
        weight: its kernel, detached.
        bias: its bias, detached; None without one.
        input_shape: of one sample's input.
        positions: P, places where the kernel is applied.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    weight: Tensor
    bias: Tensor | None
    input_shape: tuple[int, ...]
    positions: int

    @cached_property
    def weight_squared(self) -> Tensor:
        """w_p² of the kernel, in its shape."""
        return self.weight.square()

    def double(self) -> "Layer":
        """The same layer with its parameters in float64."""
        bias = None if self.bias is None else self.bias.double()
        return replace(self, weight=self.weight.double(), bias=bias)

    @property
    def is_dense(self) -> bool:
        """Whether it is a linear layer at one position."""
        return isinstance(self.module, nn.Linear) and len(self.input_shape) == 1

    @property
    def patch_size(self) -> int:
        """Rows of the patches U of one group."""
        return self.weight[0].numel()

    @property
    def bounds_jacobian(self) -> bool:
        """Whether its patches can have full column rank, with a row of ones if it has a bias."""
        return self.positions <= self.patch_size + (self.bias is not None)


@dataclass(frozen=True)
class GradientSquares:
    """Squared norms of an output gradient by one layer's parameters, summed over the N outputs.

    Attributes:
        weight: Σ_k ||∂f_k/∂W||², per sample, (c,).
        bias: Σ_k ||∂f_k/∂b||², (c,).
        adaptive: Σ_k Σ_p w_p² (∂f_k/∂w_p)², over weight and bias, (c,).
    """

    weight: Tensor
    bias: Tensor
    adaptive: Tensor


def patches(layer: Layer, inputs: Tensor) -> Tensor:
    """The patches U of each sample.

    Args:
        layer: linear or convolutional.
        inputs: of the layer, (c, ...).

    Returns:
        (c, groups, k² · C_in/groups, P); rows in the order of `_kernel_by_patch`.
    """
    module = layer.module
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, module.in_features).mT.unsqueeze(1)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    windows = functional.pad(inputs, _padding(module), mode=mode)
    each = zip(module.kernel_size, module.stride, module.dilation, strict=True)
    for dimension, (size, stride, dilation) in enumerate(each, start=2):
        windows = windows.unfold(dimension, dilation * (size - 1) + 1, stride)[..., ::dilation]
    # (c, groups, C_in/groups, height, width, k, k): channels go last, as they lie in memory
    windows = windows.unflatten(1, (module.groups, -1)).movedim(2, -1)
    return windows.flatten(4).flatten(2, 3).mT


def _kernel_by_patch(layer: Layer, kernel: Tensor) -> Tensor:
    """A kernel, or something of its shape, as (groups, C_out/groups, rows of `patches`)."""
    groups = 1 if isinstance(layer.module, nn.Linear) else layer.module.groups
    return kernel.unflatten(0, (groups, -1)).movedim(2, -1).flatten(2)


def _padding(module: nn.Conv2d) -> list[int]:
    """Padding left, right, top, bottom."""
    if isinstance(module.padding, tuple):
        height, width = module.padding
        return [width, width, height, height]
    if module.padding == "valid":
        return [0, 0, 0, 0]
    across, down = (
        d * (k - 1) for d, k in zip(module.dilation[::-1], module.kernel_size[::-1], strict=True)
    )
    return [across // 2, across - across // 2, down // 2, down - down // 2]


@dataclass(frozen=True)
class QuadraticForms:
    """What squared kernel gradients are quadratic forms of, in δ (C_out, P); U are the patches.

    Attributes:
        plain: Uᵀ U, (c, groups, P, P).
        weighted: Uᵀ diag(w_j²) U for each output channel j, (c, groups, C_out/groups, P, P).
    """

    plain: Tensor
    weighted: Tensor


def quadratic_forms(layer: Layer, inputs: Tensor, outputs: int) -> QuadraticForms | None:
    """The forms of a layer with few positions, if they cost less than one gradient per output.

    A kernel's gradients take N · C_out · K_in · P operations, the forms K_in · C_out · P² once
    and C_out · P² for each output.

    Args:
        layer: linear or convolutional.
        inputs: of the layer, (c, ...).
        outputs: N, number of outputs to come.

    Returns:
        The forms; None if gradients cost less, or if a linear layer needs neither.
    """
    places = layer.positions
    if layer.is_dense or places / outputs + places / layer.patch_size >= 1:
        return None
    columns = patches(layer, inputs)
    squared = _kernel_by_patch(layer, layer.weight_squared)
    weighted = [squared @ (columns * columns[..., p : p + 1]) for p in range(places)]
    return QuadraticForms(columns.mT @ columns, torch.stack(weighted, dim=-1))


def gradient_squares(
    layer: Layer, inputs: Tensor, rows: Tensor, forms: QuadraticForms | None = None
) -> GradientSquares:
    """Squared parameter gradients of a layer; not formed for a linear layer at one position.

    There `||δ aᵀ||² = ||δ||² ||a||²`; at several positions the kernel's gradient sums over them.

    Args:
        layer: linear or convolutional.
        inputs: of the layer, (c, ...).
        rows: gradients of K outputs at the layer's output, (K, c, ...).
        forms: of the layer and the inputs; None to form gradients.

    Returns:
        The squared norms.
    """
    if layer.is_dense:
        squares = rows.square().sum(0)
        weight = squares.sum(1) * inputs.square().sum(1)
        adaptive = (squares * (inputs.square() @ layer.weight_squared.T)).sum(1)
        return _with_bias(layer, squares, weight, adaptive)
    deltas = _by_position(layer, rows)
    bias = deltas.sum(-2).square().sum(0).flatten(1)
    if forms is not None:
        channels = deltas.permute(1, 2, 4, 0, 3).contiguous()  # (c, groups, C_out/groups, K, P)
        by_channel = (channels @ forms.weighted) * channels
        together = channels.flatten(2, 3)
        by_form = (together @ forms.plain) * together
        return _with_bias(layer, bias, by_form.sum((1, 2, 3)), by_channel.sum((1, 2, 3, 4)))
    squares = _kernel_squares(patches(layer, inputs), deltas)
    weighted = squares * _kernel_by_patch(layer, layer.weight_squared).mT
    return _with_bias(layer, bias, squares.sum((1, 2, 3)), weighted.sum((1, 2, 3)))


def gradient_product(
    layer: Layer, inputs: Tensor, delta: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Inner product of the gradient by a layer's parameters with a direction: ⟨δ Uᵀ, V⟩ + ⟨δ 1, b⟩.

    Args:
        layer: linear or convolutional.
        inputs: of the layer, (c, ...).
        delta: gradient of one number at the layer's output, (c, ...).
        weight: V, in the kernel's shape.
        bias: b, in the bias's shape.

    Returns:
        The product, (c,).
    """
    moved = _kernel_by_patch(layer, weight) @ patches(layer, inputs)
    if bias is not None:
        moved = moved + bias.view(1, moved.shape[1], -1, 1)
    return (moved.mT * _by_position(layer, delta.unsqueeze(0))[0]).sum((1, 2, 3))


def _by_position(layer: Layer, rows: Tensor) -> Tensor:
    """Gradients at the layer's output as (N, c, groups, P, C_out/groups)."""
    if isinstance(layer.module, nn.Linear):
        return rows.reshape(*rows.shape[:2], 1, -1, rows.shape[-1])
    positions = rows.permute(0, 1, 3, 4, 2).flatten(2, 3)
    return positions.unflatten(3, (layer.module.groups, -1)).transpose(2, 3)


def _kernel_squares(columns: Tensor, deltas: Tensor) -> Tensor:
    """Σ_k (U δ_kᵀ)², each entry squared, (c, groups, rows of U, C_out/groups)."""
    width = deltas.shape[-1]
    squares = columns.new_zeros(*columns.shape[:-1], width)
    for block in deltas.split(max(1, PRODUCT_WIDTH // width)):
        products = columns @ (block[0] if len(block) == 1 else torch.cat(block.unbind(), dim=-1))
        for gradient in products.split(width, dim=-1):
            squares.addcmul_(gradient, gradient)
    return squares


def _with_bias(layer: Layer, squares: Tensor, weight: Tensor, adaptive: Tensor) -> GradientSquares:
    """Adds the bias's part; `squares` (c, C_out) are its squared gradients, summed over outputs."""
    if layer.bias is None:
        return GradientSquares(weight, torch.zeros_like(weight), adaptive)
    return GradientSquares(weight, squares.sum(1), adaptive + squares @ layer.bias.square())


def smallest_singular_values(layer: Layer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """How strongly a layer's input enters the gradient by its kernel: σ_P(U) and σ_P([U; 1]).

    For any δ (C_out, P), `||δ Uᵀ||_F ≥ σ_P(U) ||δ||_F`, where σ_P(U) is the smallest singular value
    of the map δ ↦ δ Uᵀ: zero if P exceeds the rows of U. With the bias's gradient δ 1 as one more
    column of the gradient, the same holds with U extended by a row of ones. With groups, the
    smallest value over the groups counts. For a linear layer at one position these are ||x|| and
    sqrt(1 + ||x||²).

    Args:
        layer: linear or convolutional.
        inputs: of the layer, (c, ...).

    Returns:
        Without and with the bias (equal if the layer has none), each (c,), float64; NaN if there
        are more positions than rows, zero if it is zero up to rounding.
    """
    columns = patches(layer, inputs)
    plain = _smallest(columns)
    if layer.bias is None:
        return plain, plain
    ones = columns.new_ones(*columns.shape[:2], 1, columns.shape[3])
    return plain, _smallest(torch.cat([columns, ones], dim=2))


def _smallest(columns: Tensor) -> Tensor:
    height, positions = columns.shape[2:]
    if positions > height:
        return columns.new_full((len(columns),), torch.nan, dtype=torch.float64)
    if positions == 1:
        return torch.linalg.vector_norm(columns.double(), dim=(2, 3)).amin(1)
    values = torch.linalg.svdvals(columns)
    negligible = height * torch.finfo(columns.dtype).eps * values[..., 0]
    smallest = torch.where(values[..., -1] > negligible, values[..., -1], 0.0)
    return smallest.double().amin(1)


def operator_norm(layer: Layer) -> float:
    """||W||_2 of the linear map from a layer's input to its output, without bias.

    Uses eigenvalues of WᵀW or WWᵀ; Lanczos iterations (ARPACK) if the matrix is large.

    Args:
        layer: linear or convolutional.

    Returns:
        The largest singular value.
    """
    scale = float(layer.weight.abs().max())
    if scale == 0:
        return 0.0
    weight = layer.weight / scale
    if isinstance(layer.module, nn.Linear):
        matrix = weight.cpu().numpy()
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        return scale * _root_of_largest(
            lambda columns: matrix @ (matrix.T @ columns), len(matrix), matrix.dtype
        )
    parameters = {"weight": weight}
    if layer.bias is not None:
        parameters["bias"] = torch.zeros_like(layer.bias)

    def gram(columns: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(columns.T.reshape(-1, *layer.input_shape)).to(weight)
        leaf.requires_grad_()
        with torch.enable_grad():  # the gradient of ½||Wv||² is WᵀWv
            with mended():
                image = functional_call(layer.module, parameters, (leaf,))
            gradient = torch.autograd.grad(image, leaf, image.detach())[0]
        return gradient.flatten(1).T.cpu().numpy().reshape(columns.shape)

    dtype = weight[:0].cpu().numpy().dtype
    return scale * _root_of_largest(gram, math.prod(layer.input_shape), dtype)


def _root_of_largest(gram: Callable[[np.ndarray], np.ndarray], size: int, dtype: np.dtype) -> float:
    """Square root of the largest eigenvalue of a symmetric map of columns (size, ...)."""
    if size <= DENSE_SIZE:
        largest = np.linalg.eigvalsh(gram(np.eye(size, dtype=dtype)).astype(np.float64))[-1]
    else:
        start = np.random.default_rng(0).standard_normal(size).astype(dtype)
        operator = LinearOperator((size, size), matvec=gram, dtype=dtype)
        tolerance = LANCZOS_TOLERANCE[dtype.name]
        (largest,) = eigsh(operator, 1, tol=tolerance, v0=start, return_eigenvectors=False)
    return math.sqrt(max(largest, 0.0))
