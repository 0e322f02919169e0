"""Sharpness, compression and the bounds between them, for any network and any batch.

`measure(model, inputs)["sharpness"]` is an `Estimate` with `value` and `standard_error`.

Measured with `python -m benchmarks.measures` (CPU seconds, one thread of two cores of an AMD EPYC
shared with other work, Python 3.11, PyTorch 2.15, float32). All quantities at n = 20 take 20 ms for
the MLP, 36 ms for LeNet-5 and 76 ms for VGG-11; with one `autograd.grad` per output, layer and
sample, and spectral norms per sample, they take 2.0 s, 0.42 s and 0.61 s. Sharpness, MLS, NMLS and
local dimensionality of the MLP on 60,000 samples: 23 s and 1.3 to 1.5 GB, linear in n.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flatness.errors import UserError
from flatness.measures._checks import (
    check_inputs,
    check_targets,
    require_counts,
    require_positive,
)
from flatness.measures._intake import in_single_precision, joined, picking
from flatness.measures._layers import operator_norm
from flatness.measures._network import Network, take_apart
from flatness.measures._repeatable import require_function_of_one_sample
from flatness.measures._samples import MEMORY, Samples, has_theorem, measure_samples
from flatness.measures.average_case import average_case_sharpness_sampled
from flatness.measures.bounds import (
    bounds_by_input,
    bounds_by_layers,
    stretches,
    volume_bound_by_jacobian,
)
from flatness.measures.definitions import OF_ALL, OF_LAYERS, relative_flatness
from flatness.measures.estimates import UNDEFINED, Estimate, log_mean_exp, mean
from flatness.measures.measuring import measuring
from flatness.measures.quantities import BOUND_NAMES, QUANTITIES

__all__ = ["QUANTITIES", "Estimate", "Measurements", "measure"]

SAMPLED = "average_case_sharpness_sampled"
#: What needs the layers' Jacobians, and what needs gradients by parameters or layers at all.
BY_LAYERS = {"nmls", "log_nvr"} | BOUND_NAMES
BY_PARAMETERS = BY_LAYERS | {"sharpness", "average_case_sharpness", "relative_flatness"}


@dataclass(frozen=True)
class Measurements(Mapping[str, Estimate]):
    """The result: a mapping from a quantity's name to its value and standard error.

    Attributes:
        estimates: the same mapping; NaN if a quantity is not defined, see `flags`.
        samples: the values of each sample and layer behind the estimates. Values that no estimate
            needed are NaN, or have no column.
        layers: names of the layers, in the order of `samples`' layer columns.
        norms: ||W_l||_2 of each layer, (L,); NaN where no bound needed it.
        flags: remarks that a reader of the numbers needs, one sentence each.
    """

    estimates: dict[str, Estimate]
    samples: Samples
    layers: tuple[str, ...]
    norms: Float[Tensor, " L"]
    flags: tuple[str, ...]

    def __getitem__(self, name: str) -> Estimate:
        try:
            return self.estimates[name]
        except KeyError:
            cause = "; it needs targets" if name == SAMPLED else ""
            raise KeyError(
                f"no {name!r} here{cause}; there are {', '.join(self.estimates)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def __len__(self) -> int:
        return len(self.estimates)

    @property
    def per_layer(self) -> dict[str, dict[str, Estimate]]:
        """Each layer's share of the sums over layers, by layer and quantity."""
        s = self.samples
        gradient = s.layer_weight_gradient + s.layer_bias_gradient
        return {
            name: {
                "sharpness": mean(gradient[:, index]),
                "nmls": mean(s.layer_mls[:, index]),
                "log_nvr": log_mean_exp(s.layer_log_volume[:, index]),
                "average_case_sharpness": mean(s.layer_adaptive[:, index] / 2),
            }
            for index, name in enumerate(self.layers)
        }


def measure(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."] | Iterable[Any],
    targets: Float[Tensor, "n N"] | None = None,
    *,
    quantities: Collection[str] | None = None,
    outputs: Callable[[Any], Tensor] | None = None,
    chunk: int | None = None,
    memory: float = MEMORY,
    rho: float = 0.1,
    pairs: int = 50,
    seed: int = 0,
) -> Measurements:
    """Measures a model on samples.

    Parameters of linear and convolutional layers take the fast path; all others take one backward
    pass per sample. All parameters count, including frozen ones. The model's parameters, buffers
    and modes and the global random generators are left as they were. For the equations, see
    `flatness.measures.quantities` and `flatness.measures.bounds`.

    Args:
        model: maps (n, ...) to (n, N); in evaluation mode if that matters to it.
        inputs: samples, (n, ...), of the parameters' floating-point type; or batches of them, such
            as a DataLoader's: tensors, or tuples that begin with one.
        targets: (n, N), of the same type, one-hot rows for classes; only for
            `average_case_sharpness_sampled`, and not with batches.
        quantities: names of the wanted quantities; None for all. Operator norms are computed only
            for bounds.
        outputs: picks the tensor (n, N) from what the model returns, such as a dictionary.
        chunk: samples at a time; None chooses by memory.
        memory: bytes that the tensors of a chunk may take, 1e9 by default. If they would take more,
            outputs are computed in blocks, which takes more backward passes.
        rho: ρ of the sampled average-case sharpness.
        pairs: its pairs of perturbations.
        seed: of its perturbations.

    Returns:
        The measurements.

    Raises:
        UserError: a wrong argument, or a model that cannot be measured correctly.
        NumericalError: a parameter, an input or an output is not finite.
    """
    if targets is not None and not isinstance(inputs, Tensor):
        raise UserError("targets go with inputs in a tensor, not with batches; join both first")
    model, note = in_single_precision(model)
    with measuring(model), picking(model, outputs):
        wanted = _wanted(quantities, targets)
        require_counts(chunk=1 if chunk is None else chunk, pairs=pairs)
        require_positive(rho=rho, memory=memory)
        given = joined(inputs)
        if note and isinstance(given, Tensor):
            given, targets = given.float(), None if targets is None else targets.float()
        inputs = check_inputs(model, given)
        require_function_of_one_sample(model, inputs)
        network = take_apart(model, inputs[:1], with_layers=bool(wanted & BY_PARAMETERS))
        sampled: dict[str, Callable[[], Estimate]] = {}
        if targets is not None:
            targets = check_targets(model, targets, (len(inputs), network.outputs))
            how = {"rho": rho, "pairs": pairs, "seed": seed, "chunk": chunk or 1000}
            sampled[SAMPLED] = lambda: (
                average_case_sharpness_sampled(model, inputs, targets, **how).estimate
            )
        samples = measure_samples(
            network,
            inputs,
            chunk=chunk,
            memory=memory,
            layered=bool(wanted & BY_LAYERS),
            smallest=bool(wanted & BOUND_NAMES),
        )
        return _estimate(network, samples, wanted, sampled, note)


def _estimate(
    network: Network,
    samples: Samples,
    wanted: set[str],
    sampled: dict[str, Callable[[], Estimate]],
    note: str,
) -> Measurements:
    """Estimates the wanted quantities; `sampled` computes the one that needs sampling."""
    bounded = bool(wanted & BOUND_NAMES)
    norms = _norms(network, bounded)
    makers = _measures(network, samples) | sampled
    if bounded and network.layers:
        makers |= _bounds(network, samples, norms)
    estimates = {n: makers[n]() if n in makers else UNDEFINED for n in QUANTITIES if n in wanted}
    layers = tuple(layer.name for layer in network.layers)
    flags = ((note,) if note else ()) + _flags(network, samples, wanted)
    return Measurements(estimates, samples, layers, norms, flags)


def _wanted(quantities: Collection[str] | None, targets: Tensor | None) -> set[str]:
    if isinstance(quantities, str):
        raise UserError(f"quantities is {quantities!r}; pass a list of names")
    wanted = set(QUANTITIES) if quantities is None else set(quantities)
    unknown = wanted - set(QUANTITIES)
    if unknown:
        raise UserError(
            f"quantities: no {', '.join(sorted(unknown))}; there are {', '.join(QUANTITIES)}"
        )
    if targets is None and quantities is not None and SAMPLED in wanted:
        raise UserError(f"{SAMPLED} needs targets, one row of N numbers a sample")
    return wanted if targets is not None else wanted - {SAMPLED}


def _norms(network: Network, bounded: bool) -> Tensor:
    """||W_l||_2 of linear layers, and of convolutions if a theorem uses it."""
    norms = torch.full((len(network.layers),), torch.nan, dtype=torch.float64)
    for index, layer in enumerate(network.layers if bounded else ()):
        if has_theorem(network, index) or isinstance(layer.module, nn.Linear):
            norms[index] = operator_norm(layer)
    return norms


def _measures(network: Network, samples: Samples) -> dict[str, Callable[[], Estimate]]:
    complete = network.layers and not network.incomplete
    makers = {
        quantity.__name__: partial(quantity, samples)
        for quantity in OF_ALL + (OF_LAYERS if complete else ())
    }
    makers["log_lvr_bound_jacobian"] = partial(
        volume_bound_by_jacobian, samples.jacobian_squared, network.outputs
    )
    if samples.last_is_output.all():
        squared = float(network.layers[-1].weight.double().square().sum())
        makers["relative_flatness"] = partial(relative_flatness, samples, squared)
    return makers


def _bounds(network: Network, samples: Samples, norms: Tensor) -> dict[str, Callable[[], Estimate]]:
    found: dict[str, Callable[[], Estimate]] = {}
    complete = not network.incomplete
    for stretch in stretches(samples, network.layers, norms):
        found |= bounds_by_input(samples, stretch, network.outputs)
        found |= bounds_by_layers(samples, stretch, network.outputs, complete=complete)
    return found


def _few(names: Collection[str]) -> str:
    """Names, the first three of many."""
    some, rest = list(names)[:3], len(names) - 3
    return ", ".join(some) + (f" and {rest} more" if rest > 0 else "")


def _flags(network: Network, samples: Samples, wanted: set[str]) -> tuple[str, ...]:
    n = len(samples)
    dead = int((samples.mls == 0).sum())
    empty = int((samples.input_squared == 0).sum())
    silent = ", ".join(
        layer.name
        for layer, column in zip(network.layers[1:], samples.layer_smallest.T[1:], strict=True)
        if (column == 0).any()
    )
    low = int((samples.rank < network.outputs).sum())
    crowded = ", ".join(layer.name for layer in network.layers if not layer.bounds_jacobian)
    flags = {
        "one sample: standard errors are not defined": n == 1,
        f"{dead} of {n} samples have J = 0: local dimensionality is not defined": dead > 0,
        f"{empty} of {n} samples are zero: the bounds that divide by ||x|| are infinite": empty > 0,
        "the bounds on NMLS and NVR are infinite, some sample's input is zero at layer: "
        + silent: (silent),
        "NMLS, NVR and their bounds are not defined: " + network.incomplete: network.incomplete,
        "MLS and LVR bounds are not defined: x is not the first layer's input": (
            wanted & BOUND_NAMES and not samples.first_is_input.all()
        ),
        "theorems not defined, more positions than numbers in a patch, in layer: "
        + crowded: crowded,
        "relative flatness is not defined: the output is not a linear layer's": (
            "relative_flatness" in wanted and not samples.last_is_output.all()
        ),
        f"{low} of {n} samples have a Jacobian of rank below {network.outputs}: their volume is 0, "
        "its logarithm −inf": low > 0,
        f"parameters outside of linear and convolutional layers: {_few(network.others)}; these "
        "take a backward pass a sample": network.others,
    }
    return tuple(text for text, applies in flags.items() if applies)
