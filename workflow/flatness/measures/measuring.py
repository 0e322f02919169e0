"""The context of the public calls: it restores the model, and reports failures in one line."""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flatness.errors import UserError
from flatness.measures._checks import check_parameters, first_line
from flatness.measures.workarounds import mended


class _Forgetful(dict):
    """A cache that never contains a value, so every value is computed again."""

    def __contains__(self, key: object) -> bool:
        return False


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """The context of a public call: it restores the model and reports failures in one line.

    Buffers, modes and attributes of the modules and the global random generators are restored.
    Gradients are on, whatever the caller has set. Autocast and `torch.compile` are off. Attention
    uses its plain kernel, the only one with a second derivative.

    Args:
        model: the measured model.

    Raises:
        UserError: the model, or a loss given with it, fails; or it is not a module, or has
            parameters that cannot be measured.
        NumericalError: a parameter is not finite.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the model is a {type(model).__name__}; pass a torch.nn.Module")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(mended())
        for device in {p.device.type for p in model.parameters()} & {"cpu", "cuda"}:
            stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it is slow
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            _refuse_wrappers(model)
            check_parameters(model)
            stack.enter_context(_left_as_it_was(model))
            stack.enter_context(without_bias_caches(model))
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{type(model).__name__} cannot be measured: {first_line(error)}"
            ) from error


def _refuse_wrappers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule | nn.DataParallel):
            raise UserError(
                f"module {name or 'model'} is a {type(module).__name__}, whose parameters cannot "
                "be replaced; pass the original module"
            )


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    modules = [(m, vars(m).copy(), m._buffers.copy()) for m in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    numbers = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        for module, attributes, own in modules:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(own)
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)


@contextmanager
def without_bias_caches(model: nn.Module) -> Iterator[None]:
    """Keeps timm's attention from using biases of earlier parameters.

    In evaluation mode, LeViT, EfficientViT, EfficientFormer and TinyViT keep biases that they
    computed from their parameters in `attention_bias_cache`. With other parameters they would use
    the old biases, and the gradient with respect to the parameters would be zero.

    Args:
        model: any module; its caches are restored.
    """
    caching = [m for m in model.modules() if hasattr(m, "attention_bias_cache")]
    kept = [module.attention_bias_cache for module in caching]
    for module in caching:
        vars(module)["attention_bias_cache"] = _Forgetful()
    try:
        yield
    finally:
        for module, cache in zip(caching, kept, strict=True):
            module.attention_bias_cache = cache
