"""The values measured on each sample, in chunks, so that memory does not grow with n."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from flatness.errors import NumericalError, UserError
from flatness.measures._guard import check_outputs, wrong_gradient
from flatness.measures._jacobians import Backward, LayerRows, Rows, parameter_rows
from flatness.measures._layers import (
    Layer,
    QuadraticForms,
    gradient_squares,
    quadratic_forms,
    smallest_singular_values,
)
from flatness.measures._network import Network
from flatness.measures._progress import Bar, bar
from flatness.measures._spectra import Spectrum, features, spectrum

#: Memory of the tensors of one chunk, in bytes, and its samples: more do not make it faster.
CHUNK_BYTES = 160_000_000
CHUNK_SAMPLES = 200
#: Memory that they may take before outputs are computed in blocks.
MEMORY = 1_000_000_000
#: Sums over outputs of squared gradients by a layer's parameters, by their names in `Samples`.
LAYER_SUMS = ("layer_weight_gradient", "layer_bias_gradient", "layer_adaptive")
SUMS = (
    *LAYER_SUMS,
    *("invariant", "input_squared", "layer_input_squared", "others", "others_adaptive"),
)
#: Sums of squares below it are formed in float64: their terms may have underflowed in float32.
SMALLEST_SQUARES = 1e-30


@dataclass(frozen=True)
class Samples:
    """Values of n samples, float64 on the CPU; L layers in order of their calls, N outputs.

    Attributes:
        mls: ||J||_2, (n,).
        jacobian_squared: ||J||_F², (n,).
        local_dimensionality: Tr(C)²/Tr(C²) with C = J Jᵀ; NaN where J = 0, (n,).
        log_volume: log sqrt(det(J Jᵀ)); −inf where the rank is below N, (n,).
        log_volume_top3: log of the product of the three largest singular values, (n,).
        rank: of J, (n,).
        invariant: ||J x||² / numel(x), (n,).
        input_squared: ||x||², (n,).
        others: squared gradient by the parameters outside the layers, (n,).
        others_adaptive: the same, weighted by w_p², (n,).
        layer_mls: ||J_l||_2, (n, L).
        layer_log_volume: log sqrt(det(J_l J_lᵀ)), (n, L).
        layer_input_squared: ||x^l||², (n, L).
        layer_smallest: σ_P of the layer's patches, (n, L).
        layer_smallest_bias: the same with a row of ones where the layer has a bias, (n, L).
        layer_weight_gradient: ||∂f/∂W_l||_F², (n, L).
        layer_bias_gradient: ||∂f/∂b_l||_F², (n, L).
        layer_adaptive: Σ_p w_p² Σ_k (∂f_k/∂w_p)² over the layer, (n, L).
        first_is_input: whether x reaches the output through the first layer alone, and is its
            input unchanged, (n,) bool.
        last_is_output: whether the output is that of the last layer, (n,) bool.
    """

    mls: Tensor
    jacobian_squared: Tensor
    local_dimensionality: Tensor
    log_volume: Tensor
    log_volume_top3: Tensor
    rank: Tensor
    invariant: Tensor
    input_squared: Tensor
    others: Tensor
    others_adaptive: Tensor
    layer_mls: Tensor
    layer_log_volume: Tensor
    layer_input_squared: Tensor
    layer_smallest: Tensor
    layer_smallest_bias: Tensor
    layer_weight_gradient: Tensor
    layer_bias_gradient: Tensor
    layer_adaptive: Tensor
    first_is_input: Tensor
    last_is_output: Tensor

    def __len__(self) -> int:
        return len(self.mls)

    @property
    def squared_gradient(self) -> Tensor:
        """||∂f/∂θ||_F², by all parameters, (n,)."""
        return (self.layer_weight_gradient + self.layer_bias_gradient).sum(1) + self.others


@dataclass(frozen=True)
class _Plan:
    """How the work is cut so that memory suffices.

    Attributes:
        samples: in a chunk.
        outputs: whose rows are formed at a time.
        groups: layers, by their places, whose Jacobians are held at a time.
    """

    samples: int
    outputs: int
    groups: list[list[int]]


def measure_samples(
    network: Network,
    inputs: Tensor,
    *,
    chunk: int | None,
    memory: float,
    layered: bool,
    smallest: bool,
) -> Samples:
    """Measures every sample.

    Args:
        network: from `take_apart`.
        inputs: (n, ...).
        chunk: samples at a time; None chooses.
        memory: bytes that the tensors of a chunk may take.
        layered: whether the singular values of the layers' Jacobians are wanted.
        smallest: whether bounds are wanted, so that the patches' singular values are needed.

    Returns:
        The values.

    Raises:
        UserError: samples mix, a layer's parameters are used outside of it, or there is too little
            memory.
        NumericalError: gradients are wrong, or their squares overflow.
    """
    plan = _plan(network, inputs, chunk, memory)
    wanted = [smallest and has_theorem(network, index) for index in range(len(network.layers))]
    parts = []
    checked: set[int] = set()
    with bar(len(inputs) * len(plan.groups) * network.outputs, "measuring") as progress:
        for part in inputs.tensor_split(math.ceil(len(inputs) / plan.samples)):
            backward = Backward(network, part, plan.outputs)
            if len(part) not in checked:
                network, backward = _trusted(network, part, backward, plan.outputs)
                checked.add(len(part))
            parts.append(_measure_chunk(network, part, backward, plan, wanted, layered, progress))
    return Samples(
        **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Samples)}
    )


def _plan(network: Network, inputs: Tensor, chunk: int | None, memory: float) -> _Plan:
    """All outputs and layers at once if a sample fits; else blocks of outputs, groups of layers.

    In blocks, a third of the memory is for stored Jacobians, a third for the rows of a block, and a
    third for the copies that a decomposition makes.

    Returns:
        The plan.

    Raises:
        UserError: the widest layer alone needs more.
    """
    every = list(range(len(network.layers)))
    row = _bytes_per_row(network, inputs[0])
    sample = row * network.outputs
    samples = chunk or max(1, min(CHUNK_SAMPLES, int(min(CHUNK_BYTES, memory)) // sample))
    if min(samples, len(inputs)) * sample <= memory:
        return _Plan(samples, network.outputs, [every])
    widths = [math.prod(layer.input_shape) for layer in network.layers]
    each = network.outputs * inputs.element_size()  # bytes of a Jacobian's column
    largest = max(inputs[0].numel(), *widths) * each
    share = memory / 3
    samples = chunk or 1  # a lone sample runs beside a copy of itself
    if samples * largest > share:
        raise UserError(
            f"memory is {memory:.3g} bytes; the Jacobian of {network.outputs} outputs takes "
            f"{samples * largest:.3g} in the widest layer, and three times as much is needed"
        )
    groups: list[list[int]] = [[]]
    held = inputs[0].numel()  # J is held with the first group
    for place, width in zip(every, widths, strict=True):
        if groups[-1] and (held + width) * each * samples > share:
            groups.append([])
            held = 0
        groups[-1].append(place)
        held += width
    return _Plan(samples, min(network.outputs, max(2, int(share // (row * samples)))), groups)


def _trusted(
    network: Network, inputs: Tensor, backward: Backward, block: int
) -> tuple[Network, Backward]:
    """The network in a layout with right gradients, and its rows of a chunk."""
    check_outputs(network, inputs, backward)
    error = wrong_gradient(network, inputs, backward, block)
    if error and network.channels_last:
        network = network.laid_out_plain()
        backward = Backward(network, inputs, block)
        error = wrong_gradient(network, inputs, backward, block) and error
    if error:
        raise error
    return network, backward


def has_theorem(network: Network, index: int) -> bool:
    """Says whether a bound that is a theorem can use a layer's patches.

    Args:
        network: the layers.
        index: of the layer.

    Returns:
        Whether it can. Layers after the first matter only for sums over all layers, so the result
        is False for them if any layer has too many positions for a bound.
    """
    layers = network.layers
    return all(layer.bounds_jacobian for layer in (layers if index else layers[:1]))


def _bytes_per_row(network: Network, sample: Tensor) -> int:
    """Bytes of what one output of one sample adds to a chunk, roughly."""
    elements = sample.numel()
    for layer in network.layers:
        elements += 2 * math.prod(layer.input_shape) + 2 * layer.positions * len(layer.weight)
    return 2 * elements * sample.element_size()


def _measure_chunk(
    network: Network,
    inputs: Tensor,
    backward: Backward,
    plan: _Plan,
    wanted: list[bool],
    layered: bool,
    progress: Bar,
) -> Samples:
    found = _Found(network, inputs, layered=layered)
    for index, group in enumerate(plan.groups):
        by_input = index == 0
        for rows in backward(group):
            found.add(rows, group, by_input=by_input)
            progress.update(len(inputs) * (rows.block.stop - rows.block.start))
        found.decompose(group, by_input=by_input)
    values = {
        **_spectral(found.spectrum),
        **_input_squares(inputs, found),
        **found.sums,
        **_other_parameters(network, inputs, plan.outputs),
        **_of_layers(network, found, wanted),
        "first_is_input": torch.full((len(inputs),), found.first_is_input),
        "last_is_output": torch.full((len(inputs),), found.last_is_output),
    }
    for name in SUMS:
        if not torch.isfinite(values[name]).all():
            raise NumericalError(
                f"{name}: a sum of squares overflows {values[name].dtype}; scale the weights or "
                "inputs down"
            )
    return Samples(
        **{k: v.cpu() if v.dtype == torch.bool else v.cpu().double() for k, v in values.items()}
    )


class _Found:
    """Sums over the rows of a chunk of c samples, block by block of outputs.

    Attributes:
        spectrum: of J.
        spectra: of each J_l, if wanted.
        inputs: x^l of each layer, (c, ...).
        sums: sums of squares over the outputs, by their names in `Samples`.
        first_is_input: see `Samples`.
        last_is_output: see `Samples`.
    """

    spectrum: Spectrum

    def __init__(self, network: Network, inputs: Tensor, *, layered: bool) -> None:
        self._network = network
        self._layered = layered
        self._x = inputs
        self._jacobian: list[Tensor] = []
        self._jacobians: dict[int, list[Tensor]] = {p: [] for p in range(len(network.layers))}
        self._forms: dict[int, QuadraticForms | None] = {}
        zeros = inputs.new_zeros(len(inputs), len(network.layers), dtype=torch.float64)
        self.sums = {name: zeros.clone() for name in LAYER_SUMS}
        self.sums["invariant"] = inputs.new_zeros(len(inputs), dtype=torch.float64)
        self.spectra: dict[int, Spectrum] = {}
        self.inputs: dict[int, Tensor] = {}
        self.first_is_input = bool(network.layers)
        self.last_is_output = bool(network.layers) and network.layers[-1].is_dense

    def add(self, rows: Rows, group: Sequence[int], *, by_input: bool) -> None:
        """Adds a block of outputs, for a group of layers, and for x itself if asked."""
        if by_input:
            self._jacobian.append(features(rows.jacobian))
            self.sums["invariant"] += _in_range(partial(_invariant, self._x, rows))
            self.first_is_input = self.first_is_input and _first_is_input(rows, self._x)
        for place in group:
            seen = rows.layers[place]
            self.inputs[place] = seen.inputs
            if self._layered:
                self._jacobians[place].append(features(seen.input_rows))
            layer = self._network.layers[place]
            if place not in self._forms:
                self._forms[place] = quadratic_forms(layer, seen.inputs, self._network.outputs)
            squares = _in_range(partial(_gradient, layer, seen, self._forms[place]))
            for name, values in zip(LAYER_SUMS, squares, strict=True):
                self.sums[name][:, place] += values
        last = len(self._network.layers) - 1
        if last in group:
            self.last_is_output &= _is_output(rows, last, self._network.outputs)

    def decompose(self, group: Sequence[int], *, by_input: bool) -> None:
        """Computes the singular values after all outputs were added."""
        for place in group:
            if self._layered:
                self.spectra[place] = spectrum(_joined(self._jacobians.pop(place)))
            self._forms.pop(place)
        if by_input:
            jacobian, self._jacobian = self._jacobian, []
            shared = self.first_is_input and self._layered
            self.spectrum = self.spectra[0] if shared else spectrum(_joined(jacobian))


def _joined(blocks: list[Tensor]) -> Tensor:
    """Blocks of outputs (K, c, d) joined; a single one unchanged."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _in_range(squares: Callable[..., Tensor]) -> Tensor:
    """Sums of squares in float64, also computed in float64 if they leave the range of float32."""
    values = squares(double=False)
    return squares(double=True) if _out_of_range(values) else values.double()


def _invariant(inputs: Tensor, rows: Rows, *, double: bool) -> Tensor:
    """||J x||² / numel(x) for some outputs, (c,)."""
    x, jacobian = features(inputs.unsqueeze(0))[0], features(rows.jacobian)
    if double:
        x, jacobian = x.double(), jacobian.double()
    # faster than a product with one column
    return (jacobian * x).sum(2).square().sum(0) / x.shape[1]


def _gradient(
    layer: Layer, seen: LayerRows, forms: QuadraticForms | None, *, double: bool
) -> Tensor:
    """Squared gradients by a layer's weight, by its bias, and both weighted by w_p², (3, c)."""
    if double:
        layer, seen, forms = layer.double(), seen.double(), None
    squares = gradient_squares(layer, seen.inputs, seen.output_rows, forms)
    return torch.stack([squares.weight, squares.bias, squares.adaptive])


def _input_squares(inputs: Tensor, found: _Found) -> dict[str, Tensor]:
    each = [_in_range(partial(_square, found.inputs[place])) for place in sorted(found.inputs)]
    return {
        "input_squared": _in_range(partial(_square, features(inputs.unsqueeze(0))[0])),
        "layer_input_squared": _columns(each, inputs),
    }


def _square(x: Tensor, *, double: bool) -> Tensor:
    """||x||² of each sample, (c,)."""
    return (x.double() if double else x).flatten(1).square().sum(1)


def _columns(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """One column per layer, (c, L)."""
    return torch.stack(list(parts), dim=1) if parts else like.new_zeros(len(like), 0)


def _out_of_range(squares: Tensor) -> bool:
    """Whether squares overflow, or are so small that some of their terms may underflow."""
    if squares.dtype != torch.float32:
        return False
    vanishing = (squares > 0) & (squares < SMALLEST_SQUARES)
    return bool((vanishing | ~squares.isfinite()).any())


def _spectral(of_input: Spectrum) -> dict[str, Tensor]:
    """All values that follow from the singular values of J."""
    values = of_input.values
    squares = (values / values[:, :1]).square()
    top = min(3, values.shape[1])
    volume = torch.where(of_input.rank >= top, values[:, :top].log().sum(1), -torch.inf)
    return {
        "mls": values[:, 0],
        "jacobian_squared": values.square().sum(1),
        "local_dimensionality": squares.sum(1).square() / squares.square().sum(1),
        "log_volume": of_input.log_volume,
        "log_volume_top3": volume,
        "rank": of_input.rank,
    }


def _of_layers(network: Network, found: _Found, wanted: list[bool]) -> dict[str, Tensor]:
    count = len(found.sums["invariant"])
    undefined = found.sums["invariant"].new_full((count,), torch.nan)
    smallest = [
        smallest_singular_values(layer, found.inputs[place]) if useful else (undefined, undefined)
        for place, (layer, useful) in enumerate(zip(network.layers, wanted, strict=True))
    ]
    spectra = [found.spectra.get(place) for place in range(len(network.layers))]
    return {
        "layer_mls": _columns([s.values[:, 0] if s else undefined for s in spectra], undefined),
        "layer_log_volume": _columns(
            [s.log_volume if s else undefined for s in spectra], undefined
        ),
        "layer_smallest": _columns([plain for plain, _ in smallest], undefined),
        "layer_smallest_bias": _columns([bias for _, bias in smallest], undefined),
    }


def _other_parameters(network: Network, inputs: Tensor, block: int) -> dict[str, Tensor]:
    """Squared gradients by the parameters outside the layers, sample by sample."""
    totals = inputs.new_zeros(2, len(inputs), dtype=torch.float64)
    for index, sample in enumerate(inputs.split(1) if network.others else ()):
        for _, found in parameter_rows(network, network.others, sample, block):
            for name, rows in found.items():
                squares = rows.double().square().sum(0)
                totals[0, index] += squares.sum()
                totals[1, index] += (squares * network.parameters[name].double().square()).sum()
    return {"others": totals[0], "others_adaptive": totals[1]}


def _first_is_input(rows: Rows, inputs: Tensor) -> bool:
    """Whether x is the first layer's input and reaches the outputs of a block through it alone."""
    first = rows.layers[0]
    if first.inputs.numel() != inputs.numel():
        return False
    same_input = torch.equal(first.inputs.reshape(inputs.shape), inputs)
    return same_input and torch.equal(first.input_rows.reshape(rows.jacobian.shape), rows.jacobian)


def _is_output(rows: Rows, last: int, outputs: int) -> bool:
    """Whether the outputs of a block are those of the last layer."""
    seen = rows.layers[last].output_rows
    if seen.shape[2:] != (outputs,):
        return False
    units = torch.eye(outputs)[rows.block].to(seen)
    return torch.equal(seen, units.unsqueeze(1).expand_as(seen))
