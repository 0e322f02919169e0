"""A module as a function of its parameters."""

from collections.abc import Mapping
from itertools import chain

import torch.func
from torch import Tensor, nn

NO_HOOKS = "the model uses torch.utils.checkpoint, or other hooks on saved tensors; switch them off"


def functional_call(module: nn.Module, tensors: Mapping[str, Tensor], args: tuple) -> Tensor:
    """Runs a module with other parameters or buffers.

    PyTorch's function of this name swaps the tensors of a module with two names twice, so the
    module keeps the given tensors instead of its own parameters (PyTorch 2.15). Here every place
    that holds a tensor has one name.

    Nothing may be recomputed in the backward pass, as `torch.utils.checkpoint` does: by then the
    module has its own parameters again, and the gradient would be wrong.

    Args:
        module: left as it was.
        tensors: by the names of `named_parameters()` and `named_buffers()`; a tensor that is held
            in several places has one name and is replaced in all of them.
        args: its arguments.

    Returns:
        Its outputs.
    """
    named = chain(module.named_parameters(), module.named_buffers())
    names = {id(tensor): name for name, tensor in named if name in tensors}
    places = {
        f"{prefix}.{name}".removeprefix("."): tensors[names[id(tensor)]]
        for prefix, part in module.named_modules()
        for name, tensor in chain(part._parameters.items(), part._buffers.items())
        if id(tensor) in names
    }
    with torch.autograd.graph.disable_saved_tensors_hooks(NO_HOOKS):
        return torch.func.functional_call(module, places, args, tie_weights=False)
