import pytest
import torch
from torch.nn import functional
from torch_geometric.nn import GAT

from flatness.studies.epfl.gat import (
    DROPOUT,
    _dropout_masks,
    gat_log_probabilities,
    initial_gat,
    receptive,
)
from studies.epfl.small_pools import gat_parameters, graph

MODELS = 3


@pytest.fixture(scope="module")
def tensors():
    return graph().tensors


@pytest.fixture
def parameters():
    return gat_parameters(MODELS)


def pyg(parameters, index):
    model = GAT(30, 8, 2, 7, dropout=DROPOUT, act="elu").double()
    model.load_state_dict({name: values[index] for name, values in parameters.items()})
    return model


def features(tensors):
    return tensors["inputs"].double()


def test_every_model_of_the_stack_equals_pytorch_geometric(tensors, parameters):
    whole = receptive(
        tensors["inputs"], tensors["edge_index"], torch.arange(120), dtype=torch.float64
    )
    scores = gat_log_probabilities(parameters, whole)
    for index in range(MODELS):
        expected = pyg(parameters, index).eval()(features(tensors), tensors["edge_index"])
        assert torch.allclose(expected.log_softmax(-1), scores[:, index], rtol=1e-10, atol=1e-12)


def test_the_part_of_the_graph_gives_the_same_outputs_and_gradients(tensors, parameters):
    nodes = tensors["train_mask"].nonzero().squeeze(1).flip(0)[:6]
    part = receptive(tensors["inputs"], tensors["edge_index"], nodes, torch.float64)
    assert part.words.shape[0] < 120
    leaves = {name: values.clone().requires_grad_() for name, values in parameters.items()}
    scores = gat_log_probabilities(leaves, part)
    gradients = torch.autograd.grad(scores[..., 0].sum(), list(leaves.values()))
    for index in range(MODELS):
        model = pyg(parameters, index).eval()
        expected = model(features(tensors), tensors["edge_index"]).log_softmax(-1)[nodes]
        assert torch.allclose(expected, scores[:, index], rtol=1e-10, atol=1e-12)
        own = dict(model.named_parameters())
        expected_gradients = torch.autograd.grad(
            expected[:, 0].sum(), [own[name] for name in parameters]
        )
        for one, other in zip(expected_gradients, gradients, strict=True):
            assert torch.allclose(one, other[index], rtol=1e-9, atol=1e-12)


def test_with_its_dropout_masks_pytorch_geometric_is_equal_in_train_mode(
    tensors, parameters, monkeypatch
):
    edges, nodes = tensors["edge_index"], torch.arange(120)
    whole = receptive(tensors["inputs"], edges, nodes, torch.float64)

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in range(MODELS)]

    first, hidden, second = _dropout_masks(whole.hops, generators(), features(tensors))
    scores = gat_log_probabilities(parameters, whole, generators())
    target = torch.cat([edges[1][edges[0] != edges[1]], nodes])
    order = torch.argsort(target, stable=True)
    for index in range(MODELS):
        masks = iter(
            [
                torch.empty(len(order), 1).double().index_copy_(0, order, first[:, index, None]),
                hidden[:, index],
                torch.empty(len(order), 1).double().index_copy_(0, order, second[:, index, None]),
            ]
        )
        with monkeypatch.context() as patch:
            patch.setattr(functional, "dropout", lambda values, *_, m=masks, **__: values * next(m))
            expected = pyg(parameters, index).train()(features(tensors), edges)
        assert torch.allclose(expected.log_softmax(-1), scores[:, index], rtol=1e-10, atol=1e-12)


def test_dropout_keeps_its_share_and_the_mean(tensors):
    nodes = torch.arange(120)
    whole = receptive(tensors["inputs"], tensors["edge_index"], nodes, torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
    for mask in _dropout_masks(whole.hops, generators, features(tensors)):
        assert set(mask.unique().tolist()) == {0.0, 1 / (1 - DROPOUT)}
        spread = (DROPOUT / (1 - DROPOUT) / mask.numel()) ** 0.5
        assert abs(mask.mean() - 1) < 5 * spread


def test_weights_are_drawn_like_pytorch_geometrics():
    drawn = initial_gat(300, 7, torch.Generator().manual_seed(0))
    reference = GAT(300, 8, 2, 7).state_dict()
    assert drawn.keys() == reference.keys()
    for name, values in drawn.items():
        assert values.shape == reference[name].shape
        if "bias" in name:
            assert values.abs().max() == 0
        else:
            bound = (6 / sum(values.shape[-2:])) ** 0.5
            assert values.abs().max() <= bound and reference[name].abs().max() <= bound
    assert drawn["convs.0.lin.weight"].abs().max() > 0.99 * (6 / 308) ** 0.5
