"""Jacobians of a graph attention network's output at a node, for a stack of models at once.

The output of a network for node i is its 7 class scores, before the softmax; J_i is their Jacobian
by the node's own features, those of its neighbours held fixed. All models of a stack share the part
of the graph that the node depends on, so one backward pass per class serves them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flatness.datasets.normalised import Dataset
from flatness.measures._spectra import spectrum
from flatness.measures.ascent import Parameters
from flatness.measures.estimates import Estimate, mean

# The layers as trained: the same code must evaluate the weights.
from flatness.studies.epfl.gat import Receptive, attend, receptive

FIRST = "convs.0.lin.weight"


@dataclass(frozen=True)
class NodeRows:
    """Gradients of the N class scores of one node, for M models.

    Attributes:
        jacobian: by the node's own features, (N, M, words).
        parameters: by each parameter, name to (N, M, ...).
    """

    jacobian: Tensor
    parameters: Parameters


def node_rows(parameters: Parameters, graph: Receptive) -> NodeRows:
    """Backward rows of one node.

    Features enter only through H = X Wᵀ. So with G = ∂f/∂H, the Jacobian by the node's own features
    is G_own W, and the gradient by W is Gᵀ X: no backward pass down to the features is needed.

    Args:
        parameters: stacked, (M, ...).
        graph: the part on which the node's output depends; the node is its only output.

    Returns:
        The rows.
    """
    leaves = {name: values.detach().requires_grad_() for name, values in parameters.items()}
    first = leaves.pop(FIRST).detach()
    words = graph.words.to_dense()
    hidden = torch.einsum("nw,mcw->nmc", words, first).requires_grad_()
    scores = _scores(leaves, hidden, graph)
    units = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
    units = units.unsqueeze(1).expand(-1, *scores.shape)
    by_hidden, *rest = torch.autograd.grad(
        scores, [hidden, *leaves.values()], units, is_grads_batched=True
    )
    own = graph.hops[0].own[graph.hops[1].own]
    jacobian = torch.einsum("kmc,mcw->kmw", by_hidden[:, own].squeeze(1), first)
    rows = dict(zip(leaves, rest, strict=True))
    rows[FIRST] = torch.einsum("knmc,nw->kmcw", by_hidden, words)
    return NodeRows(jacobian, rows)


def _scores(parameters: Parameters, hidden: Tensor, graph: Receptive) -> Tensor:
    """Class scores (M, N) of the one output node, from H (inputs, M, 8)."""
    hidden = functional.elu(attend(parameters, "convs.0", hidden, graph.hops[0], None))
    hidden = torch.einsum("nmc,mkc->nmk", hidden, parameters["convs.1.lin.weight"])
    return attend(parameters, "convs.1", hidden, graph.hops[1], None).squeeze(0)


def measure_nodes(
    dataset: Dataset, nodes: Tensor, parameters: Parameters
) -> list[dict[str, Estimate]]:
    """Measures of the compression study on some nodes.

    Args:
        dataset: a graph.
        nodes: int64 (n,), the samples.
        parameters: of M models, stacked.

    Returns:
        One mapping a model, from the names of the quantities that are defined to estimates.
    """
    features, edges = dataset.tensors["inputs"], dataset.tensors["edge_index"]
    dtype = parameters[FIRST].dtype
    columns = [
        _of_node(node_rows(parameters, receptive(features, edges, node, dtype)), parameters)
        | {"input_squared": features[node].to(dtype).square().sum().expand(len(parameters[FIRST]))}
        for node in nodes.split(1)
    ]
    return [_estimates(columns, index) for index in range(len(parameters[FIRST]))]


def _of_node(rows: NodeRows, parameters: Parameters) -> dict[str, Tensor]:
    """Values of one node, each (M,)."""
    found = spectrum(rows.jacobian)
    squares = {name: values.square().sum(0) for name, values in rows.parameters.items()}
    shares = (found.values / found.values[:, :1]).square()
    top = torch.where(found.rank >= 3, found.values[:, :3].log().sum(1), -torch.inf)
    return {
        "mls": found.values[:, 0],
        "local_dimensionality": shares.sum(1).square() / shares.square().sum(1),
        "log_volume_top3": top,
        "sharpness": sum(s.flatten(1).sum(1) for s in squares.values()),
        "average_case_sharpness": sum(
            (s * parameters[name].square()).flatten(1).sum(1) / 2 for name, s in squares.items()
        ),
    }


def _estimates(columns: Sequence[dict[str, Tensor]], model: int) -> dict[str, Estimate]:
    """Means over nodes of one model's values."""
    own = {name: torch.stack([c[name][model] for c in columns]).cpu() for name in columns[0]}
    own["normalized_mls"] = own.pop("input_squared") * own["mls"].square()
    return {name: mean(values) for name, values in own.items()}
