"""A stack of two-layer graph attention networks that share one graph.

Each model equals torch_geometric.nn.GAT(words, 8, num_layers=2, out_channels=7, dropout=0.6,
act="elu") with one head, parameter names included. Only nodes on which the requested outputs depend
are computed, and one product of the sparse word matrix with the first weights serves all models.
Tensors are node-major, (nodes or edges, M, channels), so that gathered rows are contiguous.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flatness.measures.ascent import Parameters

HIDDEN = 8
DROPOUT = 0.6
NEGATIVE_SLOPE = 0.2


@dataclass(frozen=True)
class Hop:
    """The edges into some nodes, self-loops included, sorted by target.

    Attributes:
        source: (E,) position of each edge's source among the layer's input nodes.
        target: (E,) position of its target among the output nodes, ascending.
        own: (outputs,) position of each output node among the input nodes.
    """

    source: Tensor
    target: Tensor
    own: Tensor


@dataclass(frozen=True)
class Receptive:
    """The part of a graph on which the outputs of some nodes depend.

    Attributes:
        words: sparse CSR (inputs, words), features of the nodes within two hops.
        words_transposed: the same, (words, inputs).
        hops: edges of the first and second layer.
    """

    words: Tensor
    words_transposed: Tensor
    hops: tuple[Hop, Hop]


def receptive(features: Tensor, edge_index: Tensor, nodes: Tensor, dtype: torch.dtype) -> Receptive:
    """Extracts the part of a graph on which the outputs of `nodes` depend.

    Args:
        features: (n, words), any numeric type; stored sparse.
        edge_index: int64 (2, edges), source above target; self-loops are replaced.
        nodes: int64 (outputs,), distinct, in the order of the outputs.
        dtype: of the features.

    Returns:
        The part of the graph.
    """
    second, middle = _hop(edge_index, nodes, len(features))
    first, inputs = _hop(edge_index, middle, len(features))
    words = features[inputs].to(dtype)
    with warnings.catch_warnings():
        # PyTorch warns that sparse CSR is in beta, once in every job's log.
        warnings.simplefilter("ignore", UserWarning)
        sparse, transposed = words.to_sparse_csr(), words.t().to_sparse_csr()
    return Receptive(sparse, transposed, (first, second))


def _hop(edge_index: Tensor, outputs: Tensor, nodes: int) -> tuple[Hop, Tensor]:
    """Edges into `outputs`, and the distinct nodes they come from."""
    position = outputs.new_full((nodes,), -1)
    position[outputs] = torch.arange(len(outputs), device=outputs.device)
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    wanted = position[target] >= 0
    source = torch.cat([source[wanted], outputs])
    target = torch.cat([position[target[wanted]], position[outputs]])
    order = torch.argsort(target, stable=True)
    inputs, inverse = torch.unique(source[order], return_inverse=True)
    return Hop(inverse, target[order], torch.searchsorted(inputs, outputs)), inputs


class _SharedProduct(torch.autograd.Function):
    """Constant sparse matrix times dense weights; its own derivative would transpose each time."""

    @staticmethod
    def forward(ctx, weights: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = matrix, transposed
        return matrix @ weights

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _SharedProduct.apply(gradient.contiguous(), transposed, matrix), None, None


def initial_gat(words: int, classes: int, generator: torch.Generator) -> Parameters:
    """Fresh parameters of one model: Xavier-uniform weights, as PyG draws them, and zero biases.

    Args:
        words: input features.
        classes: outputs.
        generator: source of randomness.

    Returns:
        Parameters without a stack dimension, named as in PyG.
    """
    parameters = {}
    for layer, (inputs, outputs) in enumerate([(words, HIDDEN), (HIDDEN, classes)]):
        shapes = {
            "att_src": (1, 1, outputs),
            "att_dst": (1, 1, outputs),
            "lin.weight": (outputs, inputs),
        }
        for name, shape in shapes.items():
            bound = (6 / (shape[-2] + shape[-1])) ** 0.5
            values = torch.rand(shape, generator=generator, dtype=torch.float64)
            parameters[f"convs.{layer}.{name}"] = (2 * values - 1).mul(bound).float()
        parameters[f"convs.{layer}.bias"] = torch.zeros(outputs)
    return parameters


def gat_log_probabilities(
    parameters: Parameters, graph: Receptive, generators: Sequence[torch.Generator] | None = None
) -> Tensor:
    """Log-probabilities of the classes at the graph's output nodes.

    Args:
        parameters: stacked, named as in PyG.
        graph: the part of the graph to compute.
        generators: one per model, for dropout on attention and hidden features; None switches it
            off.

    Returns:
        (outputs, M, classes).
    """
    weights = parameters["convs.0.lin.weight"]
    models = weights.shape[0]
    side_by_side = weights.permute(2, 0, 1).reshape(weights.shape[2], -1)
    product = _SharedProduct.apply(side_by_side, graph.words, graph.words_transposed)
    hidden = product.view(-1, models, HIDDEN)
    masks = _dropout_masks(graph.hops, generators, hidden) if generators else (None, None, None)
    hidden = functional.elu(attend(parameters, "convs.0", hidden, graph.hops[0], masks[0]))
    if generators:
        hidden = hidden * masks[1]
    hidden = torch.einsum("nmc,mkc->nmk", hidden, parameters["convs.1.lin.weight"])
    return attend(parameters, "convs.1", hidden, graph.hops[1], masks[2]).log_softmax(-1)


def attend(
    parameters: Parameters, layer: str, values: Tensor, hop: Hop, mask: Tensor | None
) -> Tensor:
    """One head of attention over a hop, as PyTorch Geometric's GATConv.

    Args:
        parameters: of M models, (M, ...).
        layer: name of the convolution, as "convs.0".
        values: of the hop's inputs, (inputs, M, C).
        hop: its edges.
        mask: dropout of the attention, (E, M); None for none.

    Returns:
        (outputs, M, C).
    """
    outgoing, incoming = (
        (values * parameters[f"{layer}.{name}"][:, 0, 0]).sum(-1) for name in ("att_src", "att_dst")
    )
    logits = outgoing.index_select(0, hop.source) + incoming[hop.own].index_select(0, hop.target)
    attention = _softmax_by_target(functional.leaky_relu(logits, NEGATIVE_SLOPE), hop)
    if mask is not None:
        attention = attention * mask
    messages = attention[..., None] * values.index_select(0, hop.source)
    outputs = values.new_zeros(len(hop.own), *values.shape[1:])
    return outputs.index_add(0, hop.target, messages) + parameters[f"{layer}.bias"]


def _softmax_by_target(logits: Tensor, hop: Hop) -> Tensor:
    """Softmax over the edges into each node, (E, M)."""
    shape = (len(hop.own), logits.shape[1])
    index = hop.target[:, None].expand_as(logits)
    highest = logits.new_empty(shape).scatter_reduce(
        0, index, logits.detach(), "amax", include_self=False
    )
    exponentials = (logits - highest.index_select(0, hop.target)).exp()
    total = logits.new_zeros(shape).index_add(0, hop.target, exponentials)
    return exponentials / (total.index_select(0, hop.target) + 1e-16)


def _dropout_masks(
    hops: tuple[Hop, Hop], generators: Sequence[torch.Generator], like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws the scaled keep-masks of dropout.

    Each model has its own generator, so its masks are the same in any stack.

    Returns:
        Masks of the first attention (E, M), hidden (outputs, M, 8), second attention (E, M).
    """
    sizes = [len(hops[0].source), len(hops[0].own) * HIDDEN, len(hops[1].source)]
    draws = torch.stack([torch.rand(sum(sizes), generator=one) for one in generators], dim=1)
    masks = (draws >= DROPOUT).to(like) / (1 - DROPOUT)
    first, hidden, second = masks.split(sizes)
    return first, hidden.view(-1, HIDDEN, len(generators)).transpose(1, 2), second
