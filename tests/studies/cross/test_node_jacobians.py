"""Jacobians at a node against one `autograd.grad` per class, node and model, in float64."""

import math

import pytest
import torch
from torch_geometric.nn import GAT

from flatness.studies.cross.node_jacobians import measure_nodes
from studies.epfl.small_pools import gat_parameters, graph

MODELS = 2


@pytest.fixture(scope="module")
def dataset():
    return graph()


@pytest.fixture(scope="module")
def parameters():
    return gat_parameters(MODELS)


def literal(dataset, nodes, parameters, index):
    """Every quantity by its definition, from PyG's own module, in evaluation mode."""
    model = GAT(30, 8, 2, 7, dropout=0.6, act="elu").double().eval()
    model.load_state_dict({name: values[index] for name, values in parameters.items()})
    weights = list(model.parameters())
    found = {}
    for node in nodes.tolist():
        features = dataset.tensors["inputs"].double().requires_grad_()
        scores = model(features, dataset.tensors["edge_index"])[node]
        rows = [torch.autograd.grad(f, [features, *weights], retain_graph=True) for f in scores]
        J = torch.stack([row[0][node] for row in rows])
        C = J @ J.T
        values = torch.linalg.svdvals(J)
        own = {
            "mls": values[0],
            "local_dimensionality": torch.trace(C) ** 2 / torch.trace(C @ C),
            "log_volume_top3": values[:3].prod().log(),
            "normalized_mls": features[node].square().sum() * values[0] ** 2,
            "sharpness": sum(g.square().sum() for row in rows for g in row[1:]),
            "average_case_sharpness": sum(
                (w * g).square().sum() / 2
                for row in rows
                for w, g in zip(weights, row[1:], strict=True)
            ),
        }
        for name, value in own.items():
            found.setdefault(name, []).append(float(value.detach()))
    return found


def test_every_quantity_equals_its_definition_for_each_model_of_the_stack(dataset, parameters):
    nodes = dataset.tensors["train_mask"].nonzero().squeeze(1)[:3]
    measured = measure_nodes(dataset, nodes, parameters)
    assert len(measured) == MODELS
    for index in range(MODELS):
        expected = literal(dataset, nodes, parameters, index)
        assert set(measured[index]) == set(expected)
        for name, values in expected.items():
            column = torch.tensor(values, dtype=torch.float64)
            estimate = measured[index][name]
            assert estimate.value == pytest.approx(float(column.mean()), rel=1e-9), name
            error = float(column.std() / math.sqrt(len(values)))
            assert estimate.standard_error == pytest.approx(error, rel=1e-6), name


def test_neighbours_features_do_not_enter_the_jacobian(dataset, parameters):
    """A node is its own neighbour by its self-loop only, so its own features are few among many."""
    node = dataset.tensors["train_mask"].nonzero().squeeze(1)[:1]
    alone = measure_nodes(dataset, node, parameters)[0]["mls"].value
    features = dataset.tensors["inputs"].double().requires_grad_()
    model = GAT(30, 8, 2, 7, act="elu").double().eval()
    model.load_state_dict({name: values[0] for name, values in parameters.items()})
    scores = model(features, dataset.tensors["edge_index"])[node.item()]
    rows = [torch.autograd.grad(f, features, retain_graph=True)[0] for f in scores]
    whole = torch.linalg.svdvals(torch.stack(rows).flatten(1))[0]
    assert alone < 0.9 * float(whole)
