"""Faults of PyTorch on the CPU, and the package's workarounds.

All were seen with PyTorch 2.15.0 (oneDNN 3.13.3); 2.11 to 2.14 have the first two as well.
`tests/test_workarounds.py` shows each fault without its workaround. A workaround can be removed
when this test of the bare fault fails with the oldest PyTorch that `pyproject.toml` allows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
#: Input channels from which strided 1×1 convolutions were right.
ENOUGH_CHANNELS = 8


@contextmanager
def mended() -> Iterator[None]:
    """Replaces operations that PyTorch computes wrongly or lacks, if models call them from Python.

    * A strided 1×1 convolution of 2 to 7 input channels on channels-last images: on a processor
      with AVX2 and without AVX-512, oneDNN's kernel jit_1x1:avx2 overwrites memory in the backward
      pass by weights. Here such a convolution always runs in plain layout. Grouped convolutions did
      not fail in 60 tries. In `config/vit_models.txt`, the seven FastViT models have such a layer,
      `stem.0.conv_scale.conv`.
    * Weight normalisation: the second derivative of the fused operation is wrong, so that Hessians
      are not symmetric. Here it is computed as an explicit product.
    * The hard sigmoid has no second derivative. Here it is relu6(x + 3) / 6, which has one.

    Models compiled by TorchScript are not affected. It also works as a decorator.
    """
    with _Mended():
        yield


class _Mended(TorchFunctionMode):
    """Its functions use PyTorch's argument names, since models may pass them by keyword."""

    def __torch_function__(
        self, function: Callable, _types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function in CONVOLUTIONS:
            return _convolution(function, *args, **(kwargs or {}))
        if function is functional.hardsigmoid:
            return _hard_sigmoid(*args, **(kwargs or {}))
        if function is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _convolution(
    function: Callable,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    strided = max(stride) > 1 if isinstance(stride, tuple | list) else stride > 1
    channels = input.shape[1 - weight.dim()]
    narrow = channels < ENOUGH_CHANNELS and weight.shape[2:].numel() == 1
    if strided and narrow and input.device.type == "cpu":
        input, weight = plain(input), plain(weight)
    return function(input, weight, bias, stride, *args, **kwargs)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _hard_sigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    value = functional.relu6(input + 3) / 6
    return input.copy_(value) if inplace else value


def plain(tensor: Tensor) -> Tensor:
    """Copies a tensor of any shape into plain layout.

    `contiguous()` would keep the strides of a 1×1 kernel, which oneDNN takes for channels-last.

    Returns:
        The copy.
    """
    return tensor.clone(memory_format=torch.contiguous_format)


def never_alone(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of samples that runs a lone sample beside a copy of itself.

    PyTorch's backward pass of one sample is wrong if batch norm in evaluation mode, or instance
    norm, gets images in one layout and their gradient in the other. With two samples it is right.

    Args:
        function: maps samples (n, ...) to outputs (n, ...), each sample independently.

    Returns:
        The same function, with right gradients.
    """

    def of_two(inputs: Tensor) -> Tensor:
        if len(inputs) != 1:
            return function(inputs)
        return function(torch.cat([inputs, inputs]))[:1]

    return of_two
