"""What is measured on each sample, in chunks, so that memory does not grow with their number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from flatness.errors import NumericalError
from flatness.measures._guard import check_outputs, wrong_gradient
from flatness.measures._jacobians import Network, Rows, backward_rows, parameter_rows
from flatness.measures._layers import Layer, gradient_squares, smallest_singular_values
from flatness.measures._spectra import Spectrum, features, spectrum

#: Memory that the tensors of one chunk may take, in bytes, and its samples: more gain no speed.
CHUNK_BYTES = 160_000_000
CHUNK_SAMPLES = 200
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


def measure_samples(
    network: Network, inputs: Tensor, *, chunk: int | None, smallest: bool
) -> Samples:
    """Measures every sample.

    Args:
        network: from `take_apart`.
        inputs: (n, ...).
        chunk: samples at a time; None chooses by `CHUNK_BYTES` and `CHUNK_SAMPLES`.
        smallest: whether bounds are wanted, so that the patches' singular values are needed.

    Returns:
        The values.

    Raises:
        UserError: samples meet, or a layer's parameters are used outside of it.
        NumericalError: gradients are wrong, or their squares overflow.
    """
    if chunk is None:
        chunk = max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // _bytes_per_sample(network, inputs[0])))
    wanted = [smallest and has_theorem(network, index) for index in range(len(network.layers))]
    parts = []
    checked: set[int] = set()
    for part in inputs.tensor_split(math.ceil(len(inputs) / chunk)):
        rows = backward_rows(network, part)
        if len(part) not in checked:
            network, rows = _trusted(network, part, rows)
            checked.add(len(part))
        parts.append(_measure_chunk(network, part, rows, wanted))
    return Samples(
        **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Samples)}
    )


def _trusted(network: Network, inputs: Tensor, rows: Rows) -> tuple[Network, Rows]:
    """The network in a layout whose gradients are right, and its rows of a chunk."""
    check_outputs(network, inputs, rows)
    error = wrong_gradient(network, inputs, rows)
    if error and network.channels_last:
        network = network.laid_out_plain()
        rows = backward_rows(network, inputs)
        error = wrong_gradient(network, inputs, rows) and error
    if error:
        raise error
    return network, rows


def has_theorem(network: Network, index: int) -> bool:
    """Says whether a layer's patches are of use to a bound that is a theorem.

    Args:
        network: the layers.
        index: of the layer.

    Returns:
        A layer after the first matters only to sums over all layers, so False where one of them,
        by its number of positions, has no bound.
    """
    layers = network.layers
    return all(layer.bounds_jacobian for layer in (layers if index else layers[:1]))


def _bytes_per_sample(network: Network, sample: Tensor) -> int:
    """Bytes of what one sample adds to a chunk, roughly."""
    elements = sample.numel()
    for layer in network.layers:
        elements += 2 * math.prod(layer.input_shape) + 2 * layer.positions * len(layer.weight)
    return 2 * elements * network.outputs * sample.element_size()


def _measure_chunk(network: Network, inputs: Tensor, rows: Rows, wanted: list[bool]) -> Samples:
    spectra = [spectrum(features(seen.input_rows)) for seen in rows.layers]
    first_is_input = _first_is_input(rows, inputs)
    values = {
        **_spectral(spectra[0] if first_is_input else spectrum(features(rows.jacobian))),
        **_squares(network, inputs, rows),
        **_of_layers(network, rows, spectra, wanted),
        "first_is_input": torch.full((len(inputs),), first_is_input),
        "last_is_output": torch.full((len(inputs),), _last_is_output(network, rows)),
    }
    return Samples(
        **{k: v.cpu() if v.dtype == torch.bool else v.cpu().double() for k, v in values.items()}
    )


def _squares(network: Network, inputs: Tensor, rows: Rows) -> dict[str, Tensor]:
    """All sums of squares; in float64 where they leave the range of float32."""
    layers = network.layers
    values = _squares_of(layers, inputs, rows)
    if any(_out_of_range(value) for value in values.values()):
        values = _squares_of([layer.double() for layer in layers], inputs.double(), rows.double())
    values |= _other_parameters(network, inputs)
    for name, value in values.items():
        if not torch.isfinite(value).all():
            raise NumericalError(
                f"{name}: a sum of squares overflows {value.dtype}; scale the weights or inputs "
                "down"
            )
    return values


def _squares_of(layers: Sequence[Layer], inputs: Tensor, rows: Rows) -> dict[str, Tensor]:
    x, jacobian = features(inputs.unsqueeze(0))[0], features(rows.jacobian)
    invariant = (jacobian * x).sum(2).square().sum(0)  # faster than a product with one column
    each = [
        gradient_squares(layer, seen.inputs, seen.output_rows)
        for layer, seen in zip(layers, rows.layers, strict=True)
    ]
    return {
        "invariant": invariant / x.shape[1],
        "input_squared": x.square().sum(1),
        "layer_input_squared": _columns(
            [seen.inputs.flatten(1).square().sum(1) for seen in rows.layers], x
        ),
        "layer_weight_gradient": _columns([squares.weight for squares in each], x),
        "layer_bias_gradient": _columns([squares.bias for squares in each], x),
        "layer_adaptive": _columns([squares.adaptive for squares in each], x),
    }


def _columns(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """One column a layer, (c, L)."""
    return torch.stack(list(parts), dim=1) if parts else like.new_zeros(len(like), 0)


def _out_of_range(squares: Tensor) -> bool:
    """Whether squares have overflowed, or so nearly vanished that some of their terms may have."""
    if squares.dtype != torch.float32:
        return False
    vanishing = (squares > 0) & (squares < SMALLEST_SQUARES)
    return bool((vanishing | ~squares.isfinite()).any())


def _spectral(of_input: Spectrum) -> dict[str, Tensor]:
    """All that follows from the singular values of J."""
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


def _of_layers(
    network: Network, rows: Rows, spectra: list[Spectrum], wanted: list[bool]
) -> dict[str, Tensor]:
    undefined = rows.outputs.new_full((len(rows.outputs),), torch.nan, dtype=torch.float64)
    smallest = [
        smallest_singular_values(layer, seen.inputs) if useful else (undefined, undefined)
        for layer, seen, useful in zip(network.layers, rows.layers, wanted, strict=True)
    ]
    return {
        "layer_mls": _columns([found.values[:, 0] for found in spectra], rows.outputs),
        "layer_log_volume": _columns([found.log_volume for found in spectra], rows.outputs),
        "layer_smallest": _columns([plain for plain, _ in smallest], rows.outputs),
        "layer_smallest_bias": _columns([bias for _, bias in smallest], rows.outputs),
    }


def _other_parameters(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    """Squared gradients by the parameters outside the layers, sample by sample."""
    totals = inputs.new_zeros(2, len(inputs), dtype=torch.float64)
    for index, sample in enumerate(inputs.split(1) if network.others else ()):
        for name, rows in parameter_rows(network, network.others, sample).items():
            squares = rows.double().square().sum(0)
            totals[0, index] += squares.sum()
            totals[1, index] += (squares * network.parameters[name].double().square()).sum()
    return {"others": totals[0], "others_adaptive": totals[1]}


def _first_is_input(rows: Rows, inputs: Tensor) -> bool:
    """Whether x is the first layer's input and reaches the output through it alone."""
    if not rows.layers or rows.layers[0].inputs.numel() != inputs.numel():
        return False
    first = rows.layers[0]
    same_input = torch.equal(first.inputs.reshape(inputs.shape), inputs)
    return same_input and torch.equal(first.input_rows.reshape(rows.jacobian.shape), rows.jacobian)


def _last_is_output(network: Network, rows: Rows) -> bool:
    if not rows.layers or not network.layers[-1].is_dense:
        return False
    count, width = rows.outputs.shape
    units = torch.eye(width).to(rows.outputs).unsqueeze(1).expand(width, count, width)
    return torch.equal(rows.layers[-1].output_rows, units)
